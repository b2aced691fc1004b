import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from arcface_jax.evaluation import all_pairs_roc, equal_error_rate, tar_at_far
from arcface_jax.evaluation.all_pairs import summarise_pairs
from arcface_jax.evaluation.embeddings import at_most_per_identity, unit_rows

FARS = [0.0, 1e-3, 1e-2, 0.1, 0.5]
SIZES = [1, 2, 9, 4, 1, 12, 3, 3, 1, 5]


def random_set(seed):
    """Images of ten identities in mixed order; distinct scores."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(10) * 7, SIZES))
    return rng.normal(size=(10, 6))[labels // 7] + rng.normal(size=(labels.size, 6)), labels


def tied_set(seed):
    """Rows of four entries of +-1/2: their products are exact multiples of a quarter."""
    rng = np.random.default_rng(seed)
    x, labels = random_set(seed)
    x = np.zeros((len(x), 6))
    for row in x:
        row[rng.permutation(6)[:4]] = rng.choice([-0.5, 0.5], 4)
    return x, labels


def every_pair(x, labels):
    """Scores of all pairs, from the whole matrix."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    i, j = np.triu_indices(len(x), 1)
    return (unit @ unit.T)[i, j], labels[i] == labels[j]


every_set = pytest.mark.parametrize(
    ("x", "labels"), [make(seed) for make in (random_set, tied_set) for seed in range(3)]
)


@every_set
@pytest.mark.parametrize("block", [1, 7, 50, 333, 10**6])
@pytest.mark.parametrize("reading", ["le", "nearest"])
def test_streamed_equals_the_whole_matrix(x, labels, block, reading):
    scores, same = every_pair(x, labels)
    roc = all_pairs_roc(x, labels, FARS, reading=reading, block=block)
    for found, wanted in zip(roc.tar, tar_at_far(scores, same, FARS, reading=reading), strict=True):
        np.testing.assert_allclose(found[:3], wanted[:3], atol=1e-15)
        assert found.threshold == pytest.approx(wanted.threshold, abs=1e-14)
    assert roc.eer == pytest.approx(equal_error_rate(scores, same), abs=1e-12)
    assert roc.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    assert (roc.genuine, roc.impostor, roc.images) == (same.sum(), (~same).sum(), labels.size)


@every_set
def test_order_of_the_images_and_names_of_the_identities_change_nothing(x, labels):
    order = np.random.default_rng(0).permutation(labels.size)
    renamed = np.random.default_rng(1).permutation(100)[labels]
    expected, found = all_pairs_roc(x, labels, FARS), all_pairs_roc(x[order], renamed[order], FARS)
    assert [point[:3] for point in found.tar] == [point[:3] for point in expected.tar]
    assert (found.eer, found.auc) == (expected.eer, expected.auc)


@every_set
def test_length_of_the_embeddings_does_not_count(x, labels):
    lengths = 2.0 ** np.random.default_rng(0).integers(-20, 20, size=(len(x), 1))
    assert all_pairs_roc(x * lengths, labels, FARS) == all_pairs_roc(x, labels, FARS)


def test_jax_arrays_of_any_precision_are_taken():
    x, labels = tied_set(0)
    expected = all_pairs_roc(x, labels, FARS)
    for dtype in (jnp.float32, jnp.bfloat16):
        assert all_pairs_roc(jnp.asarray(x, dtype), jnp.asarray(labels), FARS) == expected


def test_equal_embeddings_are_worth_a_coin():
    roc = all_pairs_roc(np.ones((8, 1)), np.repeat([0, 1], 4), [0.1])
    assert (roc.eer, roc.auc, roc.tar[0].tar, roc.tar[0].far) == (0.5, 0.5, 0.0, 0.0)


@pytest.mark.parametrize("cap", [2, 4, 100])
def test_a_cap_compares_at_most_so_many_images_an_identity(cap):
    x, labels = random_set(0)
    kept = at_most_per_identity(labels, cap, seed=3)
    roc = all_pairs_roc(x, labels, FARS, max_images_per_identity=cap, seed=3)
    assert roc == all_pairs_roc(x[kept], labels[kept], FARS)
    sizes = np.unique(labels[kept], return_counts=True)[1]
    assert sorted(sizes) == sorted(np.minimum(SIZES, cap))


@every_set
@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_highest_impostors_are_kept_with_their_images(x, labels, block):
    unit = unit_rows(x)
    scores, same = every_pair(x, labels)
    summary = summarise_pairs(unit, labels, fars=[], top=40, block=block)
    first, second = summary.top_images
    np.testing.assert_allclose(summary.top, -np.sort(-scores[~same])[:40], atol=1e-14)
    np.testing.assert_allclose((unit[first] * unit[second]).sum(axis=1), summary.top, atol=1e-14)
    assert (labels[first] != labels[second]).all()
    assert len({frozenset(pair) for pair in zip(first, second, strict=True)}) == 40
    equal = np.isclose(scores[~same], summary.top[-1], rtol=0, atol=1e-12).sum()
    assert (
        summary.more_at_last == equal - np.isclose(summary.top, summary.top[-1], atol=1e-12).sum()
    )


@pytest.mark.parametrize("block", [7, 10**6])
def test_angles_of_all_pairs_are_counted_by_degree(block):
    x, labels = random_set(0)
    scores, same = every_pair(x, labels)
    angles = np.degrees(np.arccos(scores))
    summary = summarise_pairs(unit_rows(x), labels, fars=[], block=block)
    for counts, kind in ((summary.genuine_angles, same), (summary.impostor_angles, ~same)):
        np.testing.assert_array_equal(counts, np.histogram(angles[kind], np.arange(181))[0])


def test_angles_that_end_a_bin_count_in_the_next_one():
    x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    summary = summarise_pairs(unit_rows(x), np.array([0, 0, 1, 2]), fars=[])
    assert np.flatnonzero(summary.genuine_angles).tolist() == [0]
    assert summary.impostor_angles[[90, 179]].tolist() == [3, 2]


def test_missing_kinds_and_bad_rows_are_refused():
    x = np.ones((4, 2))
    with pytest.raises(ValueError, match="none of the 4 identities has two images"):
        all_pairs_roc(x, np.arange(4))
    with pytest.raises(ValueError, match="all images are of one identity"):
        all_pairs_roc(x, np.zeros(4, int))
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"embeddings\[2\] holds NaN or infinity"):
        all_pairs_roc(x, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="at least 1"):
        all_pairs_roc(np.ones((4, 2)), [0, 0, 1, 1], block=0)
    with pytest.raises(ValueError, match="choose >= 2"):
        all_pairs_roc(np.ones((4, 2)), [0, 0, 1, 1], max_images_per_identity=1)


def test_float32_products_match_the_matrix_in_float64():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 150, size=1500)
    x = (rng.normal(size=(150, 64))[labels] + rng.normal(size=(1500, 64))).astype(np.float32)
    scores, same = every_pair(x.astype(np.float64), labels)
    roc = all_pairs_roc(x, labels, block=100_000)
    for found, wanted in zip(roc.tar, tar_at_far(scores, same, [1e-2, 1e-3, 1e-4]), strict=True):
        assert found.tar == pytest.approx(wanted.tar, abs=2 / same.sum())
        assert found.far == wanted.far
    assert roc.eer == pytest.approx(equal_error_rate(scores, same), abs=1e-5)
    assert roc.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-7)
