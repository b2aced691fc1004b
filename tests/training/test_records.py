"""A run's record."""

import io

import pytest

from arcface_jax.training.records import JsonLines, Progress, format_seconds, read_json_lines


def test_resuming_drops_lines_that_will_be_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as lines:
        for step in (1, 20, 40):
            lines.write({"step": step})
    with JsonLines(path, keep_until=21) as lines:
        lines.write({"step": 40, "again": True})
    assert read_json_lines(path) == [{"step": 1}, {"step": 20}, {"step": 40, "again": True}]


def test_a_last_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1}]


def test_a_broken_line_inside_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"line 2 is not JSON: 'nonsense'"):
        read_json_lines(path)


def test_numbers_that_json_lacks_become_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as lines:
        lines.write({"step": 1, "loss": float("nan"), "norm": float("inf")})
    assert read_json_lines(path) == [{"step": 1, "loss": None, "norm": None}]


def test_progress_says_rate_time_left_loss_and_angle():
    stream = io.StringIO()
    progress = Progress("[1/2] arcface", 100, stream=stream, every=0.0)
    progress.show(50, rate=1000.0, batch_size=20, loss=1.5, theta=45.25)
    progress.close()
    assert stream.getvalue() == (
        "[1/2] arcface  50/100  1,000 images/s  0:01 left  loss 1.500  theta 45.2 deg\n"
    )


def test_durations_are_readable():
    assert [format_seconds(s) for s in (0, 61, 3600)] == ["0:00", "1:01", "1:00:00"]
