"""Margin losses in NumPy float64, written from their formulas: the tests' reference, without JAX.

A reference is called as ``reference(batch, held, **hyper_parameters)``. The constants in its
`Answer` are what the definition does not differentiate. Passed back as ``held`` they keep their
values, so that finite differences of the losses are the gradient that the definition asks for.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Held = Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a loss is computed from.

    Attributes:
      embeddings: float[B, D], not normalised.
      centers: float[C, D], or float[C, K, D] for K centres a class.
      labels: int[B].
      bias: one number, or float[C].
      state: running statistics before the step; None before the first one.
      noise: float[B], standard normal numbers of the step.
      filter_above: wrong classes with a larger cosine count as perpendicular; 0 filters nothing.
    """

    embeddings: Array
    centers: Array
    labels: Array
    bias: Any = 0.0
    state: Mapping[str, Any] | None = None
    noise: Array | None = None
    filter_above: float = 0.0


class Answer(NamedTuple):
    """The losses [B], the constants of their gradient, and the state after the step."""

    losses: Array
    constants: dict[str, Any]
    state: dict[str, Any] | None = None


# ------------------------------------------------------------------ what the losses share


def normalize(vectors: Array) -> Array:
    """Vectors of unit length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def lengths(batch: Batch) -> Array:
    """The length of each embedding."""
    return np.linalg.norm(batch.embeddings, axis=-1)


def own(values: Array, batch: Batch) -> Array:
    """The entry of each row in the column of its label."""
    return values[np.arange(len(batch.labels)), batch.labels]


def is_own(batch: Batch) -> Array:
    """Which of the B x C entries are those of the labels."""
    return batch.labels[:, None] == np.arange(len(batch.centers))


def cosines(batch: Batch) -> Array:
    """c_ij, of the nearest of a class's centres, after the filter."""
    c = np.tensordot(normalize(batch.embeddings), normalize(batch.centers), axes=(-1, -1))
    if c.ndim == 3:
        c = c.max(axis=2)
    similar = (c > batch.filter_above) & ~is_own(batch) & (batch.filter_above > 0.0)
    return np.where(similar, 0.0, c)


def angle(c: Array) -> Array:
    """Theta of a cosine."""
    return np.arccos(np.clip(c, -1.0, 1.0))


def turned(c: Array, m: Any, tail: str) -> Array:
    """cos(theta + m), and what the tail puts where theta is past pi - m."""
    base = np.cos(angle(c) + m)
    past = (c <= np.cos(np.pi - m)) & (m > 0.0)
    replaced, value = {
        "hard": (past, c - m * np.sin(m)),
        "easy": (c <= 0.0, c),
        "mirror": (past, -2.0 - base),
        "clip": (past, np.full_like(c, -1.0)),
        "none": (np.zeros_like(past), c),
        "min": (c < base, c),
        "facex": (past, c),
    }[tail]
    return np.where(replaced, value, base)


def psi(c: Array, m: float) -> Array:
    """(-1)^k cos(m theta) - 2k on the k-th of the m pieces of [0, pi]."""
    k = np.minimum(np.floor(m * angle(c) / np.pi), math.ceil(m) - 1)
    return (-1.0) ** k * np.cos(m * angle(c)) - 2.0 * k


def by_convention(gradient: str, function: Callable[[Array], Array], c: Array, at: Array) -> Array:
    """function(c); straight-through, c with the offset that it had at the cosines ``at``."""
    if gradient == "exact":
        return function(c)
    assert gradient == "straight_through", gradient
    return c + (function(at) - at)


def keep(held: Held, **computed: Any) -> dict[str, Any]:
    """The constants: as held, or as computed here."""
    return computed | dict(held or {})


def softplus(a: Array) -> Array:
    """log(1 + exp(a))."""
    return np.logaddexp(0.0, a)


def log_sum_others(logits: Array, batch: Batch) -> Array:
    """The log-sum-exp of each row's wrong classes."""
    return np.logaddexp.reduce(np.where(is_own(batch), -np.inf, logits), axis=1)


