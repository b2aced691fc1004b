"""Learning-rate schedules against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arcface_jax.training import ScheduleConfig


def factors(**fields):
    schedule = ScheduleConfig(**fields)
    return np.array([float(schedule.factor(t)) for t in range(schedule.steps)])


def test_warm_up_rises_linearly_and_trains_on_its_first_step():
    got = factors(name="constant", steps=10, warmup=4)
    np.testing.assert_allclose(got, [0.25, 0.5, 0.75, 1.0] + [1.0] * 6)


def test_cosine_is_half_a_wave():
    got = factors(name="cosine", steps=11, warmup=1)
    t = np.arange(10) / 10
    np.testing.assert_allclose(got[1:], 0.5 * (1 + np.cos(np.pi * t)), atol=1e-6)


def test_poly_is_a_power_of_the_time_left():
    got = factors(name="poly", steps=10, power=2.0)
    np.testing.assert_allclose(got, (1 - np.arange(10) / 10) ** 2, atol=1e-6)


def test_step_divides_by_ten_at_each_drop():
    got = factors(name="step", steps=8, warmup=1, drops=(4, 6))
    np.testing.assert_allclose(got, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "poly"])
def test_the_step_may_be_traced(name):
    schedule = ScheduleConfig(name=name, steps=8, warmup=2)
    got = jax.jit(schedule.factor)(jnp.int32(5))
    assert float(got) == pytest.approx(float(schedule.factor(5)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(name="cosin", steps=5), "unknown schedule 'cosin'"),
        (dict(steps=0), "at least 1"),
        (dict(steps=5, warmup=5), "shorten the warm-up"),
        (dict(name="step", steps=5, drops=(3, 2)), "rise strictly"),
        (dict(name="step", steps=5, drops=(7,)), "rise strictly"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**fields)
