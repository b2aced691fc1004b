import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from arcface_jax.evaluation import area_under_curve, equal_error_rate, tar_at_far

# The worked example of the definitions: G = {.9, .7, .5}, I = {.8, .6, .4, .2}.
SCORES = [0.9, 0.7, 0.5, 0.8, 0.6, 0.4, 0.2]
SAME = [True] * 3 + [False] * 4
FARS = [0.0, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.29, 0.5, 0.9]


def random_pairs(seed, *, tied):
    rng = np.random.default_rng(seed)
    same = rng.random(400) < 0.3
    scores = rng.normal(same * 1.0, 0.7)
    return (np.round(scores, 1) if tied else scores), same


every_list = pytest.mark.parametrize(
    ("scores", "same"),
    [random_pairs(seed, tied=tied) for seed in range(3) for tied in (False, True)],
)


@pytest.mark.parametrize(
    ("far", "le", "nearest"),
    [(0.10, 1 / 3, 1 / 3), (0.25, 2 / 3, 2 / 3), (0.40, 2 / 3, 1.0)],
)
def test_worked_example_of_both_readings(far, le, nearest):
    assert tar_at_far(SCORES, SAME, [far])[0].tar == le
    assert tar_at_far(SCORES, SAME, [far], reading="nearest")[0].tar == nearest


def test_worked_example_of_eer_and_auc():
    assert area_under_curve(SCORES, SAME) == 0.75
    assert equal_error_rate(SCORES, SAME) == pytest.approx(1 / 3, abs=1e-15)


def test_nearest_keeps_the_vertices_that_thinning_removes():
    scores, same = [0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [True] * 2 + [False] * 6
    for reading in ("le", "nearest"):
        assert tar_at_far(scores, same, [0.6], reading=reading)[0].tar == 0.5


@every_list
def test_le_is_the_largest_tpr_with_fpr_at_most_far(scores, same):
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    for point in tar_at_far(scores, same, FARS):
        assert point.tar == pytest.approx(tpr[fpr <= point.far_wanted].max(), abs=1e-15)
        assert point.far == pytest.approx(fpr[fpr <= point.far_wanted].max(), abs=1e-15)


@every_list
def test_nearest_is_the_vertex_whose_fpr_is_closest(scores, same):
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    for point in tar_at_far(scores, same, FARS, reading="nearest"):
        distance = abs(fpr - point.far_wanted)
        assert point.tar == pytest.approx(tpr[distance == distance.min()].max(), abs=1e-15)
        assert abs(point.far - point.far_wanted) == pytest.approx(distance.min(), abs=1e-15)


@every_list
@pytest.mark.parametrize("reading", ["le", "nearest"])
def test_accepting_at_the_threshold_gives_the_rates_returned(scores, same, reading):
    for point in tar_at_far(scores, same, FARS, reading=reading):
        accepted = scores >= point.threshold
        assert (point.tar, point.far) == (accepted[same].mean(), accepted[~same].mean())


@every_list
def test_eer_is_where_the_interpolated_roc_crosses(scores, same):
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    crossing = np.interp(0.0, fpr + tpr - 1.0, fpr)
    assert equal_error_rate(scores, same) == pytest.approx(crossing, abs=1e-12)


@every_list
def test_auc_is_that_of_scikit_learn(scores, same):
    assert area_under_curve(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


def rates(scores, same):
    points = tar_at_far(scores, same, FARS)
    return [
        *((point.tar, point.far) for point in points),
        equal_error_rate(scores, same),
        area_under_curve(scores, same),
    ]


@every_list
def test_order_of_the_pairs_changes_nothing(scores, same):
    order = np.random.default_rng(0).permutation(scores.size)
    assert rates(scores[order], same[order]) == rates(scores, same)


@every_list
@pytest.mark.parametrize("rising", [np.exp, lambda s: 0.001 * s - 7.0, lambda s: s**3])
def test_a_rising_transform_of_the_scores_changes_nothing(scores, same, rising):
    assert rates(rising(scores), same) == rates(scores, same)


@every_list
def test_exchanging_the_kinds_and_the_sign_keeps_eer_and_auc(scores, same):
    assert equal_error_rate(-scores, ~same) == pytest.approx(
        equal_error_rate(scores, same), abs=1e-12
    )
    assert area_under_curve(-scores, ~same) == pytest.approx(
        area_under_curve(scores, same), abs=1e-12
    )


def test_equal_scores_are_worth_a_coin():
    scores, same = np.full(6, 0.5), np.arange(6) < 2
    assert equal_error_rate(scores, same) == 0.5
    assert area_under_curve(scores, same) == 0.5
    point = tar_at_far(scores, same, [0.5])[0]
    assert (point.tar, point.far) == (0.0, 0.0)
    assert point.threshold > 0.5


def test_separated_scores_have_no_error():
    scores, same = [0.8, 0.7, 0.2, 0.1], [True, True, False, False]
    assert equal_error_rate(scores, same) == 0.0
    assert area_under_curve(scores, same) == 1.0


def test_a_far_below_the_resolution_is_the_tar_above_the_largest_impostor():
    point = tar_at_far(SCORES, SAME, [1e-6])[0]
    assert (point.tar, point.far, point.threshold) == (1 / 3, 0.0, 0.9)


@pytest.mark.parametrize(("far", "impostors"), [(0.29, 100), (1 / 3000, 3000), (0.07, 100)])
def test_a_far_that_is_a_whole_number_of_pairs_allows_that_number(far, impostors):
    scores = np.concatenate([[2.0], np.linspace(1.0, 0.0, impostors)])
    point = tar_at_far(scores, np.arange(impostors + 1) == 0, [far])[0]
    assert round(point.far * impostors) == round(far * impostors)


def test_one_far_may_be_a_number():
    assert tar_at_far(SCORES, SAME, 0.25) == tar_at_far(SCORES, SAME, [0.25])


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, np.nan], [True, False], r"similarities\[1\] is NaN"),
        ([0.1, 0.2], [True, True], "2 genuine and 0 impostor pairs"),
        ([0.1, 0.2], [True], r"\(2,\) and \(1,\)"),
        ([0.1, 0.2], [0, 3], "True"),
    ],
)
def test_bad_pairs_are_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        tar_at_far(scores, same, [0.1])


def test_bad_rates_and_readings_are_refused():
    with pytest.raises(ValueError, match=r"share in \[0, 1\), got 1;"):
        tar_at_far(SCORES, SAME, [1.0])
    with pytest.raises(ValueError, match="did you mean 'nearest'"):
        tar_at_far(SCORES, SAME, [0.1], reading="neerest")


def test_lfw_scores_give_the_published_check_values(data_dir):
    path = data_dir / "reference" / "lfw150_foamliu_onnxruntime.npz"
    scores = np.load(path, allow_pickle=False)["s"].astype(np.float64)
    same = np.tile(np.arange(600) < 300, 10)
    for reading in ("le", "nearest"):
        points = tar_at_far(scores, same, [1e-1, 1e-2, 1e-3], reading=reading)
        assert [round(point.tar, 5) for point in points] == [0.99633, 0.99033, 0.98300]
    assert area_under_curve(scores, same) == pytest.approx(0.998719, abs=5e-7)
    assert equal_error_rate(scores, same) == pytest.approx(0.00967, abs=5e-6)
    angles = np.degrees(np.arccos(scores))
    assert angles[same].mean() == pytest.approx(48.81, abs=5e-3)
    assert angles[~same].mean() == pytest.approx(89.41, abs=5e-3)
