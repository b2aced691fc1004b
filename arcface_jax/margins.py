r"""Margins: what happens to a cosine on its way to a logit.

A margin answers three questions, and the heads ask nothing else:

* ``target(cosines, context)``: the cosine of the true class after the margin;
* ``negatives(cosines, context)``: the cosines of the other classes;
* ``link``: how the logits become a loss (``"softmax"``).

Everything here is elementwise: no mesh, no model, no loop over the batch. Hyper-parameters are
leaves of a pytree, so one compiled program serves a sweep over them; only the tail rule and the
gradient convention are static.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.known_names import unknown_name

TAILS = ("hard", "easy", "mirror", "clip", "none", "min", "facex")
GRADIENTS = ("exact", "straight_through")

DEFAULT_SCALE = 64.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What a margin may know of the batch besides its cosines.

    Attributes:
      norms: float[B], length of each raw embedding.
      where: bool[B], rows that count.
      params: the margin's own trainable scalars, or None.
      state: the margin's own running state, or None.
      key: random key of the step, or None.
    """

    norms: Array | None = None
    where: Array | None = None
    params: Any = None
    state: Any = None
    key: Array | None = None


class MarginRule:
    """The questions that heads ask, with the answers of norm-softmax; a margin overrides some.

    Attributes:
      link: how logits become a loss.
      normalized: whether embeddings and centres are normalised before their product.
      has_bias: whether each class has an offset that is trained with its centre.
    """

    link: ClassVar[str] = "softmax"
    normalized: ClassVar[bool] = True
    has_bias: ClassVar[bool] = False

    @property
    def has_scale(self) -> bool:
        """Whether the caller may set the scale of the logits."""
        return True

    def init_state(self) -> Any:
        """The running state before the first step, or None where the margin keeps none."""
        return None

    def init_params(self, num_classes: int) -> Any:
        """Trainable scalars of the margin itself, or None where it has none."""
        del num_classes
        return None

    def observe(self, target_cosines: Array, context: Context) -> Context:
        """``context`` with its state moved on by this batch; it holds for this batch already."""
        del target_cosines
        return context

    def scales(self, scale: ArrayLike | None, context: Context) -> Array:
        """What the cosines are multiplied by: a scalar, or one number per row."""
        del context
        return geometry.as_float(DEFAULT_SCALE if scale is None else scale)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        return cosines

    def negatives(self, cosines: Array, context: Context) -> Array:
        """The cosines of the other classes, elementwise; the true class's entry is ignored."""
        del context
        return cosines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_number(name: str, value: Any, low: float, high: float, *, open_low: bool) -> None:
    """Refuses a number outside its bounds; tracers and arrays pass, their values are not known."""
    if not _is_number(value):
        return
    inside = (value > low if open_low else value >= low) and value < high
    if not inside:
        bracket = "(" if open_low else "["
        raise ValueError(
            f"{name}={value} lies outside {bracket}{low:g}, {high:g}); angles are radians "
            f"(28.6 degrees is 0.5)."
        )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(name, value, known)


