"""Files of torch.save: read, written, and refused where they hold more than data."""

import collections
import math
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from arcface_jax.convert.torch_file import read_torch_file, write_torch_file

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


# What a file may hold, written opcode by opcode: pickle itself writes no global that it cannot
# import.
Global = collections.namedtuple("Global", "name")
Call = collections.namedtuple("Call", "name arguments")
Persistent = collections.namedtuple("Persistent", "identity")
Attributes = collections.namedtuple("Attributes", "of state")
Raw = collections.namedtuple("Raw", "opcodes")


def opcodes(value):
    match value:
        case Raw(found):
            return found
        case Global(name):
            module, _, attribute = name.rpartition(".")
            return f"c{module}\n{attribute}\n".encode()
        case Call(name, arguments):
            called = opcodes(Global(name) if isinstance(name, str) else name)
            return called + opcodes(arguments) + b"R"
        case Persistent(identity):
            return opcodes(identity) + b"Q"
        case Attributes(of, state):
            return opcodes(of) + opcodes(state) + b"b"
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(x) for item in value.items() for x in item) + b"u"
        case _:
            # Without PROTO and STOP.
            return pickle.dumps(value, 2)[2:-1]


def pickled(value):
    return b"\x80\x02" + opcodes(value) + b"."


def storage(count=4, *, key="0", kind="FloatStorage", device="cpu"):
    return Persistent(("storage", Global(f"torch.{kind}"), key, device, count))


NO_HOOKS = Call("collections.OrderedDict", ())


def tensor(of=None, size=(4,), strides=(1,), offset=0, *rest):
    made = (storage() if of is None else of, offset, size, strides, False, NO_HOOKS, *rest)
    return Call("torch._utils._rebuild_tensor_v2", made)


FOUR = {"0": np.arange(4, dtype=np.float32)}


def legacy(path, stored, data, *, keys=None, count=None, protocol=1001):
    """Writes the older container around a pickle."""
    parts = [pickle.dumps(head, 2) for head in (MAGIC, protocol, {"little_endian": True})]
    parts += [stored, pickle.dumps(list(data) if keys is None else keys, 2)]
    for array in data.values():
        array = np.asarray(array)
        parts += [struct.pack("<q", array.size if count is None else count), array.tobytes()]
    path.write_bytes(b"".join(parts))