def cross_entropy(target: Array, others: Array, batch: Batch) -> Array:
    """The softmax loss of target logits [B] against the wrong classes' logits [B, C]."""
    return softplus(log_sum_others(others, batch) - target)


def sum_of_terms(target: Array, others: Array, batch: Batch) -> Array:
    """A term of the label [B] plus the terms of the wrong classes [B, C]."""
    return target + np.where(is_own(batch), 0.0, others).sum(axis=1)


# ------------------------------------------------------------------ margin on the target only


def softmax(batch: Batch, held: Held = None) -> Answer:
    """Softmax with bias, nothing normalised (ArcFace paper, eq. 1)."""
    z = batch.embeddings @ batch.centers.T + batch.bias
    return Answer(cross_entropy(own(z, batch), z, batch), keep(held))


def arcface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float = 0.5,
    tail: str = "hard",
    gradient: str = "exact",
) -> Answer:
    """ArcFace, with sub-centres where a class has several centres (CVPR 2019; ECCV 2020)."""
    c = cosines(batch)
    constants = keep(held, cosines=c)
    target = by_convention(
        gradient,
        lambda c: turned(c, m, tail),
        own(c, batch),
        own(constants["cosines"], batch),
    )
    return Answer(cross_entropy(s * target, s * c, batch), constants)


def cosface(batch: Batch, held: Held = None, *, s: float, m: float) -> Answer:
    """CosFace (CVPR 2018)."""
    c = cosines(batch)
    return Answer(cross_entropy(s * (own(c, batch) - m), s * c, batch), keep(held))


def airface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float = 0.4,
    all_classes: bool = True,
    gradient: str = "exact",
) -> Answer:
    """AirFace: logits linear in the angle (ICCVW 2019)."""
    c = cosines(batch)
    constants = keep(held, cosines=c)
    at = constants["cosines"]
    target = by_convention(
        gradient, lambda c: (np.pi - 2.0 * (angle(c) + m)) / np.pi, own(c, batch), own(at, batch)
    )
    others = by_convention(gradient, lambda c: (np.pi - 2.0 * angle(c)) / np.pi, c, at)
    return Answer(cross_entropy(s * target, s * (others if all_classes else c), batch), constants)


# ------------------------------------------------------------------ psi


def l_softmax(batch: Batch, held: Held = None, *, m: int = 4) -> Answer:
    """Large-margin softmax, nothing normalised (ICML 2016)."""
    z = batch.embeddings @ batch.centers.T
    sizes = lengths(batch) * np.linalg.norm(batch.centers, axis=-1)[batch.labels]
    target = sizes * psi(own(z, batch) / sizes, m)
    return Answer(cross_entropy(target, z, batch), keep(held))


def sphereface_r(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 30.0,
    m: float = 1.5,
    variant: str = "v0",
    feature_norm: str = "hard",
    weight: float | None = None,
    pull: float = 0.01,
    increment: float = 0.1,
    steps: tuple[int, ...] = (),
    gradient: str = "exact",
) -> Answer:
    """SphereFace-R: three places of the factor, three treatments of the length (TPAMI 2022)."""
    c = cosines(batch)
    constants = keep(held, cosines=c)
    at = constants["cosines"]
    step = (batch.state or {"step": 0})["step"] + 1
    if steps:
        m = 1.0 + increment * sum(step > q for q in steps)
    of_target, of_others = {
        "v0": (lambda c: psi(c, m), lambda c: c),
        "v1": (lambda c: np.cos(np.minimum(m * angle(c), np.pi)), lambda c: c),
        "v2": (lambda c: c, lambda c: np.cos(angle(c) / m)),
    }[variant]
    size = np.full(len(c), s) if feature_norm == "hard" else lengths(batch)
    losses = cross_entropy(
        size * by_convention(gradient, of_target, own(c, batch), own(at, batch)),
        size[:, None] * by_convention(gradient, of_others, c, at),
        batch,
    )
    if weight is None:
        weight = 1.0 if feature_norm == "none" else 50.0
    losses = {
        "hard": weight / s * losses,
        "none": weight * losses,
        "soft": weight / s * losses + pull * np.abs(lengths(batch) - s),
    }[feature_norm]
    return Answer(losses, constants, {"step": step})


