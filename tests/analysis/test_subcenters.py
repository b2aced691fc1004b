import json

import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax.analysis import dominant_centers, drop_rule, subcenter_statistics, subcenters


def at(*degrees):
    """Unit vectors of the plane at these angles."""
    theta = np.radians(degrees)
    return np.stack([np.cos(theta), np.sin(theta)], axis=-1)


def random_set(seed=0, count=60, classes=7, k=3, dimension=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimension)) * rng.uniform(0.5, 4.0, size=(count, 1))
    return x, rng.integers(0, classes, size=count), rng.normal(size=(classes, k, dimension))


def near(direction, degrees, rng, *, count):
    """Vectors of any length at this angle from ``direction``."""
    noise = rng.normal(size=(count, direction.size))
    noise -= np.outer(noise @ direction, direction)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    theta = np.radians(degrees)
    return rng.uniform(0.5, 20.0, (count, 1)) * (np.cos(theta) * direction + np.sin(theta) * noise)


def planted_set(*, classes=20, clean=30, noisy=6, dimension=64, seed=0):
    """Each class has clean images, and wrong ones near a direction that another centre took.

    Returns (embeddings, labels, centers [C, 3, D], is_planted, number of the clean centre).
    """
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    embeddings, labels, centers, planted, own = [], [], [], [], []
    for label in range(classes):
        clean_way, noisy_way = directions[label], directions[classes + label]
        # The third centre is near the first: clean images that lie on it are no noise.
        (third,) = near(clean_way, 40.0, rng, count=1)
        order = rng.permutation(3)
        centers.append(np.stack([clean_way, 3.0 * noisy_way, third])[order])
        own.append(int(np.argmax(order == 0)))
        parts = (
            near(clean_way, 25.0, rng, count=clean),
            near(third / np.linalg.norm(third), 5.0, rng, count=3),
            near(noisy_way, 10.0, rng, count=noisy),
        )
        embeddings += parts
        sizes = [len(part) for part in parts]
        labels += [label] * sum(sizes)
        planted += [False] * (sizes[0] + sizes[1]) + [True] * sizes[2]
    order = rng.permutation(len(labels))
    return (
        np.concatenate(embeddings)[order],
        np.array(labels)[order],
        np.array(centers),
        np.array(planted)[order],
        np.array(own),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [70.0, 75.0, 79.0])
def test_the_rule_finds_exactly_the_planted_images(seed, threshold):
    x, labels, centers, planted, own = planted_set(seed=seed)
    found = subcenter_statistics(x, labels, centers)
    cleaned = drop_rule(found, threshold_deg=threshold)
    np.testing.assert_array_equal(~cleaned.keep, planted)
    np.testing.assert_array_equal(found.dominant, own)
    np.testing.assert_array_equal(cleaned.centers, centers[np.arange(len(own)), own])
    assert not found.on_dominant[planted].any()
    # Clean images on a centre of their own stay: being off the dominant one is no reason to go.
    assert (~found.on_dominant & cleaned.keep).sum() >= 3 * len(own)


def test_an_image_on_the_dominant_centre_goes_where_it_is_too_far():
    found = subcenter_statistics(at(0, 1, 80), [0, 0, 0], [at(0, 180)])
    assert found.on_dominant.all()
    assert drop_rule(found).keep.tolist() == [True, True, False]
    assert drop_rule(found, threshold_deg=81.0).keep.all()


def test_an_angle_of_the_threshold_itself_is_dropped():
    found = subcenter_statistics([[1.0, 0.0], [0.0, 1.0]], [0, 0], [[[1.0, 0.0], [-1.0, 0.0]]])
    assert drop_rule(found, threshold_deg=90.0).keep.tolist() == [True, False]


@pytest.mark.parametrize("seed", range(3))
def test_matches_the_definitions_written_out(seed):
    x, labels, centers = random_set(seed)

    def angle(a, b):
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))

    found = subcenter_statistics(x, labels, centers)
    angles = np.array([[angle(v, w) for w in centers[y]] for v, y in zip(x, labels, strict=True)])
    np.testing.assert_array_equal(found.nearest, angles.argmin(axis=1))
    np.testing.assert_allclose(found.nearest_deg, angles.min(axis=1), atol=1e-6)
    for j, (counts, dominant) in enumerate(zip(found.counts, found.dominant, strict=True)):
        votes = [np.sum(angles[labels == j].argmin(axis=1) == k) for k in range(3)]
        assert counts.tolist() == votes
        assert dominant == votes.index(max(votes))
        assert found.dominant_share[j] == max(votes) / sum(votes)
        np.testing.assert_allclose(
            found.dominant_deg[labels == j], angles[labels == j, dominant], atol=1e-6
        )
        apart = [[angle(a, b) for b in centers[j]] for a in centers[j]]
        np.testing.assert_allclose(found.apart_deg[j], apart, atol=1e-5)
    np.testing.assert_array_equal(dominant_centers(x, labels, centers), found.dominant_centers)