def archive(path, stored, data, *, byteorder="little", compression=zipfile.ZIP_STORED, **entries):
    """Writes the ZIP container around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("m/data.pkl", stored)
        if byteorder:
            file.writestr("m/byteorder", byteorder)
        for key, array in data.items():
            file.writestr(f"m/data/{key}", np.asarray(array).tobytes())
        for name, content in entries.items():
            file.writestr(f"m/{name.replace('__', '/')}", content)


CONTAINERS = {"legacy": legacy, "zip": archive}


@pytest.fixture(params=CONTAINERS)
def container(request):
    return CONTAINERS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def read_through(container, path, value, data=FOUR):
    container(path, pickled(value), data)
    return read_torch_file(path)


def assert_equal(got, wanted):
    """Same structure, types, dtypes and bits."""
    assert type(got) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        assert got.flags.c_contiguous and got.flags.writeable and got.flags.owndata
        assert got.tobytes() == wanted.tobytes()
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted)
        assert_equal(list(got.values()), list(wanted.values()))
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for pair in zip(got, wanted, strict=True):
            assert_equal(*pair)
    else:
        assert got == wanted


def test_real_weights_are_read(data_dir):
    file = data_dir / "weights" / "mobilefacenet_foamliu" / "mobilefacenet.pt"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    weights = read_torch_file(file)
    assert type(weights) is collections.OrderedDict and len(weights) == 307
    assert sum(array.size for array in weights.values()) == 1_019_699
    running = {name for name in weights if name.endswith(("running_mean", "running_var"))}
    batches = {name for name in weights if name.endswith("num_batches_tracked")}
    learned = weights.keys() - running - batches
    assert sum(weights[name].size for name in learned) == 999_936
    assert sum(weights[name].size for name in running) == 19_712
    assert len(batches) == 51
    assert all(weights[name].dtype == np.int64 and weights[name] == 297_260 for name in batches)
    assert weights["conv3.weight"].shape == (128, 512, 1, 1)
    assert all(np.isfinite(weights[name]).all() for name in learned)
    assert all((weights[name] > 0).all() for name in running if name.endswith("var"))


def test_containers_and_plain_values_keep_their_types(container, path):
    plain = {
        "epoch": 3,
        "list": [1, 2.5, None, True, [], "é"],
        "tuple": ((), (1,), (1, 2), (1, 2, 3, 4)),
        "large": [2**31, -(2**31), 2**70, -1],
        1: {None: {}},
        0.5: collections.OrderedDict([("b", 1), ("a", 2)]),
    }
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        container(path, pickle.dumps(plain, protocol), {})
        assert_equal(read_torch_file(path), plain)


@pytest.mark.parametrize("kind", DTYPES)
def test_every_dtype_is_read(container, path, kind):
    values = np.array([0, 1, 1, 0, 1, 1]).astype(DTYPES[kind])
    of = storage(6, kind=kind)
    got = read_through(container, path, [tensor(of, (3,), (2,), 1)], {"0": values})
    assert_equal(got, [values[1::2].copy()])


@pytest.mark.parametrize(
    "size, strides, offset",
    [
        ((2, 3, 4), (12, 4, 1), 0),
        ((4, 3, 2), (1, 4, 12), 0),
        ((2, 2), (12, 2), 5),
        ((3, 4), (0, 1), 2),
        ((), (), 23),
        ((1, 1), (2**62, 2**62), 3),
        ((0, 3), (3, 1), 0),
        ((2, 0), (1, 1), 24),
        ((5,), (2,), 15),
    ],
    ids=str,
)
def test_views_are_applied(container, path, size, strides, offset):
    values = np.arange(24, dtype=np.float32)
    got = read_through(container, path, tensor(storage(24), size, strides, offset), {"0": values})
    places = [
        offset + sum(i * step for i, step in zip(index, strides, strict=True))
        for index in np.ndindex(size)
    ]
    assert_equal(got, values[np.array(places, int)].reshape(size))


def test_tensors_of_one_storage_are_copies(container, path):
    first, second, again = read_through(
        container, path, [tensor(), tensor(storage(), (2, 2), (1, 2)), tensor()]
    )
    first += 10.0
    np.testing.assert_array_equal(second, [[0, 2], [1, 3]])
    np.testing.assert_array_equal(again, FOUR["0"])


def test_one_tensor_in_two_places_is_one_array(container, path):
    # BINPUT, BINGET.
    twice = Raw(b"](" + opcodes(tensor()) + b"q\x07h\x07e")
    first, second = read_through(container, path, twice)
    assert first is second
    assert_equal(first, FOUR["0"])


def test_empty_storages_are_read(container, path):
    empty = {"0": np.zeros(0, np.float32)}
    got = read_through(container, path, [tensor(storage(0), (0,), (1,))], empty)
    assert_equal(got, [empty["0"]])


def test_parameters_are_their_tensors(container, path):
    value = [
        Call("torch._utils._rebuild_parameter", (tensor(), True, NO_HOOKS)),
        Call("torch._utils._rebuild_parameter_with_state", (tensor(), True, NO_HOOKS, {"a": 1})),
        Call("torch.Size", ((2, 3),)),
    ]
    assert_equal(read_through(container, path, value), [FOUR["0"], FOUR["0"], (2, 3)])


def test_metadata_of_a_state_dict_is_dropped(container, path):
    items = opcodes(Call("collections.OrderedDict", ())) + b"(" + opcodes("w") + opcodes(tensor())
    metadata = {"_metadata": Call("collections.OrderedDict", ())}
    got = read_through(container, path, Attributes(Raw(items + b"u"), metadata))
    assert_equal(got, collections.OrderedDict(w=FOUR["0"]))
    assert not vars(got)


def test_python_2_files_are_read(container, path):
    # Its str is SHORT_BINSTRING, its OrderedDict is called with the items.
    word = Raw(b"U\x01w")
    got = read_through(container, path, Call("collections.OrderedDict", ([[word, tensor()]],)))
    assert_equal(got, collections.OrderedDict(w=FOUR["0"]))


def test_the_device_is_of_no_interest(container, path):
    got = read_through(container, path, tensor(storage(device="cuda:7")))
    assert_equal(got, FOUR["0"])


@pytest.mark.parametrize("kind", ["FloatStorage", "BFloat16Storage", "ByteStorage", "LongStorage"])
def test_big_endian_archives_are_read(path, kind):
    values = np.arange(4).astype(DTYPES[kind])
    swapped = values.view(f"u{values.itemsize}").byteswap()
    archive(path, pickled(tensor(storage(kind=kind))), {"0": swapped}, byteorder="big")
    assert_equal(read_torch_file(path), values)


def test_archives_without_byte_order_are_little_endian(path):
    archive(path, pickled(tensor()), FOUR, byteorder=None)
    assert_equal(read_torch_file(path), FOUR["0"])


def test_a_missing_file_is_not_found(path):
    with pytest.raises(FileNotFoundError):
        read_torch_file(path)


class Executes:
    """Pickles as a call of what it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def by_pickle(protocol):
    """A call of open(canary, "w"), as pickle writes it."""
    return lambda canary: pickle.dumps({"w": Executes(open, canary, "w")}, protocol)


