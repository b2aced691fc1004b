import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax.analysis import angle_histogram, angle_statistics, angles, target_angles


def at(*degrees):
    """Unit vectors of the plane at these angles."""
    theta = np.radians(degrees)
    return np.stack([np.cos(theta), np.sin(theta)], axis=1)


def random_set(seed=0, count=60, classes=9, dimension=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimension)) * rng.uniform(0.5, 4.0, size=(count, 1))
    return x, rng.integers(0, classes, size=count), rng.normal(size=(classes, dimension))


def assert_degrees(found, expected, *, atol):
    """Compares the four statistics, or two arrays of angles."""
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), atol=atol)


def written_out(x, labels, w, *, min_images=1, raw=False):
    """The four statistics, one angle at a time."""

    def unit(v):
        return v / np.linalg.norm(v)

    def angle(a, b):
        return np.degrees(np.arccos(np.clip(unit(a) @ unit(b), -1, 1)))

    kept = [j for j in range(len(w)) if np.sum(labels == j) >= min_images]
    own = {j: sum(v if raw else unit(v) for v in x[labels == j]) for j in kept}
    others = [min(angle(w[j], w[k]) for k in range(len(w)) if k != j) for j in range(len(w))]
    return (
        np.mean([angle(w[j], own[j]) for j in kept]),
        np.mean(others),
        np.mean([angle(v, own[y]) for v, y in zip(x, labels, strict=True) if y in own]),
        np.mean([min(angle(own[j], own[k]) for k in kept if k != j) for j in kept]),
    )


def test_worked_example_of_the_plane():
    found = angle_statistics(at(0, 20, 90, 130), [0, 0, 1, 1], at(5, 120))
    assert_degrees(found, (7.5, 115.0, 15.0, 100.0), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{}, {"min_images": 7}, {"center": "raw"}])
def test_matches_the_definitions_written_out(seed, options):
    x, labels, w = random_set(seed)
    expected = written_out(
        x,
        labels,
        w,
        min_images=options.get("min_images", 1),
        raw=options.get("center") == "raw",
    )
    assert_degrees(angle_statistics(x, labels, w, **options), expected, atol=1e-6)


@pytest.mark.parametrize(("cosines", "rows"), [(1, 1), (16, 7), (10_000, 20)])
def test_blocks_change_nothing(monkeypatch, cosines, rows):
    x, labels, w = random_set()
    expected, target = angle_statistics(x, labels, w), target_angles(x, labels, w)
    monkeypatch.setattr(angles, "COSINES", cosines)
    monkeypatch.setattr(angles, "ROWS", rows)
    assert_degrees(angle_statistics(x, labels, w), expected, atol=1e-10)
    assert_degrees(target_angles(x, labels, w), target, atol=1e-10)


def test_order_and_length_of_the_embeddings_change_nothing():
    x, labels, w = random_set()
    order = np.random.default_rng(1).permutation(len(x))
    found = angle_statistics(3.0 * x[order], labels[order], 0.1 * w)
    assert_degrees(found, angle_statistics(x, labels, w), atol=1e-10)


def test_without_centers_there_is_no_w():
    found = angle_statistics(at(0, 20, 90, 130), [0, 0, 1, 1])
    assert found[:2] == (None, None)
    assert_degrees(found[2:], (15.0, 100.0), atol=1e-12)


def test_classes_without_images_count_in_w_inter_only():
    found = angle_statistics(at(0, 20, 90, 130), [0, 0, 2, 2], at(5, 300, 120))
    assert_degrees(found, (7.5, (65 + 65 + 115) / 3, 15.0, 100.0), atol=1e-12)


def test_single_images_pull_intra_down_unless_left_out():
    x, labels = at(0, 20, 90, 130, 200), [0, 0, 1, 1, 2]
    assert angle_statistics(x, labels).intra == pytest.approx(60 / 5, abs=1e-12)
    assert angle_statistics(x, labels, min_images=2).intra == pytest.approx(15.0, abs=1e-12)


def test_small_angles_keep_their_digits():
    found = angle_statistics(at(0, 2e-6, 90, 90), [0, 0, 1, 1])
    assert found.intra == pytest.approx(0.5e-6, rel=1e-6)


def test_opposite_vectors_are_180_degrees_apart():
    theta, wrong = target_angles(at(180.0, 0.0), [0, 0], at(0, 90))
    assert_degrees(theta, [180, 0], atol=1e-12)
    assert_degrees(wrong, [90, 90], atol=1e-12)


def test_jax_arrays_are_taken():
    x, labels, w = random_set()
    found = angle_statistics(jnp.float32(x), jnp.int32(labels), jnp.float32(w))
    assert_degrees(found, angle_statistics(x, labels, w), atol=1e-3)


def test_target_angles_match_the_definition():
    x, labels, w = random_set()
    cosine = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        w / np.linalg.norm(w, axis=1, keepdims=True)
    ).T
    degrees = np.degrees(np.arccos(cosine))
    theta, wrong = target_angles(x, labels, w)
    assert_degrees(theta, degrees[np.arange(len(x)), labels], atol=1e-9)
    degrees[np.arange(len(x)), labels] = np.inf
    assert_degrees(wrong, degrees.min(axis=1), atol=1e-9)


def test_random_vectors_are_near_90_degrees_from_a_centre():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2000, 512)), rng.normal(size=(20, 512))
    theta, _ = target_angles(x, rng.integers(0, 20, size=2000), w)
    assert theta.mean() == pytest.approx(90.0, abs=0.3)
    assert theta.std() == pytest.approx(57.3 / np.sqrt(512), rel=0.1)


def test_histogram_counts_every_angle_by_degree():
    counts = angle_histogram([0.0, 0.5, 89.999, 90.0, 180.0])
    assert counts.shape == (180,)
    assert counts[[0, 89, 90, 179]].tolist() == [2, 1, 1, 1]


def test_angles_out_of_the_bins_are_refused():
    with pytest.raises(ValueError, match=r"theta_deg\[1\] is nan"):
        angle_histogram([1.0, np.nan])
    with pytest.raises(ValueError, match="outside the bins from 0 to 180"):
        angle_histogram([180.5])


def test_bad_input_is_refused():
    x, labels, w = random_set()
    with pytest.raises(ValueError, match=r"labels\[0\] is 9, but there are 9 centers"):
        angle_statistics(x, np.full(len(x), 9), w)
    with pytest.raises(ValueError, match=r"expected centers \[C, 5\]"):
        angle_statistics(x, labels, w.T)
    with pytest.raises(ValueError, match="1 classes have 1 images or more"):
        angle_statistics(x, np.zeros(len(x), int))
    with pytest.raises(ValueError, match="unknown center 'mean'"):
        angle_statistics(x, labels, center="mean")
    with pytest.raises(ValueError, match="one center has no other"):
        target_angles(x, np.zeros(len(x), int), w[:1])
    x[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"embeddings\[7\]"):
        angle_statistics(x, labels, w)
