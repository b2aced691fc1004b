"""What every entry point does with a signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ENTRY = """
import gc, signal, sys, time
from experiments import command_line

def while_python_runs(argv):
    signal.raise_signal(int(argv[1]))

def while_an_extension_loads(argv):
    try:
        signal.raise_signal(int(argv[1]))
    except KeyboardInterrupt as interrupt:
        raise ImportError("an extension could not be loaded") from interrupt

def inside_a_callback_of_the_garbage_collector(argv):
    def callback(phase, info):
        gc.callbacks.remove(callback)
        signal.raise_signal(int(argv[1]))

    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(100)

command_line.run(WHEN)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "when",
    [
        "while_python_runs",
        "while_an_extension_loads",
        "inside_a_callback_of_the_garbage_collector",
    ],
)
def test_a_signal_stops_a_command_wherever_it_arrives(when, number):
    # Where the tests run in the background SIGINT is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    finished = subprocess.run(
        [sys.executable, "-c", ENTRY.replace("WHEN", when), str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 128 + number, finished.stderr
    assert finished.stderr == "\nstopped; the same command goes on from here.\n"