# {name: what makes a pickle that would make the file ``canary``}.
CODE = {
    **{f"protocol {k}": by_pickle(k) for k in range(pickle.HIGHEST_PROTOCOL + 1)},
    "os.system": lambda canary: pickled(Call("os.system", (f"touch {canary}",))),
    "posix.system": lambda canary: pickled(Call("posix.system", (f"touch {canary}",))),
    "eval": lambda canary: pickled(Call("builtins.eval", (f"open({canary!r}, 'w')",))),
    "eval of Python 2": lambda canary: pickled(Call("__builtin__.eval", (f"open({canary!r})",))),
    "getattr of an import": lambda canary: pickled(
        Call(
            Call("builtins.getattr", (Call("builtins.__import__", ("os",)), "system")),
            (f"touch {canary}",),
        )
    ),
    "STACK_GLOBAL": lambda canary: (
        b"\x80\x04\x8c\x08builtins\x8c\x04open\x93" + opcodes((canary, "w")) + b"R."
    ),
    "STACK_GLOBAL of an attribute": lambda canary: (
        b"\x80\x04\x8c\x05torch\x8c\x0f_utils.sys.exit\x93" + opcodes((canary,)) + b"R."
    ),
    "INST": lambda canary: b"\x80\x02(" + opcodes(canary) + opcodes("w") + b"ibuiltins\nopen\n.",
    "OBJ": lambda canary: b"\x80\x02(cbuiltins\nopen\n" + opcodes(canary) + opcodes("w") + b"o.",
    "NEWOBJ": lambda canary: b"\x80\x02cio\nFileIO\n" + opcodes((canary, "w")) + b"\x81.",
    "NEWOBJ_EX": lambda canary: b"\x80\x04cio\nFileIO\n" + opcodes((canary, "w")) + b"}\x92.",
    "extension": lambda canary: b"\x80\x02\x82\x01" + opcodes((canary,)) + b"R.",
    "persistent id in text": lambda canary: b"\x80\x02P" + canary.encode() + b"\n.",
    "torch.hub": lambda canary: pickled(Call("torch.hub.load", ("a/b", "c"))),
    "torch.load": lambda canary: pickled(Call("torch.load", (canary,))),
    "torch.serialization": lambda canary: pickled(Call("torch.serialization.load", (canary,))),
    "torch._utils": lambda canary: pickled(
        Call("torch._utils._import_dotted_name", ("os.system",))
    ),
    "numpy": lambda canary: pickled(Call("numpy.load", (canary,))),
    "a module": lambda canary: pickled(Attributes(Call("torch.nn.Linear", ()), {})),
    "another OrderedDict": lambda canary: pickled(Call("collections.OrderedDict.fromkeys", ("a",))),
    "a bare name": lambda canary: pickled(Global("os.system")),
    "a name alone": lambda canary: pickled([Global("collections.OrderedDict")]),
    "a name in a tuple": lambda canary: pickled([((Global("collections.OrderedDict"),),)]),
    "a name as a value": lambda canary: pickled({"a": Global("torch.FloatStorage")}),
    "the object itself": lambda canary: pickled(Global("torch.FloatStorage")),
    "a call of a storage": lambda canary: pickled(Call("torch.FloatStorage", (4,))),
    "a call of a str": lambda canary: pickled(Call(Raw(opcodes("os.system")), (canary,))),
    "a call of a tensor": lambda canary: pickled(Call(tensor(), (canary,))),
    "a call without tuple": lambda canary: pickled(
        Call("collections.OrderedDict", Raw(opcodes(["a"])))
    ),
    "attributes of a function": lambda canary: pickled(
        Attributes(Global("torch._utils._rebuild_tensor_v2"), (None, {"__defaults__": ()}))
    ),
    "attributes of a class": lambda canary: pickled(
        Attributes(Global("collections.OrderedDict"), {"__init__": 1})
    ),
    "attributes of a tensor": lambda canary: pickled(Attributes(tensor(), {"data": 1})),
    "items of a tensor": lambda canary: pickled(
        Raw(opcodes(tensor()) + b"(" + opcodes(0) * 2 + b"u")
    ),
    "more of a tensor": lambda canary: pickled(Raw(opcodes(tensor()) + opcodes(0) + b"a")),
    "bytes": lambda canary: b"\x80\x03C\x01a.",
    "a set": lambda canary: b"\x80\x04\x8f.",
}
# What the message has to name.
TOLD = {
    "os.system": "os.system",
    "posix.system": "posix.system",
    "eval": "builtins.eval",
    "STACK_GLOBAL": "builtins.open",
    "STACK_GLOBAL of an attribute": "torch._utils.sys.exit",
    "INST": "INST",
    "OBJ": "builtins.open",
    "NEWOBJ": "io.FileIO",
    "torch.hub": "torch.hub.load",
    "numpy": "numpy.load",
    "a module": "torch.nn.Linear",
}


