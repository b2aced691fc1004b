import pytest

from arcface_jax.data.faces import draw_identity


def test_an_identity_does_not_depend_on_how_many_are_drawn():
    alone = draw_identity(5, seed=2)
    assert alone == [draw_identity(index, seed=2) for index in range(8)][5]
    assert alone == [draw_identity(index, seed=2) for index in reversed(range(3, 6))][0]
    assert alone != draw_identity(5, seed=3)
    assert draw_identity(1, seed=2) != draw_identity(2, seed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_identity(-1, seed=0), "index=-1"),
        (lambda: draw_identity(0, seed=-2), "seed=-2"),
    ],
)
def test_bad_arguments_say_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
