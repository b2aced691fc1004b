"""A sweep of seconds: two margins on a handful of small synthetic faces."""

from experiments.configs import base


def get_config():
    config = base.get_config()
    config.data.size = 16
    config.data.options.identities = 12
    config.data.options.test_identities = 24
    config.data.options.images_per_identity = 4
    config.model.depths = (1, 1)
    config.model.widths = (4, 8)
    config.model.embedding_dim = 8
    config.steps = 6
    config.batch_size = 16
    config.schedule.warmup = 2
    config.log_every = 1
    config.checkpoint_every = 20
    config.evaluation.resamples = 10
    return config


def sweep():
    yield {"margin.name": "arcface", "margin.m": 0.3, "scale": 16.0}
    yield {"margin.name": "cosface", "margin.m": 0.2, "scale": 16.0, "learning_rate": 0.05}


def sweep_long():
    yield {"margin.name": "softmax", "steps": 6}
    yield {"margin.name": "arcface", "steps": 300}


def sweep_diverging():
    yield {"margin.name": "softmax", "learning_rate": 1e30}


def sweep_wrong():
    yield {"margn.name": "arcface"}