def test_the_canary_sings_where_pickle_is_used(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(CODE["protocol 2"](str(canary)))["w"].close()
    assert canary.exists()


@pytest.mark.parametrize("name", CODE)
def test_code_is_refused_and_not_executed(container, path, tmp_path, name):
    canary = tmp_path / "canary"
    container(path, CODE[name](str(canary)), FOUR)
    with pytest.raises(ValueError, match="model.pt: .*a file with code is not read") as error:
        read_torch_file(path)
    assert TOLD.get(name, "") in str(error.value)
    assert "torch.save(model.state_dict(), path)" in str(error.value)
    assert not canary.exists()


@pytest.mark.parametrize("place", range(4))
def test_code_beside_the_object_is_refused(path, tmp_path, place):
    canary = tmp_path / "canary"
    parts = [pickle.dumps(head, 2) for head in (MAGIC, 1001, {})] + [pickled({}), pickled([])]
    parts[place if place < 3 else 4] = CODE["protocol 2"](str(canary))
    path.write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match="io.open|_io.open"):
        read_torch_file(path)
    assert not canary.exists()


def test_nothing_of_the_library_is_changed_by_a_file(container, path):
    for target in ("torch._utils._rebuild_tensor_v2", "collections.OrderedDict"):
        container(path, pickled(Attributes(Global(target), {"mark": 1})), {})
        with pytest.raises(ValueError, match="as if it were an? OrderedDict"):
            read_torch_file(path)
    assert not hasattr(collections.OrderedDict, "mark")


