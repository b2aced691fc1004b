"""Every margin loss again, in PyTorch float64: the tests' reference, independent of this library.

A loss is a function of the batch's cosines and its hyper-parameters, FUNCTIONS names them all, and
``losses`` goes from embeddings and weights to the losses of the rows. The derivatives are
autograd's, apart from those that a rule fixes (``with_slopes``) and the constants (``detach``).
Run with the dicts ``inputs`` and ``outputs``, as the fixture ``peers`` does, the file computes
the cases listed in ``inputs["cases"]``.
"""

import json
import math
from dataclasses import dataclass, replace

import torch

SINE_FLOOR = 2.0**-11.5


def tensor(value):
    return torch.as_tensor(value, dtype=torch.float64)


def with_slopes(value, *slopes):
    """``value``, whose derivatives are the given pairs of a slope and the tensor that it is by."""
    return value.detach() + sum(slope * (by - by.detach()) for slope, by in slopes)


def norm_of(v):
    """The norms along the last axis, with derivative 0 at 0."""
    square = (v * v).sum(-1)
    nonzero = square > 1e-24
    return torch.where(nonzero, torch.where(nonzero, square, 1.0).sqrt(), 0.0)


def normalise(v):
    """Unit vectors; a zero vector stays 0 and gets no gradient."""
    norm = norm_of(v)[..., None]
    return torch.where(norm > 0, v / torch.where(norm > 0, norm, 1.0), 0.0)


def cosines(unit_x, unit_w):
    c = torch.einsum("bd,...d->b...", unit_x, unit_w)
    return with_slopes(c.clamp(-1, 1), (1.0, c))


def sine(c):
    """sin(theta), a constant: where it is differentiated, the result's slope is written out."""
    c = c.detach()
    return ((1 - c) * (1 + c)).clamp(min=0).sqrt()


def angle(c):
    return with_slopes(torch.atan2(sine(c), c), (-1 / sine(c).clamp(min=SINE_FLOOR), c))


def rotated(c, m1, m2):
    """cos(m1 theta + m2), differentiable by ``c`` and ``m2``."""
    sin, fixed, m2 = sine(c), c.detach(), tensor(m2)
    delta = (m1 - 1) * angle(fixed) + m2.detach()
    by_c = m1 * (delta.cos() + fixed * delta.sin() / sin.clamp(min=SINE_FLOOR))
    by_m2 = -sin * delta.cos() - fixed * delta.sin()
    return with_slopes(fixed * delta.cos() - sin * delta.sin(), (by_c, c), (by_m2, m2))


def combined_cosine(c, m1=1.0, m2=0.0, m3=0.0, tail="hard", margin_am=0.0):
    """T(c): the base formula, or what the tail puts in its place."""
    base = rotated(c, m1, m2)
    boundary = tensor((math.pi - m2) / m1)
    rest = math.pi - boundary
    beyond = (rest > 0) & (c <= boundary.cos())
    replaced, value = {
        "hard": (beyond, c - rest * rest.sin()),
        "easy": (c <= 0, c),
        "mirror": (beyond, -2 - base),
        "clip": (beyond, tensor(-1.0)),
        "none": (torch.tensor(False), c),
        "min": (c < base, c),
        "facex": (beyond, c - margin_am),
    }[tail]
    return torch.where(replaced, value, base) - m3


def psi(c, m):
    """The continuation of cos(m theta) that decreases up to theta = pi."""
    k = (m * angle(c) / math.pi).floor().clamp(max=math.ceil(m) - 1).detach()
    if m == int(m):  # the Chebyshev polynomial, whose derivative needs no floor
        before, cosine = torch.ones_like(c), c
        for _ in range(int(m) - 1):
            before, cosine = cosine, 2 * c * cosine - before
    else:
        cosine = rotated(c, m, 0.0)
    return (1 - 2 * (k % 2)) * cosine - 2 * k


def by_convention(gradient, f, c):
    """f(c), whose derivative by c is 1 in the straight-through convention."""
    if gradient == "exact":
        return f(c)
    assert gradient == "straight_through", gradient
    return f(c.detach()) + (c - c.detach())


def softplus(a):
    return torch.logaddexp(a, torch.zeros_like(a))


