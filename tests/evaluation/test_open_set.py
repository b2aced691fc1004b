import numpy as np
import pytest

from arcface_jax.evaluation import (
    all_pairs_roc,
    draw_pairs,
    evaluate_open_set,
    rank_one,
    ten_fold_accuracy,
)
from arcface_jax.evaluation.open_set import far_name

FARS = (1e-2, 1e-3, 1e-4)


def random_set(identities=30, images=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(identities) + 5, images))
    centers = rng.normal(size=(identities + 5, 8))
    return (centers[labels] + 0.8 * rng.normal(size=(labels.size, 8))).astype(np.float32), labels


@pytest.fixture(scope="module")
def result():
    return evaluate_open_set(*random_set(), resamples=50, seed=3, max_images_per_identity=5)


def test_numbers_are_those_of_the_single_protocols(result):
    x, labels = random_set()
    roc, capped = (
        all_pairs_roc(x, labels, FARS),
        all_pairs_roc(x, labels, FARS, max_images_per_identity=5, seed=3),
    )
    for suffix, expected in (("", roc), ("_max5", capped)):
        assert result.metrics["eer" + suffix] == expected.eer
        assert result.metrics["auc" + suffix] == expected.auc
        for point in expected.tar:
            assert result.metrics[far_name(point.far_wanted) + suffix] == point.tar
    assert result.metrics["rank1"] == rank_one(x, labels).rate
    assert (result.genuine_pairs, result.impostor_pairs) == (roc.genuine, roc.impostor)


def test_keys_are_those_that_reports_read(result):
    pair_rates = {"tar_at_far_1e-2", "tar_at_far_1e-3", "tar_at_far_1e-4", "eer", "auc"}
    single = {"rank1", "pair_accuracy"}
    with_interval = pair_rates | {f"{name}_max5" for name in pair_rates} | single
    assert set(result.metrics) == with_interval | {"pair_accuracy_std"}
    assert set(result.intervals) == with_interval
    assert all(type(value) is float for value in result.metrics.values())


def test_intervals_hold_the_numbers(result):
    for name, (low, high) in result.intervals.items():
        assert low <= result.metrics[name] <= high, name


def test_pair_angles_count_every_pair(result):
    assert result.pair_angles_deg["genuine"].shape == (180,)
    assert result.pair_angles_deg["genuine"].sum() == result.genuine_pairs
    assert result.pair_angles_deg["impostor"].sum() == result.impostor_pairs


def test_the_result_depends_on_its_seed_alone(result):
    again, other = (
        evaluate_open_set(*random_set(), resamples=50, seed=seed, max_images_per_identity=5)
        for seed in (3, 4)
    )
    assert again.metrics == result.metrics
    assert again.intervals == result.intervals
    assert other.intervals != result.intervals


def test_order_of_the_images_does_not_change_the_all_pairs_numbers(result):
    x, labels = random_set()
    order = np.random.default_rng(9).permutation(labels.size)
    found = evaluate_open_set(x[order], labels[order], resamples=0)
    assert found.intervals == {}
    for name in ("tar_at_far_1e-2", "rank1"):
        assert found.metrics[name] == result.metrics[name]
    for name in ("eer", "auc"):
        assert found.metrics[name] == pytest.approx(result.metrics[name], abs=1e-6)


def test_a_given_list_is_scored_in_its_folds():
    x, labels = random_set()
    pairs = draw_pairs(labels, per_class=20, seed=1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = (unit[pairs.first] * unit[pairs.second]).sum(axis=1)
    expected = ten_fold_accuracy(scores, pairs.same, pairs.fold)
    for given in (pairs, tuple(pairs[:4]), tuple(pairs[:3])):
        found = evaluate_open_set(x, labels, pairs=given, resamples=0)
        assert found.metrics["pair_accuracy"] == pytest.approx(expected.accuracy, abs=1e-12)
        assert found.metrics["pair_accuracy_std"] == pytest.approx(expected.std, abs=1e-12)


def test_a_list_ordered_by_kind_takes_tenths_of_each_kind_and_says_so():
    x, labels = random_set()
    pairs = draw_pairs(labels, per_class=20, seed=1)
    order = np.argsort(~pairs.same, kind="stable")
    ordered = tuple(column[order] for column in pairs[:3])
    found = evaluate_open_set(x, labels, pairs=ordered, resamples=0)
    drawn = evaluate_open_set(x, labels, pairs=pairs, resamples=0)
    assert found.metrics["pair_accuracy"] == drawn.metrics["pair_accuracy"]
    assert any("k-th tenth" in note for note in found.notes)


def test_few_identities_share_folds_and_it_is_said():
    x, labels = random_set(identities=10, images=10)
    found = evaluate_open_set(x, labels, resamples=0)
    assert any("10 x (45 + 45) pairs" in note for note in found.notes)
    assert any("10 of 10 identities" in note for note in found.notes)
    assert any(note.startswith("tar_at_far_1e-4: below the resolution") for note in found.notes)


def test_too_few_images_for_a_list_leave_it_out_and_it_is_said():
    found = evaluate_open_set(np.eye(4), [0, 0, 1, 1], resamples=10)
    assert "pair_accuracy" not in found.metrics
    assert any(note.startswith("no pair accuracy: 2 identities") for note in found.notes)


def test_zero_embeddings_are_reported():
    x, labels = random_set()
    x[4] = 0.0
    assert any("row 4" in note for note in evaluate_open_set(x, labels, resamples=0).notes)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (([0], [1]), "got 2 arrays"),
        (([0], [99], [True]), "pair 0 names image 99, but there are 4 embeddings"),
        (([0.0], [1.0], [True]), "image indices"),
        (([0, 0], [1, 2], [True, True]), "pair 1 is listed as same"),
    ],
)
def test_bad_pair_lists_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        evaluate_open_set(np.eye(4), [0, 0, 1, 1], pairs=pairs, resamples=0)


def test_bad_embeddings_are_refused():
    x = np.eye(4)
    x[3, 0] = np.inf
    with pytest.raises(ValueError, match=r"embeddings\[3\]"):
        evaluate_open_set(x, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="identities has two images"):
        evaluate_open_set(np.eye(4), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("far", "name"),
    [(1e-2, "tar_at_far_1e-2"), (0.25, "tar_at_far_2.5e-1"), (1e-4, "tar_at_far_1e-4")],
)
def test_names_of_rates(far, name):
    assert far_name(far) == name