V2 = "torch._utils._rebuild_tensor_v2"
BAD_TENSORS = {
    "no arguments": (Call(V2, ()), "is not made of storage"),
    "a list of arguments": (Call(V2, (storage(), 0, [4], (1,), False, NO_HOOKS)), "not made of"),
    "no storage": (Call(V2, ("0", 0, (4,), (1,), False, NO_HOOKS)), "not made of storage"),
    "a tensor as storage": (tensor(tensor()), "not made of storage"),
    "too long": (tensor(size=(5,)), r"shape \[5\].* reaches element 4 of storage '0'.* has 4"),
    "too far": (tensor(size=(2,), strides=(4,)), "reaches element 4"),
    "offset too far": (tensor(size=(), strides=(), offset=4), "reaches element 4"),
    "huge": (tensor(size=(2**40,)), "reaches element"),
    "overflowing": (tensor(size=(2**32, 2**32), strides=(2**32, 1)), "reaches element"),
    "huge strides": (tensor(size=(3,), strides=(2**62,)), "reaches element"),
    "more than 64 bits": (tensor(size=(2**64,)), "no whole numbers"),
    "negative offset": (tensor(offset=-1), "no whole numbers"),
    "negative size": (tensor(size=(-4,)), "no whole numbers"),
    "negative stride": (tensor(size=(2,), strides=(-1,), offset=3), "no whole numbers"),
    "float size": (tensor(size=(4.0,)), "no whole numbers"),
    "array as offset": (tensor(offset=tensor()), "no whole numbers"),
    "strides missing": (tensor(strides=()), "no whole numbers"),
    "too many axes": (tensor(size=(1,) * 65, strides=(1,) * 65), "65"),
    "empty but huge": (tensor(size=(0, 2**62), strides=(1, 1)), ""),
    "repeated without end": (tensor(size=(2**40,), strides=(0,)), "repeat the elements"),
    "many repeated": (
        [tensor(size=(2**24,), strides=(0,)) for _ in range(5)],
        "repeat the elements",
    ),
    "negated view": (tensor(None, (4,), (1,), 0, {"neg": True}), "negated"),
    "metadata of another kind": (tensor(None, (4,), (1,), 0, tensor()), "negated"),
    "parameter of nothing": (Call("torch._utils._rebuild_parameter", (1, True, {})), "Parameter"),
    "size of text": (Call("torch.Size", (("a",),)), "torch.Size"),
    "OrderedDict of numbers": (Call("collections.OrderedDict", ([1, 2],)), "OrderedDict"),
    "storage as an object": ([storage()], "a storage"),
    "tuple as a key": (Raw(b"}" + opcodes((1,)) + b"Ns"), "a key of a dict is a tuple"),
    "tensor as a key": (Raw(b"}" + opcodes(tensor()) + b"Ns"), "a key of a dict is a ndarray"),
    "tensor as persistent id": (Persistent(tensor(size=(), strides=())), "persistent id"),
    "text as persistent id": (Persistent("0"), "persistent id"),
    "short persistent id": (Persistent(("storage",)), "persistent id"),
    "module as persistent id": (
        Persistent(("module", Global("torch.FloatStorage"), "a.py", "")),
        "persistent id",
    ),
    "no name of a storage": (
        Persistent(("storage", "FloatStorage", "0", "cpu", 4)),
        "persistent id",
    ),
    "another name": (
        Persistent(("storage", Global("collections.OrderedDict"), "0", "cpu", 4)),
        "persistent id",
    ),
    "number as key": (storage(key=0), "persistent id"),
    "text as count": (storage("4"), "persistent id"),
    "storage in a storage": (
        Persistent(("storage", Global("torch.FloatStorage"), "0", "cpu", 4, ("1", 0, 4))),
        "part of another",
    ),
    "negative count": (tensor(storage(-1)), "claims -1 elements"),
    "count beyond the file": (tensor(storage(2**60)), "claims 1152921504606846976 elements"),
    "count of too many digits": (tensor(storage(2**20000)), ""),
    "two counts": ([tensor(), tensor(storage(3), (3,))], "has 4 elements .* elsewhere 3"),
    "two dtypes": ([tensor(), tensor(storage(kind="IntStorage"))], "float32, and elsewhere"),
    "quantised": (Call("torch._utils._rebuild_qtensor", ()), "quantised"),
    "quantised storage": (tensor(storage(kind="QUInt8Storage")), "quantised"),
    "sparse": (Call("torch._utils._rebuild_sparse_tensor", ()), "sparse"),
    "complex": (tensor(storage(kind="ComplexFloatStorage")), "another dtype"),
    "float8": (Call("torch._utils._rebuild_tensor_v3", ()), "another dtype"),
    "nothing on the stack": (Raw(b"R"), "REDUCE has nothing to work on"),
    "no mark": (Raw(b"t"), "TUPLE has nothing to work on"),
    "nothing in the memo": (Raw(b"h\x05"), "BINGET has nothing to work on"),
    "half an item": (Raw(b"}(" + opcodes("a") + b"u"), "SETITEMS has nothing to work on"),
    "no text in STACK_GLOBAL": (Raw(b"NN\x93"), "STACK_GLOBAL has nothing to work on"),
    "no opcode": (Raw(b"\xff"), "no opcode is ff"),
    "text longer than the file": (Raw(b"X\xff\xff\xff\x7f"), "cut off or damaged"),
    "text of 2**62 bytes": (Raw(b"\x8d" + struct.pack("<Q", 2**62)), "cut off or damaged"),
    "number longer than the file": (Raw(b"\x8b\xff\xff\xff\x7f"), "cut off or damaged"),
    "a name that does not end": (Raw(b"ccollections"), "cut off or damaged"),
    "no UTF-8": (Raw(b"X\x01\x00\x00\x00\xff"), "cut off or damaged"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_what_does_not_fit_is_told(container, path, name):
    value, message = BAD_TENSORS[name]
    container(path, pickled(value), FOUR)
    with pytest.raises(ValueError, match=f"model.pt: .*{message}"):
        read_torch_file(path)


def test_deep_nesting_is_no_recursion(container, path):
    # Lists, tuples, and tuples with something hidden inside.
    depth = 100_000
    container(path, b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".", {})
    assert type(read_torch_file(path)) is list
    container(path, b"\x80\x02N" + b"\x85" * depth + b".", {})
    assert type(read_torch_file(path)) is tuple
    container(path, b"\x80\x02}N" + b"\x85" * depth + b"Ns.", {})
    with pytest.raises(ValueError, match="a key of a dict is a tuple"):
        read_torch_file(path)
    container(path, b"\x80\x02" + opcodes(storage()) + b"\x85" * depth + b".", FOUR)
    with pytest.raises(ValueError, match="a storage"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keys": []}, "its list names 0 storages, its tensors 1"),
        ({"keys": ["0", "1"]}, "its list names 2 storages, its tensors 1"),
        ({"keys": ["0", "0"]}, "its list names 2 storages, its tensors 1"),
        ({"keys": ["1"]}, "not the same"),
        ({"keys": [0]}, "list of its storages is damaged"),
        ({"keys": {"0": 1}}, "list of its storages is damaged"),
        ({"count": 3}, "has 3 elements by the count at byte [0-9]+, and 4 by its tensors"),
        ({"count": -4}, "has -4 elements"),
        ({"count": 2**62}, "has 4611686018427387904 elements"),
        ({"protocol": 1000}, "another protocol of PyTorch than 1001"),
    ],
    ids=str,
)
def test_damaged_legacy_files_are_told(path, options, message):
    legacy(path, pickled(tensor()), FOUR, **options)
    with pytest.raises(ValueError, match=f"model.pt: .*{message}"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "data, options, message",
    [
        ({}, {}, "its entry m/data/0 is missing"),
        ({"0": np.zeros(3, np.float32)}, {}, "has 12 bytes, its tensors say 4 elements of float32"),
        ({"0": np.zeros(5, np.float32)}, {}, "has 20 bytes"),
        (FOUR, {"byteorder": "middle"}, "byte order is 'middle'"),
        (FOUR, {"byteorder": b"\xff"}, "damaged"),
        (FOUR, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        (FOUR, {"constants.pkl": b""}, "TorchScript"),
        (FOUR, {"code__net.py": b""}, "TorchScript"),
        (FOUR, {"__..__n/data.pkl": b""}, "2 entries data.pkl"),
    ],
    ids=str,
)
def test_damaged_archives_are_told(path, data, options, message):
    archive(path, pickled(tensor()), data, **options)
    with pytest.raises(ValueError, match=f"model.pt: .*{message}"):
        read_torch_file(path)


@pytest.mark.parametrize("claimed", [17, 2**20, 2**31 - 1])
def test_an_entry_that_claims_more_than_there_is_is_refused(path, claimed):
    archive(path, pickled(tensor()), FOUR)
    content = bytearray(path.read_bytes())
    # The sizes of the entry in the directory at the end.
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"m/data/0"))
    struct.pack_into("<II", content, entry + 20, claimed, claimed)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="model.pt: "):
        read_torch_file(path)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "begins neither .* but with nothing"),
        (b"\x89HDF\r\n", "not a PyTorch file"),
        (b"P", "not a PyTorch file"),
        (b"PK", "ZIP archive that is damaged or cut off"),
        (pickle.dumps({"w": 1}, 2), "without PyTorch's magic number"),
        (b"PK\x05\x06" + bytes(18), "0 entries data.pkl"),
    ],
)
def test_other_files_are_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"model.pt: .*{message}"):
        read_torch_file(path)


