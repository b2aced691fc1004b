import numpy as np
import pytest

from arcface_jax.evaluation import rank_one


def by_hand(x, labels):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    hits = {}
    for i in range(len(x)):
        scores = unit @ unit[i]
        mates = (labels == labels[i]) & (np.arange(len(x)) != i)
        if mates.any():
            hits[i] = scores[mates].max() > scores[labels != labels[i]].max(initial=-np.inf)
    return hits


def random_set(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, size=40)
    return rng.normal(size=(12, 5))[labels] + 0.7 * rng.normal(size=(40, 5)), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 90, 10**6])
def test_blocked_equals_one_probe_at_a_time(seed, block):
    x, labels = random_set(seed)
    result = rank_one(x, labels, block=block)
    assert dict(zip(result.images.tolist(), result.hit.tolist(), strict=True)) == by_hand(x, labels)
    assert result.probes == len(by_hand(x, labels))
    assert result.rate == np.mean(list(by_hand(x, labels).values()))


def test_images_without_a_mate_are_distractors_but_no_probes():
    x, labels = [[1.0, 0.0], [1.0, 0.5], [1.0, 0.25]], [0, 0, 1]
    result = rank_one(x, labels)
    assert (result.rate, result.probes, result.images.tolist()) == (0.0, 2, [0, 1])


def test_a_tie_with_a_stranger_is_no_hit():
    assert rank_one(np.ones((4, 1)), [0, 0, 1, 1]).rate == 0.0


def test_one_identity_alone_is_always_found():
    assert rank_one([[1.0, 0.0], [0.0, 1.0]], [3, 3]).rate == 1.0


def test_order_of_the_images_changes_nothing():
    x, labels = random_set(0)
    order = np.random.default_rng(5).permutation(len(x))
    assert rank_one(x[order], labels[order])[:2] == rank_one(x, labels)[:2]


def test_no_mates_are_refused():
    with pytest.raises(ValueError, match="every identity has one image"):
        rank_one(np.ones((3, 2)), [0, 1, 2])