@dataclass(frozen=True)
class Rows:
    """A batch: cosines ``c`` [B, C], labels ``y``, and what some losses need besides."""

    c: torch.Tensor
    y: torch.Tensor
    s: float | None = None
    norm: torch.Tensor | None = None
    x: torch.Tensor | None = None
    w: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    state: dict | None = None
    drawn: torch.Tensor | None = None

    @property
    def c_y(self):
        return self.c.gather(1, self.y[:, None])[:, 0]

    def select(self, target, others):
        """``target`` [B] in the columns of the labels, ``others`` [B, C] elsewhere."""
        own = self.y[:, None] == torch.arange(others.shape[1])
        return torch.where(own, target[..., None], others)

    def cross_entropy(self, z):
        z_y = z.gather(1, self.y[:, None])[:, 0]
        return softplus(self.select(tensor(-math.inf), z).logsumexp(1) - z_y)

    def loss(self, target, others=None, scale=None):
        """The cross entropy of the scaled cosines, ``target`` [B] being those of the labels."""
        z = self.select(target, self.c if others is None else others)
        return self.cross_entropy(tensor(self.s if scale is None else scale).reshape(-1, 1) * z)


def softmax(rows):
    z = rows.x @ rows.w.T
    return rows.cross_entropy(z if rows.bias is None else z + rows.bias)


def norm_softmax(rows):
    return rows.loss(rows.c_y)


def combined(rows, m1=1.0, m2=0.0, m3=0.0, tail="hard", margin_am=0.0, gradient="exact"):
    def target(c):
        return combined_cosine(c, m1, m2, m3, tail, margin_am)

    return rows.loss(by_convention(gradient, target, rows.c_y))


def l_softmax(rows, m=4, gradient="exact"):
    z, norms = rows.x @ rows.w.T, norm_of(rows.w)[rows.y] * rows.norm
    offset = by_convention(gradient, lambda c: psi(c, m), rows.c_y) - rows.c_y
    z = z + rows.select(norms * offset, torch.zeros_like(z))
    return rows.cross_entropy(z if rows.s is None else rows.s * z)


def sphereface_psi(rows, m=4, lam=0.0, feature_norm="free", gradient="exact"):
    def target(c):
        return (lam * c + psi(c, m)) / (1 + lam)

    scale = {"free": rows.norm, "hard": rows.s}[feature_norm]
    return rows.loss(by_convention(gradient, target, rows.c_y), scale=scale)


def sphereface_r(rows, m=1.5, variant="v0", norm="hfn", lw=None, tau=0.01, gradient="exact"):
    target, others = {
        "v0": (lambda c: psi(c, m), lambda c: c),
        "v1": (lambda c: combined_cosine(c, m, tail="clip"), lambda c: c),
        "v2": (lambda c: c, lambda c: rotated(c, 1 / m, 0.0)),
    }[variant]
    loss = rows.loss(
        by_convention(gradient, target, rows.c_y),
        by_convention(gradient, others, rows.c),
        {"hfn": rows.s, "nfn": rows.norm, "sfn": rows.norm}[norm],
    )
    if norm == "nfn":
        return (1.0 if lw is None else lw) * loss
    loss = (50.0 if lw is None else lw) / rows.s * loss
    return loss + tau * (rows.norm - rows.s).abs() if norm == "sfn" else loss


def sphereface2(rows, kind="C", m=0.4, t=3.0, alpha=0.7, lw=50.0, gradient="exact"):
    def g(c):
        return 2 * ((c + 1) / 2) ** t - 1

    target, others = {
        "C": (lambda c: g(c) - m, lambda c: g(c) + m),
        "A": (lambda c: g(combined_cosine(c, m2=m, tail="clip")), g),
        "M": (lambda c: g(combined_cosine(c, m1=m, tail="clip")), g),
    }[kind]
    positive = rows.s * by_convention(gradient, target, rows.c_y) + rows.bias
    negative = rows.s * by_convention(gradient, others, rows.c) + rows.bias
    terms = rows.select(alpha * softplus(-positive), (1 - alpha) * softplus(negative))
    return lw / rows.s * terms.sum(1)


def curricularface(rows, m=0.5, alpha=0.01, tail="hard", gradient="exact"):
    t = alpha * rows.c_y.detach().mean() + (1 - alpha) * rows.state["t"]
    target = by_convention(gradient, lambda c: combined_cosine(c, m2=m, tail=tail), rows.c_y)
    # The comparison is with the base formula, whatever the tail.
    hard = rows.c > rotated(rows.c_y, 1.0, m)[:, None]
    return rows.loss(target, torch.where(hard, rows.c * (t + rows.c), rows.c)), {"t": t}