def example(container, path):
    """A file with a bit of everything, and what is in it."""
    stored = {
        "epoch": 7,
        "state": [tensor(size=(2, 2), strides=(1, 2)), tensor(storage(3, key="11"), (3,))],
        "name": "résumé",
        "rates": (0.1, None, False),
    }
    container(path, pickled(stored), FOUR | {"11": np.ones(3, np.float32)})
    return path.read_bytes()


def test_a_file_cut_off_anywhere_is_told(container, path):
    content = example(container, path)
    read_torch_file(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="model.pt: "):
            read_torch_file(path)


def test_a_file_cut_off_in_its_data_says_where(path):
    content = example(legacy, path)
    path.write_bytes(content[:-5])
    begin, end = len(content) - 20, len(content) - 5
    with pytest.raises(
        ValueError, match=f"storage 1 of 2 takes 20 bytes from byte {begin}, .* ends at {end}"
    ):
        read_torch_file(path)


@pytest.mark.parametrize("replaced", [0x00, 0xFF, 0x52, 0x2E])
def test_a_damaged_byte_is_harmless(container, path, replaced):
    content = example(container, path)
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([replaced]) + content[place + 1 :])
        try:
            read_torch_file(path)
        except ValueError as error:
            assert str(error).startswith(str(path))


ARRAYS = {
    **{kind: np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype) for kind, dtype in DTYPES.items()},
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "long": np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7),
    "layer.0.wéight": np.array([-0.0, np.inf, 1e-45], np.float32),
}


def test_written_files_are_read_again(path):
    write_torch_file(path, ARRAYS)
    assert_equal(read_torch_file(path), collections.OrderedDict(ARRAYS))
    write_torch_file(path, {})
    assert_equal(read_torch_file(path), collections.OrderedDict())


