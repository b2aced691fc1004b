import math

import numpy as np
import pytest

from arcface_jax.evaluation import (
    area_under_curve,
    draw_pairs,
    equal_error_rate,
    evaluate_pairs,
    tar_at_far,
    ten_fold_accuracy,
)


def random_set(noise=0.8, identities=40, images=4):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(identities), images)
    centers = rng.normal(size=(identities, 8))
    x = centers[labels] + noise * rng.normal(size=(labels.size, 8))
    drawn = draw_pairs(labels, per_class=12, seed=0)
    # Mixed, so that folds are no blocks of the list.
    mixed = rng.permutation(240)
    columns = (drawn.first, drawn.second, drawn.same, drawn.fold)
    return x.astype(np.float32), labels, tuple(column[mixed] for column in columns)


def cosines(x, pairs):
    """In Python's own floats, one pair after the other."""
    values = []
    for a, b in zip(x[pairs[0]].tolist(), x[pairs[1]].tolist(), strict=True):
        dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
        values.append(dot / math.hypot(*a) / math.hypot(*b))
    return np.array(values)


def test_numbers_are_those_of_the_single_protocols():
    x, labels, pairs = random_set()
    # 4 % of 120 impostor pairs lie between four and five.
    fars = [1e-1, 4e-2]
    result = evaluate_pairs(x, labels, pairs, fars=fars)
    s, same = cosines(x, pairs), pairs[2]
    np.testing.assert_allclose(result.similarities, s, rtol=0, atol=1e-14)
    alone = ten_fold_accuracy(s, same, pairs[3])
    assert alone.accuracy != ten_fold_accuracy(s, same).accuracy
    assert 0.6 < alone.accuracy < 1.0 and result.ten_fold.accuracy == alone.accuracy
    assert result.auc == area_under_curve(s, same) and result.eer == equal_error_rate(s, same)
    for reading, points in (("le", result.tar), ("nearest", result.tar_nearest)):
        expected = tar_at_far(s, same, fars, reading=reading)
        assert [(p.tar, p.far) for p in points] == [(p.tar, p.far) for p in expected]
    assert (result.tar[1].far, result.tar_nearest[1].far) == (4 / 120, 5 / 120)
    degrees = np.array([math.degrees(math.acos(value)) for value in s])
    assert result.genuine_deg == pytest.approx(degrees[same].mean(), abs=1e-9)
    assert result.impostor_deg == pytest.approx(degrees[~same].mean(), abs=1e-9)
    assert result.genuine_deg < result.impostor_deg - 10.0


def test_metrics_have_the_names_that_reports_read():
    result = evaluate_pairs(*random_set())
    assert list(result.metrics) == [
        "pair_accuracy",
        "pair_accuracy_std",
        *("tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3"),
        *("auc", "eer", "genuine_deg", "impostor_deg"),
    ]
    assert result.metrics["tar_at_far_1e-1"] == result.tar[0].tar


def test_lengths_of_embeddings_do_not_matter():
    x, labels, pairs = random_set()
    scale = np.random.default_rng(1).uniform(0.1, 10.0, (len(x), 1))
    scaled = evaluate_pairs(x * scale, labels, pairs)
    assert scaled.metrics == pytest.approx(evaluate_pairs(x, labels, pairs).metrics, abs=1e-6)


def test_a_list_ordered_by_kind_gets_folds_of_both_kinds():
    x, labels, pairs = random_set()
    order = np.argsort(~pairs[2], kind="stable")
    result = evaluate_pairs(x, labels, [column[order] for column in pairs[:3]])
    assert result.ten_fold.thresholds.size == 10
    assert any("ordered by kind" in note for note in result.notes)


def test_what_the_list_cannot_resolve_is_said():
    notes = evaluate_pairs(*random_set(), fars=[1e-1, 1e-3]).notes
    assert any(note.startswith("tar_at_far_1e-3: below the resolution of 120") for note in notes)
    assert not any("1e-1" in note for note in notes)


def test_folds_that_share_identities_are_said():
    x, labels, pairs = random_set()
    assert not any("share identities" in note for note in evaluate_pairs(x, labels, pairs).notes)
    shuffled = (*pairs[:3], np.random.default_rng(0).permutation(pairs[3]))
    notes = evaluate_pairs(x, labels, shuffled).notes
    assert any("folds share identities" in note for note in notes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y, p: (x, y, (p[0], p[1], ~p[2], p[3])), "pair 0 is listed as same"),
        (lambda x, y, p: (x, y, (p[0] + 1000, *p[1:])), "pair 0 names image 1"),
        (lambda x, y, p: (x * np.inf, y, p), r"embeddings\[0\] holds NaN"),
        (lambda x, y, p: (x, y[:-1], p), "expected 160 labels"),
    ],
)
def test_mistakes_are_named(spoil, message):
    with np.errstate(invalid="ignore"):
        arguments = spoil(*random_set())
    with pytest.raises(ValueError, match=message):
        evaluate_pairs(*arguments)