def mv_softmax(rows, kind="arc", m=0.35, tau=1.12, tail="hard", conditional=True, gradient="exact"):
    if kind == "arc":
        reference = rotated(rows.c_y, 1.0, m)
        target = by_convention(gradient, lambda c: combined_cosine(c, m2=m, tail=tail), rows.c_y)
    else:
        reference = target = rows.c_y - m
        if conditional:
            target = torch.where(rows.c_y > m, target, rows.c_y)
    hard = rows.c > reference[:, None]
    return rows.loss(target, torch.where(hard, tau * rows.c + tau - 1, rows.c))


def magface(
    rows,
    l_a=10.0,
    u_a=110.0,
    l_m=0.45,
    u_m=0.8,
    lambda_g=35.0,
    variant="arc",
    tail="hard",
    margin_am=0.0,
    gradient="exact",
):
    a = rows.norm.clamp(l_a, u_a)
    # The gradient by the norm goes through the margin in both conventions.
    m = (u_m - l_m) / (u_a - l_a) * (a - l_a) + l_m
    target = {
        "arc": lambda c: combined_cosine(c, m2=m, tail=tail, margin_am=margin_am),
        "cos": lambda c: c - m,
    }[variant]
    regulariser = a / u_a**2 + 1 / a
    return rows.loss(by_convention(gradient, target, rows.c_y)) + lambda_g * regulariser


def adaface(rows, m=0.4, h=0.333, alpha=0.01, eps=1e-3, scaler_eps=None, gradient="exact"):
    norm = rows.norm.detach().clamp(0.001, 100)
    std = norm.std() if len(norm) > 1 else tensor(0.0)
    mean = alpha * norm.mean() + (1 - alpha) * rows.state["mean"]
    std = alpha * std + (1 - alpha) * rows.state["std"]
    k = (h * (norm - mean) / (std + (eps if scaler_eps is None else scaler_eps))).clamp(-1, 1)

    def target(c):
        theta = angle(c).detach() - m * k
        inside = (theta >= eps) & (theta <= math.pi - eps)
        clipped = theta.clamp(eps, math.pi - eps).cos()
        return torch.where(inside, rotated(c, 1.0, -m * k), clipped) - (m + m * k)

    rows = replace(rows, c=rows.c.clamp(-1 + eps, 1 - eps))
    return rows.loss(by_convention(gradient, target, rows.c_y)), {"mean": mean, "std": std}


def redistribute(drawn, c_y, plus):
    """The margins of the samples: as drawn, or sorted and dealt out by the target cosines."""
    order = c_y.detach().argsort(descending=True, stable=True)
    return {
        None: drawn,
        "rank": drawn.sort().values[order.argsort()],
        "official": drawn.sort().values[order],
    }[plus]


def elasticface(rows, kind="arc", plus=None, tail="hard", margin_am=0.0, gradient="exact"):
    drawn = redistribute(rows.drawn, rows.c_y, plus)
    margins = {"arc": {"m2": drawn}, "cos": {"m3": drawn}}[kind]
    return combined(rows, **margins, tail=tail, margin_am=margin_am, gradient=gradient)


def subcenter(rows, **margin):
    # The whole gradient goes to one sub-centre: the first of equals.
    nearest = rows.c.argmax(2, keepdim=True)
    return combined(replace(rows, c=rows.c.gather(2, nearest)[..., 0]), **margin)


def vpl(rows, **margin):
    lam = rows.state["lambda"][:, None]
    queue = normalise(rows.state["queue"]).detach()
    prototypes = normalise((1 - lam) * normalise(rows.w) + lam * queue)
    return combined(replace(rows, c=cosines(normalise(rows.x), prototypes)), **margin)


def interclass_filter(rows, threshold=0.0, **margin):
    if threshold > 0:
        others = torch.where(rows.c > threshold, 0.0, rows.c)
        rows = replace(rows, c=rows.select(rows.c_y, others))
    return combined(rows, **margin)