def _detach_margin(cosines: Array, target: Array, gradient: str) -> Array:
    """``target`` as it is, or with the derivative of the bare cosine."""
    if gradient == "exact":
        return target
    return cosines + jax.lax.stop_gradient(target - cosines)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Margin(MarginRule):
    r"""The combined margin: three numbers that hold SphereFace, ArcFace, CosFace and mixtures.

    .. math:: T(\cos\theta) = \cos(m_1\theta + m_2) - m_3

    Past ``theta* = (pi - m2) / m1`` the cosine would rise again and reward the worst samples;
    ``tail`` says what stands there instead (``m* = pi - theta*``):

    ======== =========================================== =======================
    tail     value                                       where
    ======== =========================================== =======================
    hard     ``cos - m* sin(m*) - m3``                    ``theta >= theta*``
    easy     ``cos - m3``                                 ``cos <= 0``
    mirror   ``-2 - cos(m1 theta + m2) - m3``             ``theta >= theta*``
    clip     ``-1 - m3``                                  ``theta >= theta*``
    none     never replaced
    min      ``cos - m3``                                 ``cos < cos(m1 theta + m2)``
    facex    ``cos - tail_margin - m3``                   ``theta >= theta*``
    ======== =========================================== =======================

    Args:
      m1: factor on the angle, > 0. Scalar or one number per row; may be traced, like m2 and m3.
      m2: angle added, radians in [0, pi).
      m3: cosine taken off, any number.
      tail: one of ``TAILS``; the default is the monotone rule of the original code.
      gradient: ``"exact"``, or ``"straight_through"``: the target moves with the bare cosine's
        derivative, as arcface_torch has done since December 2022.
      tail_margin: the constant of the ``facex`` tail.

    Raises:
      ValueError: a number outside its domain, an unknown tail or gradient.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4.

    >>> target_cosine(jnp.array([1.0, 0.5, -1.0]), Margin(1.0, 0.0, 0.25))
    Array([ 0.75,  0.25, -1.25], dtype=float32)
    """

    m1: ArrayLike = 1.0
    m2: ArrayLike = 0.0
    m3: ArrayLike = 0.0
    tail: str = dataclasses.field(default="hard", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    tail_margin: ArrayLike = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self):
        _check_number("m1", self.m1, 0.0, math.inf, open_low=True)
        _check_number("m2", self.m2, 0.0, math.pi, open_low=False)
        _check_number("m3", self.m3, -math.inf, math.inf, open_low=True)
        _check_choice("tail", self.tail, TAILS)
        _check_choice("gradient", self.gradient, GRADIENTS)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        m1, m2, m3, tail_margin = (
            jnp.asarray(m, cosines.dtype) for m in (self.m1, self.m2, self.m3, self.tail_margin)
        )
        shifted = geometry.shifted_cosine(cosines, m1, m2)
        turn = (jnp.pi - m2) / m1
        past = (cosines <= jnp.cos(turn)) & (turn < jnp.pi)
        rest = jnp.pi - turn
        # Margins without an angle have no turning point: past is False and rest negative or 0.
        value = {
            "hard": lambda: jnp.where(past, cosines - rest * jnp.sin(rest), shifted),
            "easy": lambda: jnp.where(cosines > 0.0, shifted, cosines),
            "mirror": lambda: jnp.where(past, -2.0 - shifted, shifted),
            "clip": lambda: jnp.where(past, -1.0, shifted),
            "none": lambda: shifted,
            "min": lambda: jnp.where(cosines < shifted, cosines, shifted),
            "facex": lambda: jnp.where(past, cosines - tail_margin, shifted),
        }[self.tail]()
        return _detach_margin(cosines, value - m3, self.gradient)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Softmax(MarginRule):
    r"""Plain softmax: inner products and a bias, nothing normalised, no scale and no margin.

    .. math:: z_{ij} = W_j \cdot x_i + b_j

    Source: Deng et al., ArcFace (CVPR 2019), eq. 1.

    >>> Softmax().normalized
    False
    """

    normalized: ClassVar[bool] = False
    has_bias: ClassVar[bool] = True

    @property
    def has_scale(self) -> bool:
        """False: lengths of embeddings and centres set the scale."""
        return False

    def scales(self, scale: ArrayLike | None, context: Context) -> Array:
        """One: the inner products are the logits."""
        del context
        if scale is not None:
            raise ValueError("softmax has no scale; leave scale=None or take norm_softmax.")
        return jnp.float32(1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PsiMargin(MarginRule):
    r"""SphereFace as published: the angle times m, made monotone piece by piece, with annealing.

    .. math:: T = \frac{\lambda\cos\theta + \psi(\theta)}{1 + \lambda}, \quad
       \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \quad k = \lfloor m\theta/\pi \rfloor

    ``lambda`` falls with the step t = 1, 2, …: ``max(lambda_min, lambda_0 (1 + gamma t)^-power)``.
    Where no state is given the annealing has ended: ``lambda_min``.

    Args:
      m: factor on the angle, >= 1, a Python number; 4 in the paper.
      feature_norm: ``"free"``: the embedding's own length, differentiated, is the scale;
        ``"hard"``: a fixed scale.
      gradient: as in :class:`Margin`.
      lambda_0, gamma, power, lambda_min: the annealing; all numbers may be traced.

    Raises:
      ValueError: m below 1, an unknown feature_norm or gradient.

    Source: Liu et al., SphereFace (CVPR 2017), eqs. 6 and 7; annealing as in its public code.

    >>> target_cosine(jnp.array([1.0, -1.0]), sphereface_psi(2, annealed=False))
    Array([ 1., -3.], dtype=float32)
    """

    m: float = dataclasses.field(default=4, metadata={"static": True})
    feature_norm: str = dataclasses.field(default="free", kw_only=True, metadata={"static": True})
    gradient: str = dataclasses.field(default="exact", kw_only=True, metadata={"static": True})
    lambda_0: ArrayLike = dataclasses.field(default=1000.0, kw_only=True)
    gamma: ArrayLike = dataclasses.field(default=0.12, kw_only=True)
    power: ArrayLike = dataclasses.field(default=1.0, kw_only=True)
    lambda_min: ArrayLike = dataclasses.field(default=5.0, kw_only=True)

    def __post_init__(self):
        if not _is_number(self.m) or not math.isfinite(self.m) or self.m < 1:
            raise ValueError(
                f"m={self.m!r} must be a Python number >= 1: psi is cut into ceil(m) pieces."
            )
        _check_choice("feature_norm", self.feature_norm, ("free", "hard"))
        _check_choice("gradient", self.gradient, GRADIENTS)

    @property
    def has_scale(self) -> bool:
        """Only with ``feature_norm="hard"``."""
        return self.feature_norm == "hard"

    def init_state(self) -> dict[str, Array]:
        """The annealing's step counter, int32, 0."""
        return {"step": jnp.zeros((), jnp.int32)}

    def observe(self, target_cosines: Array, context: Context) -> Context:
        """``context`` one annealing step further."""
        del target_cosines
        if context.state is None:
            return context
        return dataclasses.replace(context, state={"step": context.state["step"] + 1})

    def scales(self, scale: ArrayLike | None, context: Context) -> Array:
        """The embeddings' own lengths, or the given scale."""
        if self.has_scale:
            return super().scales(scale, context)
        if scale is not None:
            raise ValueError(
                'sphereface_psi(feature_norm="free") is scaled by the length of each embedding; '
                'leave scale=None or take feature_norm="hard".'
            )
        if context.norms is None:
            raise ValueError("the lengths of the embeddings are not known here; pass scale=.")
        return context.norms

    def _annealing(self, context: Context) -> Array:
        floor = jnp.asarray(self.lambda_min, jnp.float32)
        if context.state is None:
            return floor
        step = context.state["step"].astype(jnp.float32)
        return jnp.maximum(floor, self.lambda_0 / (1.0 + self.gamma * step) ** self.power)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        pieces = math.ceil(self.m)
        theta = jax.lax.stop_gradient(geometry.angle(cosines))
        k = jnp.clip(jnp.floor(theta * (self.m / math.pi)), 0, pieces - 1)
        sign = 1.0 - 2.0 * jnp.mod(k, 2.0)
        if float(self.m).is_integer():
            multiple = geometry.chebyshev(cosines, pieces)
        else:
            dtype = cosines.dtype
            multiple = geometry.shifted_cosine(
                cosines, jnp.asarray(self.m, dtype), jnp.zeros((), dtype)
            )
        weight = jax.lax.stop_gradient(self._annealing(context)).astype(cosines.dtype)
        value = (weight * cosines + sign * multiple - 2.0 * k) / (1.0 + weight)
        return _detach_margin(cosines, value, self.gradient)


def softmax() -> Softmax:
    """Plain softmax with a bias, nothing normalised (ArcFace paper, eq. 1).

    >>> softmax()
    Softmax()
    """
    return Softmax()


def norm_softmax() -> Margin:
    """Softmax of scaled cosines without a margin (ArcFace paper, eq. 2; NormFace).

    >>> target_cosine(0.5, norm_softmax())
    Array(0.5, dtype=float32)
    """
    return Margin()


def sphereface(m: ArrayLike = 1.35, *, tail: str = "hard", gradient: str = "exact") -> Margin:
    r"""The angle times ``m``, the combined form of SphereFace: :math:`\cos(m\theta)`.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4 and table 2. :func:`sphereface_psi` has the
    form first published.

    >>> sphereface().m1
    1.35
    """
    return Margin(m1=m, tail=tail, gradient=gradient)


def arcface(m: ArrayLike = 0.5, *, tail: str = "hard", gradient: str = "exact") -> Margin:
    r"""The angle plus ``m`` radians: :math:`\cos(\theta + m)`.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 3.

    >>> arcface(0.25)
    Margin(m1=1.0, m2=0.25, m3=0.0, tail='hard', gradient='exact', tail_margin=0.0)
    """
    return Margin(m2=m, tail=tail, gradient=gradient)


def cosface(m: ArrayLike = 0.35) -> Margin:
    r"""The cosine minus ``m``: :math:`\cos\theta - m`; it needs no tail rule.

    Source: Wang et al., CosFace (CVPR 2018), eq. 4; AM-softmax.

    >>> target_cosine(0.5, cosface(0.25))
    Array(0.25, dtype=float32)
    """
    return Margin(m3=m)


def combined(
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.5,
    m3: ArrayLike = 0.0,
    *,
    tail: str = "hard",
    gradient: str = "exact",
    tail_margin: ArrayLike = 0.0,
) -> Margin:
    r"""All three margins at once: :math:`\cos(m_1\theta + m_2) - m_3`.

    The paper's mixtures are ``combined(1, 0.3, 0.2)`` and ``combined(0.9, 0.4, 0.15)``.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4.

    >>> combined(1.0, 0.0, 0.25) == cosface(0.25)
    True
    """
    return Margin(m1, m2, m3, tail=tail, gradient=gradient, tail_margin=tail_margin)


def sphereface_psi(
    m: float = 4,
    *,
    feature_norm: str = "free",
    gradient: str = "exact",
    annealed: bool = True,
    lambda_0: ArrayLike = 1000.0,
    gamma: ArrayLike = 0.12,
    power: ArrayLike = 1.0,
    lambda_min: ArrayLike = 5.0,
) -> PsiMargin:
    r"""SphereFace as first published, with its monotone :math:`\psi` and annealing.

    ``annealed=False`` takes psi alone (lambda = 0 from the first step).

    Source: Liu et al., SphereFace (CVPR 2017), eqs. 6 and 7.

    >>> sphereface_psi().m
    4
    """
    if not annealed:
        lambda_0 = lambda_min = 0.0
    return PsiMargin(
        m,
        feature_norm=feature_norm,
        gradient=gradient,
        lambda_0=lambda_0,
        gamma=gamma,
        power=power,
        lambda_min=lambda_min,
    )


MARGINS: dict[str, Callable[..., MarginRule]] = {
    "softmax": softmax,
    "norm_softmax": norm_softmax,
    "sphereface": sphereface,
    "sphereface_psi": sphereface_psi,
    "cosface": cosface,
    "arcface": arcface,
    "combined": combined,
}


def target_cosine(cos: ArrayLike, margin: MarginRule) -> Array:
    """The cosine of the true class after the margin, elementwise.

    Args:
      cos: float[...], cosine of the angle to the true class's centre, in [-1, 1].
      margin: any margin without batch statistics.

    Returns:
      float32[...] (float64 stays float64), without the scale.

    >>> target_cosine(jnp.array([1.0, 0.0]), cosface(0.25))
    Array([ 0.75, -0.25], dtype=float32)
    """
    return margin.target(geometry.clip_cosine(geometry.as_float(cos)), Context())


def margin_logits(
    cosines: ArrayLike, labels: ArrayLike, *, margin: MarginRule, scale: ArrayLike | None = None
) -> Array:
    r"""Scaled logits in which each row's true class has its margin.

    .. math:: z_{ij} = s\,\big(T(c_{ij})\,[j = y_i] + c_{ij}\,[j \neq y_i]\big)

    Args:
      cosines: float[B, C], cosine of embedding i to class centre j, in [-1, 1].
      labels: int[B]; -1 marks a row without a class, which gets no margin.
      margin: what happens to the true class's cosine.
      scale: s > 0, a scalar or one number per row; None for the margin's own.

    Returns:
      float32[B, C] (float64 stays float64), whatever the dtype of ``cosines``: at s = 64
      neighbouring bfloat16 numbers are 0.25 to 0.5 apart.

    Raises:
      ValueError: shapes do not fit, or ``labels`` are not integers.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4.

    >>> cosines = jnp.array([[0.75, 0.125], [0.25, 0.5]])
    >>> margin_logits(cosines, jnp.array([0, 1]), margin=cosface(0.25), scale=8.0)
    Array([[4., 1.],
           [2., 2.]], dtype=float32)
    """
    cosines, labels = geometry.as_float(cosines), jnp.asarray(labels)
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1]:
        raise ValueError(
            f"expected cosines [B, C] and labels [B], got {cosines.shape} and {labels.shape}; "
            "for one-hot labels pass labels.argmax(-1)."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are class indices, got dtype {labels.dtype}; cast with "
            "labels.astype(jnp.int32)."
        )
    if margin.normalized:
        cosines = geometry.clip_cosine(cosines)
    context = Context()
    # Compared, not indexed: an index of -1 would wrap round to the last class.
    is_label = labels[:, None] == jnp.arange(cosines.shape[1])[None, :]
    own = jnp.sum(jnp.where(is_label, cosines, 0.0), axis=1)
    target = margin.target(own, context)
    logits = jnp.where(is_label, target[:, None], margin.negatives(cosines, context))
    return logits * jnp.reshape(margin.scales(scale, context), (-1, 1)).astype(logits.dtype)
