from arcface_jax.data.progress import shown


def test_short_work_says_nothing(capsys):
    assert list(shown(range(3), what="counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_long_work_says_how_far_it_is(capsys):
    assert list(shown(iter("ab"), what="counting", total=7, step=4, after=0.0)) == ["a", "b"]
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("counting: 4 of 7, ") and said[-1].startswith("counting: 7 in ")


def test_time_left_follows_from_the_rate(capsys, monkeypatch):
    # Start, then one look after each item: 20 and 40 seconds for 4 of 10 each.
    clock = iter([0.0, 20.0, 40.0, 40.0])
    monkeypatch.setattr("arcface_jax.data.progress.time.monotonic", lambda: next(clock))
    list(shown(iter("ab"), what="embedding", total=10, step=4, after=0.0))
    assert capsys.readouterr().err.splitlines()[0] == "embedding: 4 of 10, 0.2/s, 0:00:30 left"
