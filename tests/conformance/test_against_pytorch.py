"""The margin softmax loss beside pytorch-metric-learning, value and gradients in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import arcface_jax as af

PEER = """
import numpy as np, torch
from pytorch_metric_learning import losses, reducers
make = {
    "arcface": lambda c, d, m, s: losses.ArcFaceLoss(c, d, margin=np.rad2deg(m), scale=s),
    "cosface": lambda c, d, m, s: losses.CosFaceLoss(c, d, margin=m, scale=s),
    "norm_softmax": lambda c, d, m, s: losses.NormalizedSoftmaxLoss(c, d, temperature=1.0 / s),
    "sphereface_psi": lambda c, d, m, s: losses.SphereFaceLoss(c, d, margin=m, scale=1.0),
    "l_softmax": lambda c, d, m, s: losses.LargeMarginSoftmaxLoss(c, d, margin=m, scale=1.0),
    "subcenter_arcface": lambda c, d, m, s: losses.SubCenterArcFaceLoss(
        num_classes=c // 3, embedding_size=d, margin=np.rad2deg(m), scale=s, sub_centers=3
    ),
}
w = inputs["w"]
loss = make[str(inputs["name"])](*w.shape, float(inputs["m"]), float(inputs["s"])).double()
loss.reducer = reducers.DoNothingReducer()
loss.W.data = torch.tensor(w.T.copy())
x = torch.tensor(inputs["x"], requires_grad=True)
value = loss(x, torch.tensor(inputs["labels"]))["loss"]["losses"]
value.sum().backward()
outputs.update(value=value.detach().numpy(), x=x.grad.numpy(), w=loss.W.grad.numpy().T)
"""

CASES = {
    "arcface": (af.arcface(0.5), 0.5, 64.0),
    "cosface": (af.cosface(0.35), 0.35, 30.0),
    "norm_softmax": (af.norm_softmax(), 0.0, 16.0),
    "sphereface_psi": (af.sphereface_psi(4, annealed=False), 4, None),
    "l_softmax": (af.l_softmax(4), 4, None),
    "subcenter_arcface": (af.subcenter_arcface(0.4), 0.4, 64.0),
}


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_equal_pytorch_metric_learning(name, peers, rng):
    margin, m, scale = CASES[name]
    k = margin.centers_per_class
    x, w = rng.normal(size=(32, 16)), rng.normal(size=(11 * k, 16))
    labels = rng.integers(0, 11, 32)
    # Both sides of the tail: some rows point away from their centre.
    x[:8] = -w[k * labels[:8]] + 0.1 * rng.normal(size=(8, 16))
    theirs = peers(PEER, name=name, m=m, s=scale or 1.0, x=x, w=w, labels=labels)
    with jax.enable_x64(True):

        def losses(x, w):
            w = w if k == 1 else w.reshape(11, k, 16)
            got = af.margin_softmax_loss(
                x, w, labels, margin=margin, scale=scale, state=margin.init_state()
            )
            return got[0] if margin.keeps_state else got

        x, w = jnp.asarray(x), jnp.asarray(w)
        value, vjp = jax.vjp(losses, x, w)
        by_x, by_w = vjp(jnp.ones_like(value))
        np.testing.assert_allclose(value, theirs["value"], rtol=1e-6)
        largest = np.abs(theirs["x"]).max(), np.abs(theirs["w"]).max()
        np.testing.assert_allclose(by_x, theirs["x"], rtol=1e-6, atol=1e-6 * largest[0])
        np.testing.assert_allclose(by_w, theirs["w"], rtol=1e-6, atol=1e-6 * largest[1])
