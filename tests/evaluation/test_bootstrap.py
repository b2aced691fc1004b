import numpy as np
import pytest

from arcface_jax.evaluation import (
    area_under_curve,
    bootstrap_identities,
    equal_error_rate,
    tar_at_far,
)
from arcface_jax.evaluation.all_pairs import summarise_pairs
from arcface_jax.evaluation.bootstrap import (
    all_pairs_statistic,
    bootstrap_metrics,
    resample_identities,
)
from arcface_jax.evaluation.embeddings import unit_rows

FARS = {"a": 0.2, "b": 0.02}


def random_set(seed, identities=8, images=5, dimension=4):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(identities), images))
    centers = rng.normal(size=(identities, dimension))
    return unit_rows(centers[labels] + rng.normal(size=(labels.size, dimension))), labels


def written_out(unit, labels, copies):
    """The resample as a list of pairs, each repeated as often as it counts."""
    i, j = np.triu_indices(len(unit), 1)
    same = labels[i] == labels[j]
    times = np.where(same, copies[i], copies[i] * copies[j])
    scores, same = np.repeat((unit @ unit.T)[i, j], times), np.repeat(same, times)
    rates = {name: tar_at_far(scores, same, far)[0].tar for name, far in FARS.items()}
    return {**rates, "eer": equal_error_rate(scores, same), "auc": area_under_curve(scores, same)}


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_equals_its_pairs_written_out(seed):
    unit, labels = random_set(seed)
    summary = summarise_pairs(unit, labels, fars=[], top=10**6)
    statistic = all_pairs_statistic(unit, labels, summary, fars=FARS, seed=0)
    for copies in resample_identities(labels, resamples=10, seed=seed):
        found, expected = statistic(copies), written_out(unit, labels, copies)
        assert found == {name: pytest.approx(expected[name], abs=1e-12) for name in expected}


def test_every_identity_once_gives_the_numbers_themselves():
    unit, labels = random_set(0)
    summary = summarise_pairs(unit, labels, fars=list(FARS.values()), top=10**6)
    statistic = all_pairs_statistic(unit, labels, summary, fars=FARS, seed=0)
    found, roc = statistic(np.ones(labels.size, np.int64)), summary.pair_roc(list(FARS.values()))
    assert found["eer"] == pytest.approx(roc.eer, abs=1e-12)
    assert found["auc"] == pytest.approx(roc.auc, abs=1e-12)
    assert [found[name] for name in FARS] == [point.tar for point in roc.tar]


def test_a_draw_of_the_lower_scores_comes_close():
    unit, labels = random_set(0, identities=40, images=12, dimension=8)
    exact, sketched = (
        all_pairs_statistic(
            unit,
            labels,
            summarise_pairs(unit, labels, fars=[], top=top),
            fars=FARS,
            seed=0,
            top_pairs=top,
            drawn_pairs=30_000,
        )
        for top in (10**6, 5_000)
    )
    for copies in resample_identities(labels, resamples=5, seed=0):
        expected, found = exact(copies), sketched(copies)
        assert found["b"] == pytest.approx(expected["b"], abs=1e-12)
        for name in ("a", "eer", "auc"):
            assert found[name] == pytest.approx(expected[name], abs=0.02)


def test_resamples_without_a_kind_of_pair_are_left_out():
    unit, labels = unit_rows(np.eye(4)), np.array([0, 0, 1, 1])
    summary = summarise_pairs(unit, labels, fars=[], top=10**6)
    statistic = all_pairs_statistic(unit, labels, summary, fars={}, seed=0)
    assert np.isnan(statistic(np.array([2, 2, 0, 0]))["eer"])
    intervals = bootstrap_metrics(statistic, labels, resamples=20, seed=0)
    assert tuple(intervals["auc"]) == (0.5, 0.5)


def test_copies_are_those_of_whole_identities():
    labels = np.array([4, 9, 4, 2, 9, 4])
    for copies in resample_identities(labels, resamples=20, seed=0):
        per_identity = [set(copies[labels == name].tolist()) for name in (2, 4, 9)]
        assert all(len(counts) == 1 for counts in per_identity)
        assert sum(counts.pop() for counts in per_identity) == 3


def test_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_identities(
        lambda copies: np.average(values, weights=copies), np.arange(400), resamples=2000, seed=1
    )
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_images_of_one_identity_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(size=40), 10)

    def width(labels):
        low, high = bootstrap_identities(
            lambda copies: np.average(values, weights=copies), labels, resamples=500, seed=1
        )
        return high - low

    assert width(np.repeat(np.arange(40), 10)) > 2 * width(np.arange(400))


def test_the_interval_depends_on_its_seed_alone():
    values = np.random.default_rng(0).normal(size=30)
    one, again, other = (
        bootstrap_identities(
            lambda copies: np.average(values, weights=copies), np.arange(30), resamples=50, seed=s
        )
        for s in (1, 1, 2)
    )
    assert one == again != other


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="got 0 and 0.95"):
        bootstrap_identities(lambda copies: 0.0, [0, 1], resamples=0, seed=0)
    with pytest.raises(ValueError, match="got 5 and 95"):
        bootstrap_identities(lambda copies: 0.0, [0, 1], resamples=5, seed=0, confidence=95)
    with pytest.raises(ValueError, match="undefined in each of 5"):
        bootstrap_identities(lambda copies: np.nan, [0, 1], resamples=5, seed=0)
