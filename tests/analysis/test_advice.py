import math

import pytest

from arcface_jax.analysis import fixed_adacos_scale, suggest_scale


@pytest.mark.parametrize("classes", [2, 10, 10_572])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.999])
def test_at_the_suggested_scale_a_centre_reaches_the_probability(classes, probability):
    # The most even spread of C centres has cosine -1 / (C - 1) between any two.
    s = suggest_scale(classes, probability)
    reached = 1.0 / (1.0 + (classes - 1) * math.exp(-s * (1.0 + 1.0 / (classes - 1))))
    assert reached == pytest.approx(probability, abs=1e-9)


def test_fixed_scale_is_the_value_of_the_paper():
    assert fixed_adacos_scale(10_572) == pytest.approx(13.103919, abs=5e-7)


@pytest.mark.parametrize("probability", [0.1, 0.05, 1.0, 90.0])
def test_a_probability_out_of_reach_is_refused(probability):
    with pytest.raises(ValueError, match="choose 0.1 < probability < 1 for 10 classes"):
        suggest_scale(10, probability)


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes=1"):
        suggest_scale(1)
    with pytest.raises(ValueError, match="use suggest_scale"):
        fixed_adacos_scale(2)
