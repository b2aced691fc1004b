r"""Trains one model and evaluates it on identities that it never saw.

Command   python -m experiments.train --config=experiments/configs/base.py \
              --config.margin.name=cosface --config.scale=32 --workdir=runs/cosface
Writes    what a sweep of one point writes; python -m experiments.report reads it
"""

import sys

from experiments import command_line
from experiments.sweep import run_sweep


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    command_line.refuse_arguments(argv)
    complete = run_sweep(
        command_line.config(),
        [{}],
        command_line.workdir(),
        data_dir=command_line.DATA_DIR.value,
        manual_dir=command_line.MANUAL_DIR.value,
    )
    if not complete:
        sys.exit(1)


if __name__ == "__main__":
    from experiments.margin_fields import margins_help

    command_line.run(main, more_help=margins_help)
