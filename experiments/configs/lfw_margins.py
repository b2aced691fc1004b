"""Margins on LFW's development split: train on peopleDevTrain, test on pairsDevTest.

Command   python -m experiments.sweep --config=experiments/configs/lfw_margins.py \
              --workdir=runs/lfw_margins
Search    --sweep=rate, --sweep=scale, --sweep=margin, each with what the one before chose on 10 %
          of the training people that such a run does not train on, one seed
Smoke     add --config.steps=60 --index=0
"""

from ml_collections import ConfigDict

from experiments.configs import base
from experiments.configs.omniglot_margins import MIDDLING, MIXTURES, SEEDS

VALIDATION = {
    "data.evaluate_on": "validation",
    "data.validation_fraction": 0.1,
    "evaluation.pairs": "",
    "steps": 400,
}

# The table: each loss where its search ended, by TAR at FAR 1e-2.
SETTINGS = (
    {"margin.name": "softmax", "learning_rate": 0.8},
    {"margin.name": "norm_softmax", "learning_rate": 0.05, "scale": 16.0},
    {"margin.name": "sphereface", "margin.m": 1.1, "learning_rate": 0.05, "scale": 16.0},
    {"margin.name": "cosface", "margin.m": 0.2, "learning_rate": 0.05, "scale": 16.0},
    {"margin.name": "arcface", "margin.m": 0.45, "learning_rate": 0.1, "scale": 16.0},
    *({**mixture, "learning_rate": 0.05, "scale": 16.0} for mixture in MIXTURES),
)


def get_config() -> ConfigDict:
    """The small ResNet at 32 px, 800 steps of 128 (11 epochs of 9,511 aligned images)."""
    config = base.get_config()
    config.data.name = "lfw"
    config.data.size = 32
    config.augmentation.flip = 0.5
    config.augmentation.shift_px = 2
    config.augmentation.brightness = 0.1
    config.augmentation.contrast = 0.1
    config.steps = 800
    config.learning_rate = 0.2
    config.evaluation.pairs = "pairsDevTest"
    config.evaluation.max_images_per_identity = 10
    config.evaluation.resamples = 100
    return config


def sweep_rate():
    """Learning rate of each loss."""
    for rate in (0.2, 0.4, 0.1):
        yield {"margin.name": "softmax", "learning_rate": rate, **VALIDATION}
        for name, margin in MIDDLING.items():
            point = {"margin.name": name, **margin, "scale": 16.0}
            yield {**point, "learning_rate": rate, **VALIDATION}


def sweep_scale():
    """Scale of each loss at its middling margin and the rate that the search above favours."""
    for scale, rate in ((8.0, 0.1), (32.0, 0.1), (16.0, 0.05)):
        for name, margin in MIDDLING.items():
            point = {"margin.name": name, **margin, "scale": scale}
            yield {**point, "learning_rate": rate, **VALIDATION}
    yield {"margin.name": "softmax", "learning_rate": 0.8, **VALIDATION}


def sweep_margin():
    """Margins on both sides of the middling one, and two mixtures, at scale 16; rates further."""
    yield {"margin.name": "softmax", "learning_rate": 1.6, **VALIDATION}
    rate = {"scale": 16.0, "learning_rate": 0.05}
    yield {"margin.name": "norm_softmax", "scale": 16.0, "learning_rate": 0.025, **VALIDATION}
    for name, margins, at in (
        ("sphereface", (1.1, 1.35), rate),
        ("cosface", (0.1, 0.3), rate),
        ("arcface", (0.2, 0.45), {"scale": 16.0, "learning_rate": 0.1}),
    ):
        for margin in margins:
            yield {"margin.name": name, "margin.m": margin, **at, **VALIDATION}
    for mixture in MIXTURES:
        yield {**mixture, **rate, **VALIDATION}


def sweep():
    """The table: every setting with every seed, tested on people never seen."""
    for seed in range(SEEDS):
        for setting in SETTINGS:
            yield {**setting, "seed": seed}
