from arcface_jax.data.progress import shown


def test_short_work_says_nothing(capsys):
    assert list(shown(range(3), what="counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_long_work_says_how_far_it_is(capsys):
    assert list(shown(iter("ab"), what="counting", total=7, step=4, after=0.0)) == ["a", "b"]
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("counting: 4 of 7, ") and said[-1].startswith("counting: 7 in ")
