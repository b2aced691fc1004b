"""Every margin through one table of properties; arcface_jax.testing says what each check is."""

import pytest
from margin_table import ROWS

import arcface_jax as af
from arcface_jax import testing
from arcface_jax.margins import GRADIENTS, TAILS


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("check", testing.CHECKS)
def test_margin_keeps(check, name):
    if check in ROWS[name].skips:
        pytest.skip(f"the definition of {name} rules {check} out, see margin_table.py")
    testing.CHECKS[check](ROWS[name].margin)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.monotone])
def test_a_larger_angle_never_gets_a_larger_target(name):
    testing.monotone(ROWS[name].margin)


def test_the_table_has_every_registered_margin():
    assert set(af.MARGINS) <= set(ROWS)


@pytest.mark.parametrize("name", af.MARGINS)
def test_a_wrong_gradient_does_not_pass(name, monkeypatch):
    """The checks can fail: a target that moves twice as fast as its gradient says."""
    if "finite_differences" in ROWS[name].skips:
        pytest.skip(f"{name} is not checked by finite differences")
    margin = ROWS[name].margin
    kind = type(margin)
    question = "target_loss" if margin.link == "sum" else "target"
    answer = getattr(kind, question)

    def doubled(self, values, context):
        halved = answer(self, values, context)
        return 2.0 * halved - testing.jax.lax.stop_gradient(halved)

    monkeypatch.setattr(kind, question, doubled)
    with pytest.raises(AssertionError):
        testing.finite_differences(margin)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", ["finite_everywhere", "compiled_is_eager"])
def test_every_tail_keeps(name, gradient, tail):
    testing.CHECKS[name](af.combined(0.9, 0.4, 0.15, tail=tail, gradient=gradient))
