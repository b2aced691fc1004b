import numpy as np
import pytest
from sklearn.model_selection import KFold

from arcface_jax.evaluation import class_ordered_folds, draw_pairs, ten_fold_accuracy
from arcface_jax.evaluation.pairs import consecutive_folds, largest_per_class


def reference_protocol(scores, same, fold):
    """The protocol, one threshold and one fold at a time."""
    distance = 2.0 - 2.0 * scores
    grid = np.arange(0, 4, 0.01)
    accuracies, thresholds = [], []
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        right = [np.sum((distance[train] < t) == same[train]) for t in grid]
        t = grid[int(np.argmax(right))]
        thresholds.append(t)
        accuracies.append(np.mean((distance[test] < t) == same[test]))
    return accuracies, thresholds


def random_list(seed, count=203):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    return np.clip(rng.normal(0.3 + 0.25 * same, 0.2), -1, 1), same


@pytest.mark.parametrize("seed", range(4))
def test_matches_the_protocol_written_out(seed):
    scores, same = random_list(seed)
    fold = consecutive_folds(scores.size)
    accuracies, thresholds = reference_protocol(scores, same, fold)
    result = ten_fold_accuracy(scores, same)
    np.testing.assert_allclose(result.per_fold, accuracies, atol=1e-15)
    np.testing.assert_array_equal(result.thresholds, thresholds)
    assert result.accuracy == pytest.approx(np.mean(accuracies), abs=1e-15)
    assert result.std == pytest.approx(np.std(accuracies, ddof=0), abs=1e-15)
    for k in range(10):
        assert result.correct[fold == k].mean() == pytest.approx(accuracies[k], abs=1e-15)


@pytest.mark.parametrize("count", [10, 19, 600, 999])
def test_folds_are_those_of_kfold(count):
    fold = consecutive_folds(count)
    for k, (_, held_out) in enumerate(KFold(10).split(np.zeros(count))):
        np.testing.assert_array_equal(np.flatnonzero(fold == k), held_out)


def test_explicit_folds_free_the_order_of_the_list():
    scores, same = random_list(0)
    fold = consecutive_folds(scores.size)
    order = np.random.default_rng(1).permutation(scores.size)
    expected, found = (
        ten_fold_accuracy(scores, same),
        ten_fold_accuracy(scores[order], same[order], 5 * fold[order] + 2),
    )
    np.testing.assert_array_equal(found.per_fold, expected.per_fold)
    np.testing.assert_array_equal(found.thresholds, expected.thresholds)


def test_a_distance_equal_to_the_threshold_is_different():
    # d = 1 for the different pairs: t = 1 is the first grid point that takes none of them.
    scores, same = np.tile([0.75, 0.5], 10), np.tile([True, False], 10)
    result = ten_fold_accuracy(scores, same)
    assert result.accuracy == 1.0
    np.testing.assert_array_equal(result.thresholds, 0.51)
    scores, same = np.tile([0.5, 0.5], 10), np.tile([True, False], 10)
    np.testing.assert_array_equal(ten_fold_accuracy(scores, same).thresholds, 0.0)


def test_class_ordered_folds_take_the_tenths_of_each_kind():
    same = np.arange(999) < 500
    fold = class_ordered_folds(same)
    np.testing.assert_array_equal(fold[same], np.repeat(np.arange(10), 50))
    np.testing.assert_array_equal(np.bincount(fold[~same]), [50] * 9 + [49])


@pytest.mark.parametrize(
    ("scores", "same", "folds", "message"),
    [
        ([0.1] * 5, [True] * 5, None, "ten pairs or more, got 5"),
        ([0.1, np.nan] * 5, [True] * 10, None, r"similarities\[1\] is NaN"),
        ([0.1] * 10, [True] * 9, None, r"\(10,\) and \(9,\)"),
        ([0.1] * 10, [True] * 10, [0] * 10, "one fold"),
        ([0.1] * 10, [True] * 10, [0] * 9, "fold of each of 10 pairs"),
    ],
)
def test_bad_lists_are_refused(scores, same, folds, message):
    with pytest.raises(ValueError, match=message):
        ten_fold_accuracy(scores, same, folds)


