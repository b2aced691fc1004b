"""Margins on Omniglot: train on 964 characters, test on 659 of 20 alphabets never seen.

Command   python -m experiments.sweep --config=experiments/configs/omniglot_margins.py \
              --workdir=runs/omniglot_margins
Search    --sweep=scale, then --sweep=margin: scale and margin of each loss, chosen by TAR at FAR
          1e-3 on 5 background alphabets that such a run does not train on, one seed
Smoke     add --config.steps=5 --index=0 for a run of seconds
"""

from ml_collections import ConfigDict

from experiments.configs import base

SEEDS = 5

VALIDATION = {"data.evaluate_on": "validation", "data.validation_groups": 5}


def get_config() -> ConfigDict:
    """The small ResNet at 28 px, 600 steps of 128 (4 epochs)."""
    config = base.get_config()
    config.data.name = "omniglot"
    config.data.size = 28
    config.data.channels = 1
    config.augmentation.shift_px = 2
    config.augmentation.rotate_deg = 10.0
    config.augmentation.scale = 0.1
    config.steps = 600
    config.evaluation.resamples = 100
    return config


def sweep_scale():
    """Scale of each loss at a middling margin; softmax has none, its learning rate is searched."""
    for rate in (0.05, 0.1, 0.2):
        yield {"margin.name": "softmax", "learning_rate": rate, **VALIDATION}
    for scale in (8.0, 16.0, 32.0, 64.0):
        yield {"margin.name": "norm_softmax", "scale": scale, **VALIDATION}
    for name, m in (("sphereface", 1.2), ("cosface", 0.2), ("arcface", 0.3)):
        for scale in (16.0, 32.0, 64.0):
            yield {"margin.name": name, "margin.m": m, "scale": scale, **VALIDATION}
