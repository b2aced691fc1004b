"""Six losses on built-in synthetic faces, in minutes on two CPU cores: what `make demo` runs.

Command   python -m experiments.sweep --config=experiments/configs/demo.py --workdir=runs/demo
Smoke     add --config.steps=10 --config.data.options.identities=20
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config() -> ConfigDict:
    """100 identities to train on, 60 others to test on, 12 images of 32 px each."""
    config = base.get_config()
    config.data.options.identities = 100
    config.data.options.test_identities = 60
    config.data.options.images_per_identity = 12
    config.augmentation.flip = 0.5
    config.augmentation.shift_px = 2
    config.augmentation.brightness = 0.1
    config.model.widths = (12, 24, 48, 96)
    config.steps = 150
    config.batch_size = 96
    config.schedule.warmup = 15
    config.log_every = 5
    config.evaluation.resamples = 100
    return config


def sweep():
    """The paper's losses, with a scale and margins that suit a hundred classes."""
    yield {"margin.name": "softmax"}
    yield {"margin.name": "norm_softmax", "scale": 16.0}
    yield {"margin.name": "sphereface", "margin.m": 1.2, "scale": 16.0}
    yield {"margin.name": "cosface", "margin.m": 0.2, "scale": 16.0}
    yield {"margin.name": "arcface", "margin.m": 0.3, "scale": 16.0}
    yield {
        "margin.name": "combined",
        "margin.m1": 0.95,
        "margin.m2": 0.2,
        "margin.m3": 0.1,
        "scale": 16.0,
    }