def test_memory_layout_is_of_no_interest(path):
    arrays = {
        "transposed": ARRAYS["long"].T,
        "reversed": ARRAYS["long"][::-1, ::2],
        "big": ARRAYS["long"].astype(">f4"),
        "repeated": np.broadcast_to(np.float32(2), (3, 2)),
    }
    write_torch_file(path, arrays)
    for name, array in read_torch_file(path).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name])


def test_jax_arrays_are_written(path):
    import jax.numpy as jnp

    write_torch_file(path, {"w": jnp.arange(3, dtype=jnp.bfloat16)})
    assert_equal(read_torch_file(path)["w"], np.arange(3).astype(ml_dtypes.bfloat16))


# With the lower limit every entry has the fields of one of more than 2 GiB.
@pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 0])
def test_data_are_aligned_and_stored(path, monkeypatch, limit):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    write_torch_file(path, ARRAYS)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        names = [info.filename for info in file.infolist()]
        assert names[0] == "archive/data.pkl" and "archive/version" in names
        assert file.read("archive/byteorder").decode() == sys.byteorder
        assert file.testzip() is None
        for info in file.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<HH", content, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            assert begin % 64 == 0
            assert content[begin : begin + info.file_size] == file.read(info)
    assert_equal(read_torch_file(path), collections.OrderedDict(ARRAYS))