def circle_class(rows, m=0.25):
    positive = (1 + m - rows.c_y.detach()).clamp(min=0) * (rows.c_y - (1 - m))
    negative = (rows.c.detach() + m).clamp(min=0) * (rows.c - m)
    return rows.loss(positive, negative)


def adacos(rows, dynamic=True):
    scale = rows.state["scale"]
    if dynamic:
        z = rows.select(tensor(-math.inf), scale * rows.c.detach())
        log_average = z.logsumexp((0, 1)) - math.log(len(z))
        # torch.median is the lower one of two.
        median = angle(rows.c_y.detach()).median().clamp(max=math.pi / 4)
        scale = torch.where(log_average > 0, log_average / median.cos(), scale)
    return rows.loss(rows.c_y, scale=scale), {"scale": scale}


def airface(rows, m=0.4, all_classes=True, gradient="exact"):
    def linear(c, m=0.0):
        return 1 - 2 * (angle(c) + m) / math.pi

    target = by_convention(gradient, lambda c: linear(c, m), rows.c_y)
    return rows.loss(target, by_convention(gradient, linear, rows.c) if all_classes else None)


def p2sgrad(rows, normalisation="mse"):
    square = rows.select((rows.c_y - 1) ** 2, rows.c**2)
    return {"mse": square.mean(1), "paper": square.sum(1) / 2}[normalisation]


def uniface(rows, m=0.4, weight=1.0, clamp_arguments=False):
    a = rows.s * rows.select(rows.c_y - m, rows.c) - rows.bias
    if clamp_arguments:
        a = a.clamp(-rows.s, rows.s)
    positive = softplus(-a.gather(1, rows.y[:, None])[:, 0])
    return rows.select(positive, weight * softplus(a)).sum(1)


FUNCTIONS = {
    "softmax": softmax,
    "norm_softmax": norm_softmax,
    "combined": combined,
    "sphereface_psi": sphereface_psi,
    "l_softmax": l_softmax,
    "sphereface_r": sphereface_r,
    "sphereface2": sphereface2,
    "curricularface": curricularface,
    "mv_softmax": mv_softmax,
    "magface": magface,
    "adaface": adaface,
    "elasticface": elasticface,
    "subcenter": subcenter,
    "vpl": vpl,
    "circle_class": circle_class,
    "adacos": adacos,
    "airface": airface,
    "p2sgrad": p2sgrad,
    "uniface": uniface,
    "interclass_filter": interclass_filter,
}


def row_losses(name, params, rows):
    """(losses [B], the new state or None) of the cosines and the rest in ``rows``."""
    answer = FUNCTIONS[name](rows, **params)
    return answer if isinstance(answer, tuple) else (answer, None)


def losses(name, params, x, w, labels, *, scale, bias=None, state=None, drawn=None):
    """(losses [B], the new state or None) of embeddings ``x`` [B, D] and weights ``w`` [C, D].

    ``scale`` is also r of SphereFace2 and gamma of the circle loss.
    """
    c = cosines(normalise(x), normalise(w))
    return row_losses(name, params, Rows(c, labels, scale, norm_of(x), x, w, bias, state, drawn))


def run_case(case, arrays):
    """value, the gradients of its sum and the new state, from the arrays of one case."""
    state = {k.removeprefix("state/"): tensor(arrays[k]) for k in arrays if k.startswith("state/")}
    leaves = {k: tensor(arrays[k]).requires_grad_() for k in ("x", "w", "bias") if k in arrays}
    value, state = losses(
        case["name"],
        case["params"],
        labels=torch.as_tensor(arrays["labels"], dtype=torch.int64),
        scale=case["scale"],
        state=state,
        drawn=tensor(arrays["drawn"]) if "drawn" in arrays else None,
        **leaves,
    )
    value.sum().backward()
    answer = {"value": value.detach()} | {k: leaf.grad for k, leaf in leaves.items()}
    answer |= {f"state/{k}": v for k, v in (state or {}).items()}
    return {k: v.numpy() for k, v in answer.items()}


def run(inputs, outputs):
    for case in json.loads(str(inputs["cases"])):
        start = case["id"] + "/"
        arrays = {k.removeprefix(start): v for k, v in inputs.items() if k.startswith(start)}
        outputs.update({start + k: v for k, v in run_case(case, arrays).items()})


if "inputs" in globals():
    run(globals()["inputs"], globals()["outputs"])