@pytest.mark.parametrize("entries", [1, 17, 100])
def test_blocks_change_nothing(monkeypatch, entries):
    given = random_set()
    expected = subcenter_statistics(*given)
    monkeypatch.setattr(subcenters, "ENTRIES", entries)
    for name, value in vars(subcenter_statistics(*given)).items():
        np.testing.assert_array_equal(value, getattr(expected, name))


def test_the_first_centre_wins_a_tie_and_stands_for_a_class_without_images():
    found = subcenter_statistics(at(0, 90), [0, 0], [at(90, 0), at(10, 20)])
    assert found.counts.tolist() == [[1, 1], [0, 0]]
    assert found.dominant.tolist() == [0, 0]
    np.testing.assert_array_equal(found.dominant_share, [0.5, np.nan])
    np.testing.assert_array_equal(found.dominant_centers, at(90, 10))
    # Two equal centres: the vote goes to the first.
    assert subcenter_statistics(at(30), [0], [at(0, 0)]).nearest.tolist() == [0]


def test_one_centre_a_class_is_its_dominant_one():
    x, labels, centers = random_set()
    found = subcenter_statistics(x, labels, centers[:, 0])
    assert found.on_dominant.all()
    assert found.summary()["mean_apart_deg"] is None
    np.testing.assert_array_equal(dominant_centers(x, labels, centers[:, 0]), centers[:, 0])


def test_an_image_without_direction_is_dropped():
    found = subcenter_statistics([[0.0, 0.0], [1.0, 0.0]], [0, 0], [at(0, 90)])
    assert found.dominant_deg[0] == 90.0
    assert drop_rule(found).keep.tolist() == [False, True]


def test_half_precision_and_jax_arrays_are_taken():
    x, labels, centers, planted, _ = planted_set(classes=4)
    found = subcenter_statistics(
        jnp.asarray(x, jnp.bfloat16), jnp.asarray(labels), jnp.asarray(centers, jnp.float32)
    )
    np.testing.assert_array_equal(~drop_rule(found).keep, planted)


def test_the_summary_is_json_and_counts_every_image():
    x, labels, centers, planted, _ = planted_set()
    found = subcenter_statistics(x, labels, centers)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert (summary["images"], summary["classes"], summary["centers_per_class"]) == (780, 20, 3)
    assert summary["non_dominant_share"] == np.mean(~found.on_dominant)
    assert summary["mean_dominant_share"] == pytest.approx(found.dominant_share.mean())
    assert summary["mean_nearest_deg"] <= summary["mean_dominant_deg"]
    assert summary["classes_without_images"] == 0
    counts = summary["histograms"]
    assert sum(counts["on_dominant"]) == found.on_dominant.sum()
    assert sum(counts["on_other"]) == (~found.on_dominant).sum()
    assert sum(counts["on_other"][75:]) == planted.sum()


@pytest.mark.parametrize("threshold", [0.0, -75.0, 181.0, np.nan])
def test_thresholds_out_of_range_are_refused(threshold):
    found = subcenter_statistics([[1.0, 0.0]], [0], [at(0, 90)])
    with pytest.raises(ValueError, match="75 is usual, in degrees"):
        drop_rule(found, threshold_deg=threshold)


def test_bad_input_is_refused(monkeypatch):
    x, labels, centers = random_set()
    with pytest.raises(ValueError, match=r"labels\[0\] is 7, but there are 7 centers"):
        subcenter_statistics(x, np.full(len(x), 7), centers)
    with pytest.raises(ValueError, match=r"labels\[0\] is -1"):
        subcenter_statistics(x, np.full(len(x), -1), centers)
    with pytest.raises(ValueError, match=r"and centers \[C, K, D\], got \(60, 5\) and \(7, 5, 3\)"):
        subcenter_statistics(x, labels, centers.swapaxes(1, 2))
    with pytest.raises(ValueError, match=r"got \(0, 5\)"):
        subcenter_statistics(x[:0], labels[:0], centers)
    x[47, 2] = np.nan
    monkeypatch.setattr(subcenters, "ENTRIES", 50)
    with pytest.raises(ValueError, match=r"embeddings\[47\]"):
        subcenter_statistics(x, labels, centers)