# ------------------------------------------------------------------ adaptive margins


def curricularface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float = 0.5,
    alpha: float = 0.01,
    tail: str = "hard",
    gradient: str = "exact",
) -> Answer:
    """CurricularFace: a hard wrong class has the cosine c_j (t + c_j) (CVPR 2020)."""
    c = cosines(batch)
    c_y = own(c, batch)
    before = (batch.state or {"t": 0.0})["t"]
    t = alpha * c_y.mean() + (1.0 - alpha) * before
    constants = keep(held, cosines=c, t=t)
    target = by_convention(
        gradient, lambda c: turned(c, m, tail), c_y, own(constants["cosines"], batch)
    )
    # With the bare formula, whatever the tail.
    hard = c > np.cos(angle(c_y) + m)[:, None]
    others = np.where(hard, c * (constants["t"] + c), c)
    return Answer(cross_entropy(s * target, s * others, batch), constants, {"t": t})


def mv_softmax_arc(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 32.0,
    m: float = 0.35,
    tau: float = 1.12,
    tail: str = "hard",
    gradient: str = "exact",
) -> Answer:
    """MV-softmax on ArcFace (AAAI 2020)."""
    c = cosines(batch)
    c_y = own(c, batch)
    constants = keep(held, cosines=c)
    target = by_convention(
        gradient, lambda c: turned(c, m, tail), c_y, own(constants["cosines"], batch)
    )
    misclassified = c > np.cos(angle(c_y) + m)[:, None]
    others = np.where(misclassified, tau * c + tau - 1.0, c)
    return Answer(cross_entropy(s * target, s * others, batch), constants)


def mv_softmax_am(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 32.0,
    m: float = 0.35,
    tau: float = 1.12,
    conditional: bool = True,
) -> Answer:
    """MV-softmax on CosFace; ``conditional``: no margin where c_y <= m (AAAI 2020; FaceX-Zoo)."""
    c = cosines(batch)
    c_y = own(c, batch)
    target = np.where((c_y > m) | (not conditional), c_y - m, c_y)
    misclassified = c > (c_y - m)[:, None]
    others = np.where(misclassified, tau * c + tau - 1.0, c)
    return Answer(cross_entropy(s * target, s * others, batch), keep(held))


def magface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    lower_norm: float = 10.0,
    upper_norm: float = 110.0,
    lower_margin: float = 0.45,
    upper_margin: float = 0.8,
    strength: float = 35.0,
    kind: str = "arc",
    tail: str = "hard",
    gradient: str = "exact",
) -> Answer:
    """MagFace: the margin grows with the length, which is differentiated (CVPR 2021)."""
    c = cosines(batch)
    constants = keep(held, cosines=c)
    a = np.clip(lengths(batch), lower_norm, upper_norm)
    slope = (upper_margin - lower_margin) / (upper_norm - lower_norm)
    m = slope * (a - lower_norm) + lower_margin
    after = {"arc": lambda c: turned(c, m, tail), "cos": lambda c: c - m}[kind]
    target = by_convention(gradient, after, own(c, batch), own(constants["cosines"], batch))
    regulariser = a / upper_norm**2 + 1.0 / a
    return Answer(
        cross_entropy(s * target, s * c, batch) + strength * regulariser,
        constants,
    )


