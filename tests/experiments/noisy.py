"""Sub-centres on a handful of small faces with wrong images among them; data.name is a folder."""

from experiments.configs import base


def get_config():
    config = base.get_config()
    config.data.size = 24
    config.model.depths = (1, 1, 1)
    config.model.widths = (8, 16, 32)
    config.model.embedding_dim = 32
    config.margin.name = "subcenter_arcface"
    config.margin.m = 0.3
    config.scale = 16.0
    config.steps = 40
    config.batch_size = 42
    config.schedule.warmup = 10
    config.evaluation.resamples = 0
    return config


def sweep():
    yield {}