def test_the_same_arrays_give_the_same_file(path):
    write_torch_file(path, ARRAYS)
    first = path.read_bytes()
    write_torch_file(path, ARRAYS)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"w": np.ones(2, np.uint32)}, "w is uint32; cast it to one of bfloat16, bool, "),
        ({"w": np.ones(2, np.complex64)}, "w is complex64"),
        ({"w": np.array(["a"])}, "w is <U1"),
        ({"w": None}, "w is object"),
        ({1: np.ones(2)}, "names of a state dict are str, got 1"),
    ],
)
def test_what_cannot_be_written_is_told(path, arrays, message):
    write_torch_file(path, {"a": np.ones(1)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_torch_file(path, arrays)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file_alone(path, monkeypatch):
    write_torch_file(path, {"a": np.ones(1)})
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_torch_file(path, ARRAYS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# Flattened into arrays: {place: array}, bfloat16 as its bits, what is no tensor as its repr.
FLATTEN = """
import numpy as np, torch

def flatten(value, place=""):
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            found |= flatten(item, f"{place}.{key!r}")
        return found | {place + " keys": np.array(repr(list(value)))}
    if isinstance(value, (list, tuple)):
        found = {}
        for key, item in enumerate(value):
            found |= flatten(item, f"{place}.{key}")
        kind = "list" if isinstance(value, list) else "tuple"
        return found | {place + " length": np.array(f"{kind} of {len(value)}")}
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous()
        if value.dtype == torch.bfloat16:
            return {place + " bfloat16": value.view(torch.int16).numpy()}
        return {place: value.numpy()}
    return {place + " value": np.array(repr(value))}
"""

SAVE = (
    FLATTEN
    + """
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 5)
)
tied = nn.Linear(144, 5)
tied.weight = net[4].weight
optimizer = torch.optim.AdamW([*net.parameters(), tied.bias], lr=0.01)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
(net(torch.randn(2, 3, 8, 8)).sum() + tied.bias.sum()).backward()
optimizer.step()
schedule.step()
half = nn.Linear(3, 2).bfloat16()
assert net.state_dict()._metadata
base = torch.arange(24.0).reshape(2, 3, 4)
noted = nn.Parameter(torch.ones(2))
noted.note = "kept by _rebuild_parameter_with_state"
stored = {
    "epoch": 3,
    "global_step": 2**40,
    "state_dict_backbone": net.state_dict(),
    "state_dict_softmax_fc": {"weight": tied.state_dict()["weight"]},
    "half": half.state_dict(),
    "state_optimizer": optimizer.state_dict(),
    "state_lr_scheduler": schedule.state_dict(),
    "parameters": [nn.Parameter(base), nn.Parameter(base, requires_grad=False), noted],
    "views": [base.T, base[1], base[:, ::2, 1:3], base.permute(2, 0, 1), base[1, 2, 3]],
    "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "expanded": torch.ones(1).expand(1000),
    "empty": [torch.zeros(0), torch.zeros(0, 3), base[:0], torch.empty(2, 0, 5)],
    "size": base.shape,
    "plain": [None, True, -1, 1e-3, "text", (), (1, (2.5,)), float("inf"), -(2**70)],
    "dtypes": [
        torch.tensor([0.0, 1.0, 100.0]).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
            torch.int16, torch.int8, torch.uint8, torch.bool,
        )
    ],
}
for new in (True, False):
    for protocol in (2, 3, 4, 5):
        path = f"{inputs['folder']}/{'zip' if new else 'legacy'}_{protocol}.pt"
        torch.save(stored, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
outputs.update(flatten(stored))

refused = {
    "module": net,
    "sparse": torch.eye(3).to_sparse(),
    "sparse_csr": torch.eye(3).to_sparse_csr(),
    "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "complex": torch.ones(2, dtype=torch.complex64),
    "float8": torch.ones(2).to(torch.float8_e4m3fn),
    "negated": torch._neg_view(torch.ones(2)),
    "a_storage": torch.ones(2).storage(),
    "device": torch.device("cpu"),
}
for name, value in refused.items():
    for new in (True, False):
        path = f"{inputs['folder']}/refused_{name}_{new}.pt"
        torch.save(value, path, _use_new_zipfile_serialization=new)
torch.jit.script(net).save(f"{inputs['folder']}/refused_TorchScript.pt")
torch.serialization.set_crc32_options(False)
torch.save(stored, f"{inputs['folder']}/refused_CRC.pt")
"""
)
MESSAGES = {
    "module": "torch.nn.modules.container.Sequential.*code",
    "sparse": "sparse",
    "sparse_csr": "sparse",
    "quantised": "quantised",
    "complex": "another dtype",
    "float8": "another dtype",
    "negated": "negated",
    "a_storage": "a storage",
    "device": "torch.device",
    "TorchScript": "TorchScript",
    "CRC": "set_crc32_options",
}


def flatten(value, place=""):
    """As FLATTEN does with tensors."""
    if isinstance(value, dict):
        found = {f"{place} keys": np.array(repr(list(value)))}
        for key, item in value.items():
            found |= flatten(item, f"{place}.{key!r}")
        return found
    if isinstance(value, list | tuple):
        found = {f"{place} length": np.array(f"{type(value).__name__} of {len(value)}")}
        for key, item in enumerate(value):
            found |= flatten(item, f"{place}.{key}")
        return found
    if isinstance(value, np.ndarray):
        if value.dtype == ml_dtypes.bfloat16:
            return {f"{place} bfloat16": value.view(np.int16)}
        return {place: value}
    return {f"{place} value": np.array(repr(value))}


def assert_flat_equal(got, wanted):
    assert got.keys() == wanted.keys()
    for place in wanted:
        assert_equal(np.array(got[place]), np.array(wanted[place]))


@pytest.mark.peers
@pytest.mark.slow
def test_files_of_pytorch_are_read_equal(peers, tmp_path):
    wanted = peers(SAVE, folder=str(tmp_path))
    assert sum(math.prod(array.shape) for array in wanted.values()) > 3000
    files = sorted(tmp_path.glob("zip_*.pt")) + sorted(tmp_path.glob("legacy_*.pt"))
    assert len(files) == 8
    for file in files:
        assert_flat_equal(flatten(read_torch_file(file)), wanted)
    files = sorted(tmp_path.glob("refused_*.pt"))
    assert len(files) == 2 * (len(MESSAGES) - 2) + 2
    for file in files:
        name = file.stem.removeprefix("refused_").removesuffix("_True").removesuffix("_False")
        with pytest.raises(ValueError, match=MESSAGES[name]):
            read_torch_file(file)


LOAD = (
    FLATTEN
    + """
import collections
for mmap in (False, True):
    loaded = torch.load(str(inputs["path"]), weights_only=True, mmap=mmap)
    assert type(loaded) is collections.OrderedDict
    assert all(type(x) is torch.Tensor and x.is_contiguous() for x in loaded.values())
    assert not any(x.requires_grad or x.device.type != "cpu" for x in loaded.values())
    outputs.update({f"{mmap} {place}": x for place, x in flatten(loaded).items()})
torch.nn.Linear(3, 2).load_state_dict(
    {name: loaded[f"fc.{name}"] for name in ("weight", "bias")}
)
"""
)


@pytest.mark.peers
@pytest.mark.slow
def test_files_for_pytorch_are_read_equal(peers, path):
    arrays = ARRAYS | {
        "fc.weight": np.ones((2, 3), np.float32),
        "fc.bias": np.zeros(2, np.float32),
        "many": np.zeros((300, 70_000), np.int8)[:, ::100],
    }
    write_torch_file(path, arrays)
    got = peers(LOAD, path=str(path))
    wanted = flatten(collections.OrderedDict(arrays))
    assert_flat_equal(
        got, {f"{mmap} {place}": x for mmap in (False, True) for place, x in wanted.items()}
    )
