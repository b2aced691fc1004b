"""Triplet and circle losses beside pytorch-metric-learning, value and gradient in float64."""

import jax
import numpy as np
import pytest

import arcface_jax as af

PEER = """
import torch
from pytorch_metric_learning import losses, miners
make = {
    "batch_all": (lambda: losses.TripletMarginLoss(margin=0.2), None),
    "batch_hard": (lambda: losses.TripletMarginLoss(margin=0.2), miners.BatchHardMiner),
    "circle": (lambda: losses.CircleLoss(m=0.4, gamma=80), None),
    "circle_face": (lambda: losses.CircleLoss(m=0.25, gamma=256), None),
}
loss, miner = make[str(inputs["name"])]
x = torch.tensor(inputs["x"], requires_grad=True)
labels = torch.tensor(inputs["labels"])
value = loss()(x, labels, miner()(x, labels) if miner else None)
value.backward()
outputs.update(value=value.detach().numpy(), x=x.grad.numpy())
"""

TRIPLET = dict(margin=0.2, distance="euclidean", mean_over="active")
CASES = {
    "batch_all": lambda x, y: af.losses.triplet(x, y, mining="batch_all", **TRIPLET),
    "batch_hard": lambda x, y: af.losses.triplet(x, y, mining="batch_hard", **TRIPLET),
    "circle": lambda x, y: af.losses.circle_pair(x, y),
    "circle_face": lambda x, y: af.losses.circle_pair(x, y, m=0.25, scale=256.0),
}


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_pytorch_metric_learning(name, peers, rng):
    # Class 6 has a single row: an anchor without a positive.
    labels = np.append(rng.integers(0, 6, 23), 6)
    x = rng.normal(size=(24, 16)) + 2.0 * rng.normal(size=(7, 16))[labels]
    theirs = peers(PEER, name=name, x=x, labels=labels)
    with jax.enable_x64(True):

        def mean(x):
            values, counts = CASES[name](x, labels)
            return values.sum() / counts.sum()

        value, gradient = jax.jit(jax.value_and_grad(mean))(x)
        assert float(value) == pytest.approx(float(theirs["value"]), rel=1e-6)
        largest = np.abs(theirs["x"]).max()
        np.testing.assert_allclose(gradient, theirs["x"], rtol=1e-6, atol=1e-6 * largest)
