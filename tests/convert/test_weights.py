"""Networks to and from PyTorch state dicts, ONNX graphs, safetensors and compiled programs."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx

from arcface_jax.convert import (
    export_jax,
    export_onnx,
    from_state_dict,
    load,
    load_jax,
    load_onnx,
    load_torch,
    save,
    save_torch,
    to_state_dict,
    usual_inputs,
)
from arcface_jax.convert.load_any import kind_of
from arcface_jax.convert.recognize import name_of, recognize
from arcface_jax.convert.state_dict_names import entries
from arcface_jax.embedder import Embedder
from arcface_jax.evaluation import listed_impostor_scores
from arcface_jax.models import (
    MODELS,
    IResNetConfig,
    MobileFaceNet128dConfig,
    MobileFaceNetConfig,
    Preprocessing,
    ViTConfig,
)

TORCH = "weights/mobilefacenet_foamliu/mobilefacenet.pt"
ONNX = "weights/mobilefacenet_foamliu/MobileFaceNet.onnx"
# Evaluation-mode outputs of the public weights in float64; inputs after normalisation.
GOLDEN = (
    [-1.04004, 0.05375, 0.06409, -0.18486, -0.17661, 1.28985, -0.94528, -0.52943],
    [-1.02103, 0.45313, -0.00251, 0.06401, -0.32786, 0.79482, -0.89662, -1.43398],
    [-0.17501, -0.96483, 0.10673, -1.03291, 0.32561, 1.42776, 0.49872, 1.02393],
)

CONFIGS = {
    "iresnet": IResNetConfig(depths=(1, 2), widths=(4, 8), embedding_dim=8, image_size=12),
    "mobilefacenet": MobileFaceNetConfig(
        blocks=(1, 1, 1, 1), scale=1, embedding_dim=8, image_size=16
    ),
    "mobilefacenet_two": MobileFaceNetConfig(
        blocks=(2, 1, 1, 1), scale=1, embedding_dim=8, image_size=16
    ),
    "mobilefacenet_128d": MobileFaceNet128dConfig(embedding_dim=8, image_size=16),
    "vit": ViTConfig(width=16, depth=1, heads=8, embedding_dim=8, image_size=18),
}
CONVOLUTIONAL = [name for name in CONFIGS if name != "vit"]


def trained(config, rng):
    """A network none of whose numbers are at their start."""
    net = config.build(rngs=nnx.Rngs(0))

    def moved(path, variable):
        noise = jnp.asarray(rng.uniform(0.5, 1.5, variable.shape), jnp.float32)
        return variable.replace(noise if path[-1] == "var" else variable[...] + 0.1 * noise)

    state = nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat)))
    nnx.update(net, nnx.from_flat_state([(path, moved(path, leaf)) for path, leaf in state]))
    return net


def images_of(config, rng, count=3):
    side = config.image_size
    return np.float32(rng.uniform(-1, 1, (count, side, side, config.channels)))


def embed(net, images):
    fixed = nnx.view(net, use_running_average=True, deterministic=True)
    return np.asarray(nnx.jit(lambda net, images: net(images))(fixed, jnp.asarray(images)))


def assert_same(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pytorch_file_gives_the_network_back(name, rng, tmp_path):
    net = trained(CONFIGS[name], rng)
    images = images_of(net.config, rng)
    save_torch(net, tmp_path / "net.pt")
    again = load_torch(tmp_path / "net.pt")
    sizes = {f: getattr(net.config, f) for f in ("image_size", "embedding_dim")}
    assert dataclasses.replace(again.config, **sizes) == net.config
    np.testing.assert_array_equal(embed(again, images), embed(net, images))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet_small"])
def test_registered_networks_are_recognised_by_shapes_alone(name):
    config = dataclasses.replace(MODELS[name])
    net = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    state = dict(nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat))))
    shapes = {}
    for entry in entries(config):
        if entry.path is not None:
            like = jax.ShapeDtypeStruct(state[entry.path].shape, jnp.float32)
            shape = jax.eval_shape(entry.to_torch, like).shape
            shapes[entry.key] = np.broadcast_to(np.float32(1.0), shape)
        else:
            shapes[entry.key] = np.ones(entry.channels)
    found = recognize(shapes)
    assert name_of(found) == name
    assert found.image_size == 112 and found.embedding_dim == config.embedding_dim


def test_prefixes_and_whole_checkpoints_are_read(rng, tmp_path):
    from arcface_jax.convert.torch_file import write_torch_file

    net = trained(CONFIGS["iresnet"], rng)
    prefixed = {f"module.{key}": value for key, value in to_state_dict(net).items()}
    write_torch_file(tmp_path / "net.pt", prefixed)
    images = images_of(net.config, rng)
    np.testing.assert_array_equal(
        embed(load_torch(tmp_path / "net.pt"), images), embed(net, images)
    )


def test_names_and_shapes_that_do_not_match_are_listed_on_both_sides(rng):
    arrays = to_state_dict(trained(CONFIGS["iresnet"], rng))
    del arrays["bn1.bias"], arrays["fc.bias"]
    arrays |= {"head.weight": np.ones(3), "conv1.weight": np.ones((4, 1, 3, 3), np.float32)}
    with pytest.raises(ValueError) as error:
        from_state_dict(arrays, model=CONFIGS["iresnet"], source="net.pt")
    assert str(error.value) == (
        "net.pt does not fit the model: the file lacks bn1.bias, fc.bias; the model lacks "
        "head.weight; shapes differ: conv1.weight [4, 1, 3, 3], the model's [4, 3, 3, 3]."
    )


def test_a_frozen_gamma_must_be_one_or_the_model_must_train_it(rng):
    config = CONFIGS["iresnet"]
    arrays = to_state_dict(trained(config, rng))
    arrays["features.weight"] = np.float32([1, 1, 1, 1, 1, 1, 1, 2])
    with pytest.raises(ValueError, match="output_gamma=True"):
        from_state_dict(arrays, model=config)
    found = from_state_dict(arrays)
    assert found.config.output_gamma
    assert found.features.scale[...].tolist() == arrays["features.weight"].tolist()


def test_a_head_in_another_order_is_another_network(rng):
    net = trained(CONFIGS["iresnet"], rng)
    arrays = to_state_dict(net)
    width, side = 8, net.config.final_size
    rows = arrays["fc.weight"].reshape(8, width, side, side)
    arrays["fc.weight"] = np.ascontiguousarray(rows.transpose(0, 2, 3, 1)).reshape(8, -1)
    images = images_of(net.config, rng)
    with pytest.raises(AssertionError):
        assert_same(embed(from_state_dict(arrays), images), embed(net, images), 1e-2)


def test_the_public_weights_give_their_golden_vectors(data_dir):
    rows, columns = np.arange(112)[:, None], np.arange(112)[None]
    wave = np.sin(0.01 * (112 * rows + columns)[..., None] + np.arange(3))
    images = np.float32([np.zeros((112, 112, 3)), np.ones((112, 112, 3)), wave])
    for net in (load_torch(data_dir / TORCH), load_onnx(data_dir / ONNX)):
        got = embed(net, images)
        np.testing.assert_allclose(got[:, :8], GOLDEN, atol=1e-4)
        lengths = np.linalg.norm(got, axis=1)
        np.testing.assert_allclose(lengths, [7.87027, 8.20402, 9.08317], atol=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_onnx_gives_the_same_embeddings_in_onnxruntime_and_back(name, rng, tmp_path):
    net = trained(CONFIGS[name], rng)
    path = tmp_path / "net.onnx"
    export_onnx(net, path)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 3):
        images = images_of(net.config, rng, count)
        (got,) = session.run(None, {"images": images.transpose(0, 3, 1, 2)})
        assert_same(got, embed(net, images))
    assert_same(embed(load_onnx(path, model=net.config), images), embed(net, images))


def test_the_onnx_graph_can_take_bytes(rng, tmp_path):
    net = trained(CONFIGS["mobilefacenet_128d"], rng)
    contract = dataclasses.replace(
        usual_inputs(net.config), colors="BGR", mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0)
    )
    path = tmp_path / "net.onnx"
    export_onnx(net, path, preprocessing=contract, from_bytes=True)
    images = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    (got,) = onnxruntime.InferenceSession(path).run(None, {"images": images})
    assert_same(got, Embedder(net, preprocessing=contract)(images))
    loaded = load(path, model=net.config)
    assert loaded.preprocessing == contract
    assert_same(got, loaded(images))
    with pytest.raises(ValueError, match="needs preprocessing="):
        export_onnx(net, path, from_bytes=True)


def test_a_graph_of_bytes_that_states_no_preprocessing_is_refused(rng, tmp_path):
    net = trained(CONFIGS["mobilefacenet_128d"], rng)
    path = tmp_path / "net.onnx"
    export_onnx(net, path, preprocessing=usual_inputs(net.config), from_bytes=True)
    graph = onnx.load(path)
    del graph.metadata_props[:]
    onnx.save(graph, path)
    with pytest.raises(ValueError, match="takes bytes and does not state"):
        load_onnx(path, model=net.config)


def test_onnx_of_another_network_names_what_differs(rng, tmp_path):
    export_onnx(trained(CONFIGS["iresnet"], rng), tmp_path / "net.onnx")
    with pytest.raises(
        ValueError, match=r"net\.onnx does not fit the model: Conv conv_0 has strides"
    ):
        load_onnx(tmp_path / "net.onnx", model=CONFIGS["mobilefacenet_128d"])
    with pytest.raises(ValueError, match="ViT cannot be written as an ONNX graph"):
        export_onnx(trained(CONFIGS["vit"], rng), tmp_path / "vit.onnx")
    assert not (tmp_path / "vit.onnx").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_weight_file_holds_network_contract_and_scores(name, rng, tmp_path):
    net = trained(dataclasses.replace(CONFIGS[name], dtype=jnp.bfloat16), rng)
    contract = dataclasses.replace(usual_inputs(net.config), flip="add")
    scores = listed_impostor_scores([0.1, -0.2], source="two pairs")
    images = rng.integers(0, 256, (2, net.config.image_size, net.config.image_size, 3), np.uint8)
    path = tmp_path / "net.safetensors"
    embedder = Embedder(net, preprocessing=contract, impostors=scores)
    save(embedder, path)
    again = load(path)
    assert again.model.config == net.config and again.preprocessing == contract
    assert again.impostors.source == "two pairs" and again.impostors.far(0.0) == 0.5
    np.testing.assert_array_equal(again(images), embedder(images))
    with pytest.raises(ValueError, match="another contract gives other numbers"):
        load(path, preprocessing=usual_inputs(net.config))


def test_an_onnx_graph_with_its_contract_takes_no_other(rng, tmp_path):
    net = trained(CONFIGS["mobilefacenet_128d"], rng)
    embedder = Embedder(net, preprocessing=usual_inputs(net.config))
    path = tmp_path / "net.onnx"
    export_onnx(net, path, preprocessing=embedder.preprocessing)
    assert load(path).preprocessing == embedder.preprocessing
    with pytest.raises(ValueError, match="another contract gives other numbers"):
        load(path, preprocessing=Preprocessing(size=16))


def test_files_of_no_known_kind_are_refused(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"hello, world")
    with pytest.raises(ValueError, match="neither safetensors, nor a PyTorch file, nor an ONNX"):
        load(path)
    with pytest.raises(FileNotFoundError, match="no weight file"):
        load(tmp_path / "y.bin")
    path.write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(ValueError, match="not a weight file of this library"):
        load(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_older_pytorch_files_are_told_by_any_protocol_of_their_pickle(protocol, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol) + b"cut")
    assert kind_of(path) == "torch"


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x08])
def test_safetensors_are_told_whatever_byte_their_length_begins_with(length, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little") + b"{}".ljust(length))
    assert kind_of(path) == "safetensors"


def test_a_compiled_program_takes_any_number_of_images(rng, tmp_path):
    net = trained(CONFIGS["mobilefacenet_128d"], rng)
    embedder = Embedder(net, preprocessing=usual_inputs(net.config))
    export_jax(embedder, tmp_path / "net.jax", platforms=("cpu", "cuda", "tpu"))
    program = load_jax(tmp_path / "net.jax")
    for count in (1, 3):
        images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
        assert_same(np.asarray(program(images)), embedder(images))
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ValueError, match="no exported program"):
        load_jax(tmp_path / "x")


def test_the_contract_is_enforced(rng):
    net = trained(CONFIGS["mobilefacenet_128d"], rng)
    with pytest.raises(ValueError, match="takes 16 px with 3 channels, and its preprocessing"):
        Embedder(net, preprocessing=Preprocessing(size=18))
    embedder = Embedder(net, preprocessing=usual_inputs(net.config))
    with pytest.raises(ValueError, match="align the originals to that size by their landmarks"):
        embedder(np.zeros((1, 18, 18, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8 in 0..255 or normalised floats, got int64"):
        embedder(np.zeros((1, 16, 16, 3), np.int64))
    assert embedder(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 8)