def adaface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float = 0.4,
    h: float = 0.333,
    alpha: float = 0.01,
    epsilon: float = 1e-3,
    limited: bool = True,
    gradient: str = "exact",
) -> Answer:
    """AdaFace: the place of a length among the others turns the margin (CVPR 2022)."""
    r = np.clip(lengths(batch), 0.001, 100.0)
    before = batch.state or {"mean": 20.0, "std": 100.0}
    spread = r.std(ddof=1) if len(r) > 1 else 0.0
    mean = alpha * r.mean() + (1.0 - alpha) * before["mean"]
    std = alpha * spread + (1.0 - alpha) * before["std"]
    constants = keep(held, mean=mean, std=std)
    k = h * (r - constants["mean"]) / (constants["std"] + epsilon)
    c = cosines(batch)
    if limited:
        c = np.clip(c, -1.0 + epsilon, 1.0 - epsilon)
    constants = keep(constants, cosines=c, k=np.clip(k, -1.0, 1.0))
    k = constants["k"]

    def after(c: Array) -> Array:
        theta = angle(c) - m * k
        if limited:
            theta = np.clip(theta, epsilon, np.pi - epsilon)
        return np.cos(theta) - (m + m * k)

    target = by_convention(gradient, after, own(c, batch), own(constants["cosines"], batch))
    losses = cross_entropy(s * target, s * c, batch)
    return Answer(losses, constants, {"mean": mean, "std": std})


def elasticface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float | None = None,
    sigma: float | None = None,
    kind: str = "arc",
    plus: str | None = None,
    tail: str = "hard",
    gradient: str = "exact",
) -> Answer:
    """ElasticFace, the drawn margins being m + sigma * noise (CVPRW 2022)."""
    assert batch.noise is not None
    if m is None:
        m = {"arc": 0.5, "cos": 0.35}[kind]
    if sigma is None:
        sigma = 0.05 if plus is None else {"arc": 0.0175, "cos": 0.02}[kind]
    margins = m + sigma * batch.noise
    c = cosines(batch)
    nearest_first = np.argsort(-own(c, batch), kind="stable")
    if plus == "rank":
        margins[nearest_first] = np.sort(margins)
    elif plus == "official":
        # The authors' code: the permutation where its inverse was meant.
        margins = np.sort(margins)[nearest_first]
    constants = keep(held, cosines=c, margins=margins)
    margins = constants["margins"]
    after = {
        "arc": lambda c: turned(c, margins, tail),
        "cos": lambda c: c - margins,
    }[kind]
    target = by_convention(gradient, after, own(c, batch), own(constants["cosines"], batch))
    return Answer(cross_entropy(s * target, s * c, batch), constants)


# ------------------------------------------------------------------ around any margin


def vpl(
    batch: Batch,
    held: Held = None,
    *,
    weight: float = 0.15,
    start: int = 8000,
    window: int = 200,
    loss: Callable[..., Answer] = arcface,
    **options: Any,
) -> Answer:
    """VPL: ``loss`` on centres mixed with the last feature of each class (CVPR 2021)."""
    state = batch.state
    assert state is not None
    step = state["step"] + 1
    fresh = (step > start) & (step - state["seen"] <= window)
    share = np.where(fresh, weight, 0.0)[:, None]
    mixed = (1.0 - share) * normalize(batch.centers) + share * normalize(state["queue"])
    answer = loss(dataclasses.replace(batch, centers=mixed), held, **options)
    queue, seen = state["queue"].copy(), state["seen"].copy()
    for feature, label in zip(normalize(batch.embeddings), batch.labels, strict=True):
        queue[label], seen[label] = feature, step
    return answer._replace(state={"queue": queue, "seen": seen, "step": step})


def interclass_filter(
    batch: Batch,
    held: Held = None,
    *,
    threshold: float = 0.4,
    loss: Callable[..., Answer] = arcface,
    **options: Any,
) -> Answer:
    """``loss`` without the wrong classes that look like the right one (insightface)."""
    return loss(dataclasses.replace(batch, filter_above=threshold), held, **options)


# ------------------------------------------------------------------ other losses


def circle_class(batch: Batch, held: Held = None, *, s: float = 256.0, m: float = 0.25) -> Answer:
    """Circle loss on classes; its weights are constants (CVPR 2020)."""
    c = cosines(batch)
    c_y = own(c, batch)
    constants = keep(held, alpha_p=np.maximum(1.0 + m - c_y, 0.0), alpha_n=np.maximum(c + m, 0.0))
    target = constants["alpha_p"] * (c_y - (1.0 - m))
    others = constants["alpha_n"] * (c - m)
    return Answer(cross_entropy(s * target, s * others, batch), constants)