def test_lfw_scores_give_the_published_accuracy(data_dir):
    path = data_dir / "reference" / "lfw150_foamliu_onnxruntime.npz"
    scores = np.load(path, allow_pickle=False)["s"]
    result = ten_fold_accuracy(scores, np.tile(np.arange(600) < 300, 10))
    assert round(100 * result.accuracy, 3) == 99.250
    assert round(100 * result.std, 3) == 0.423
    np.testing.assert_allclose(np.sort(result.thresholds), [1.42] * 9 + [1.47], atol=1e-12)


SETS = {
    "even": np.repeat(np.arange(40), 20),
    "uneven": np.repeat(np.arange(60) * 3, np.random.default_rng(0).integers(1, 60, size=60)),
    "few identities": np.repeat(np.arange(12), 60),
}
every_set = pytest.mark.parametrize("labels", SETS.values(), ids=SETS)


@every_set
def test_drawn_lists_hold_distinct_pairs_of_the_kind_listed(labels):
    shuffled = np.random.default_rng(1).permutation(labels)
    pairs = draw_pairs(shuffled, per_class=100, seed=4)
    assert pairs.same.size == 10 * 200
    np.testing.assert_array_equal(shuffled[pairs.first] == shuffled[pairs.second], pairs.same)
    assert (pairs.first != pairs.second).all()
    assert len({frozenset(p) for p in zip(pairs.first, pairs.second, strict=True)}) == 2000
    for kind in (pairs.same, ~pairs.same):
        np.testing.assert_array_equal(np.bincount(pairs.fold[kind]), [100] * 10)
    np.testing.assert_array_equal(np.diff(pairs.fold) >= 0, True)


@every_set
def test_folds_share_no_identity_where_there_are_twenty(labels):
    pairs = draw_pairs(labels, per_class=100, seed=4)
    assert pairs.identity_disjoint == (np.unique(labels).size >= 20)
    seen = {}
    for image, fold in zip(
        np.concatenate([pairs.first, pairs.second]), np.tile(pairs.fold, 2), strict=True
    ):
        seen.setdefault(labels[image], set()).add(fold)
    assert (max(map(len, seen.values())) == 1) == pairs.identity_disjoint


def test_same_pairs_are_spread_evenly_over_the_identities():
    labels = np.repeat(np.arange(40), [200] * 10 + [10] * 30)
    pairs = draw_pairs(labels, per_class=80, seed=0)
    drawn = np.bincount(labels[pairs.first[pairs.same]])
    assert drawn.min() == drawn.max() == 20


def test_the_list_depends_on_its_seed_alone():
    labels = SETS["uneven"]
    one, again, other = (draw_pairs(labels, per_class=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.first, again.first)
    np.testing.assert_array_equal(one.second, again.second)
    assert not np.array_equal(one.first, other.first)


@pytest.mark.parametrize("identities", [10, 25])
def test_all_that_can_be_supplied_can_be_drawn(identities):
    labels = np.repeat(np.arange(identities), 10)
    supplied = largest_per_class(labels)
    assert supplied == (45 if identities == 10 else 90)
    pairs = draw_pairs(labels, per_class=supplied, seed=0)
    assert len({frozenset(p) for p in zip(pairs.first, pairs.second, strict=True)}) == 20 * supplied
    with pytest.raises(ValueError, match=f"supply {supplied} a fold; choose per_class <= "):
        draw_pairs(labels, per_class=supplied + 1, seed=0)


def test_single_images_supply_nothing_and_it_is_said():
    with pytest.raises(ValueError, match="supply 0 a fold; choose fewer folds, or add"):
        draw_pairs(np.arange(50), seed=0)
