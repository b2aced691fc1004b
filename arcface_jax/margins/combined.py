"""The combined margin and the named losses that are points of it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.margins.bounds import check_angle, check_choice, check_number, is_number
from arcface_jax.margins.registry import register_margin
from arcface_jax.margins.rule import Context, MarginRule, detach_margin, like

TAILS = ("hard", "easy", "mirror", "clip", "none", "min", "facex")
GRADIENTS = ("exact", "straight_through")


def combined_target(
    cosines: Array,
    m1: ArrayLike,
    m2: ArrayLike,
    m3: ArrayLike,
    *,
    tail: str,
    tail_margin: ArrayLike = 0.0,
) -> Array:
    """The combined margin with its tail, elementwise; see `Margin`.

    >>> combined_target(jnp.float32(0.5), 1.0, 0.0, 0.25, tail="hard")
    Array(0.25, dtype=float32)
    """
    m1, m2, m3, tail_margin = (like(m, cosines) for m in (m1, m2, m3, tail_margin))
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
    }[tail]()
    return value - m3


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

    >>> from arcface_jax.margins import target_cosine
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
        check_number("m1", self.m1, 0.0, math.inf, includes_low=False)
        check_angle("m2", self.m2)
        check_number("m3", self.m3, -math.inf, math.inf, includes_low=False)
        if is_number(self.m1) and is_number(self.m2) and self.m1 * math.pi + self.m2 > 2 * math.pi:
            raise ValueError(
                f"m1={self.m1} with m2={self.m2} turns the angle past 2 pi, where the target would "
                f"rise again; m1 is at most {2 - self.m2 / math.pi:.4g} here (sphereface_psi has "
                "larger factors)."
            )
        check_choice("tail", self.tail, TAILS)
        check_choice("gradient", self.gradient, GRADIENTS)

    def target(self, cosines: Array, context: Context) -> Array:
        """The cosine of the true class after the margin, elementwise."""
        del context
        value = combined_target(
            cosines, self.m1, self.m2, self.m3, tail=self.tail, tail_margin=self.tail_margin
        )
        return detach_margin(cosines, value, self.gradient)


@register_margin(
    "norm_softmax",
    formula="cos θ",
    source="Deng et al., ArcFace, CVPR 2019, eq. 2; Wang et al., NormFace, ACM MM 2017",
)
def norm_softmax() -> Margin:
    """Softmax of scaled cosines without a margin (ArcFace paper, eq. 2; NormFace).

    >>> from arcface_jax.margins import target_cosine
    >>> target_cosine(0.5, norm_softmax())
    Array(0.5, dtype=float32)
    """
    return Margin()


@register_margin(
    "sphereface",
    formula="cos(m θ)",
    source="Deng et al., ArcFace, CVPR 2019, eq. 4 and table 2",
)
def sphereface(m: ArrayLike = 1.35, *, tail: str = "hard", gradient: str = "exact") -> Margin:
    r"""The angle times ``m``, the combined form of SphereFace: :math:`\cos(m\theta)`.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 4 and table 2. :func:`sphereface_psi` has the
    form first published.

    >>> sphereface().m1
    1.35
    """
    return Margin(m1=m, tail=tail, gradient=gradient)


@register_margin(
    "cosface",
    formula="cos θ − m",
    source="Wang et al., CosFace, CVPR 2018, eq. 4; AM-softmax",
)
def cosface(m: ArrayLike = 0.35) -> Margin:
    r"""The cosine minus ``m``: :math:`\cos\theta - m`; it needs no tail rule.

    Source: Wang et al., CosFace (CVPR 2018), eq. 4; AM-softmax.

    >>> from arcface_jax.margins import target_cosine
    >>> target_cosine(0.5, cosface(0.25))
    Array(0.25, dtype=float32)
    """
    return Margin(m3=m)


@register_margin(
    "arcface",
    formula="cos(θ + m)",
    source="Deng et al., ArcFace, CVPR 2019, eq. 3",
)
def arcface(m: ArrayLike = 0.5, *, tail: str = "hard", gradient: str = "exact") -> Margin:
    r"""The angle plus ``m`` radians: :math:`\cos(\theta + m)`.

    Source: Deng et al., ArcFace (CVPR 2019), eq. 3.

    >>> arcface(0.25)
    Margin(m1=1.0, m2=0.25, m3=0.0, tail='hard', gradient='exact', tail_margin=0.0)
    """
    return Margin(m2=m, tail=tail, gradient=gradient)


@register_margin(
    "combined",
    formula="cos(m1 θ + m2) − m3",
    source="Deng et al., ArcFace, CVPR 2019, eq. 4",
)
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