def adacos(batch: Batch, held: Held = None, *, dynamic: bool = True) -> Answer:
    """AdaCos: the scale follows the batch and is a constant (CVPR 2019)."""
    c = cosines(batch)
    c_y = own(c, batch)
    rows, classes = c.shape
    start = {"scale": math.sqrt(2.0) * math.log(classes - 1)}
    scale = (batch.state or start)["scale"]
    if dynamic:
        log_average = np.logaddexp.reduce(log_sum_others(scale * c, batch)) - math.log(rows)
        median = np.sort(angle(c_y))[(rows - 1) // 2]
        if log_average > 0.0:
            scale = log_average / np.cos(min(np.pi / 4.0, median))
    constants = keep(held, scale=scale)
    s = constants["scale"]
    return Answer(cross_entropy(s * c_y, s * c, batch), constants, {"scale": scale})


def p2sgrad(batch: Batch, held: Held = None, *, normalization: str = "mse") -> Answer:
    """P2SGrad: squared distances of the cosines from 1 and 0 (CVPR 2019)."""
    c = cosines(batch)
    square = (c - is_own(batch)) ** 2
    losses = {"mse": square.mean(axis=1), "paper": square.sum(axis=1) / 2.0}[normalization]
    return Answer(losses, keep(held))


def sphereface2(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 40.0,
    m: float | None = None,
    kind: str = "C",
    alpha: float = 0.7,
    power: float = 3.0,
    weight: float = 50.0,
    gradient: str = "exact",
) -> Answer:
    """SphereFace2: one binary problem per class, the margin in one of three places (ICLR 2022)."""

    def g(c: Array) -> Array:
        return 2.0 * ((c + 1.0) / 2.0) ** power - 1.0

    m = {"C": 0.4, "A": 0.5, "M": 1.7}[kind] if m is None else m
    of_target, of_others = {
        "C": (lambda c: g(c) - m, lambda c: g(c) + m),
        "A": (lambda c: g(np.cos(np.minimum(angle(c) + m, np.pi))), g),
        "M": (lambda c: g(np.cos(np.minimum(m * angle(c), np.pi))), g),
    }[kind]
    c = cosines(batch)
    constants = keep(held, cosines=c)
    at = constants["cosines"]
    target = by_convention(gradient, of_target, own(c, batch), own(at, batch))
    others = by_convention(gradient, of_others, c, at)
    losses = sum_of_terms(
        alpha * softplus(-(s * target + batch.bias)),
        (1.0 - alpha) * softplus(s * others + batch.bias),
        batch,
    )
    return Answer(weight / s * losses, constants)


def uniface(
    batch: Batch,
    held: Held = None,
    *,
    s: float = 64.0,
    m: float = 0.4,
    weight: float = 1.0,
    clamp_arguments: bool = False,
    per_class: bool = False,
) -> Answer:
    """UniFace: binary problems around a threshold b, or b_j for each class (ICCV 2023)."""
    c = cosines(batch)
    assert np.ndim(batch.bias) == per_class
    b = np.broadcast_to(batch.bias, c.shape)
    target, others = s * (own(c, batch) - m) - own(b, batch), s * c - b
    if clamp_arguments:
        target, others = np.clip(target, -s, s), np.clip(others, -s, s)
    losses = sum_of_terms(softplus(-target), weight * softplus(others), batch)
    return Answer(losses, keep(held))


REFERENCES: dict[str, Callable[..., Answer]] = {
    "softmax": softmax,
    "airface": airface,
    "l_softmax": l_softmax,
    "sphereface_r": sphereface_r,
    "curricularface": curricularface,
    "mv_softmax_arc": mv_softmax_arc,
    "mv_softmax_am": mv_softmax_am,
    "magface": magface,
    "adaface": adaface,
    "elasticface": elasticface,
    "subcenter_arcface": arcface,
    "vpl": vpl,
    "interclass_filter": interclass_filter,
    "circle_class": circle_class,
    "adacos": adacos,
    "p2sgrad": p2sgrad,
    "sphereface2": sphereface2,
    "uniface": uniface,
}
