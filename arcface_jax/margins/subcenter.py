"""Sub-centre ArcFace: several centres per class, the nearest counts."""

import dataclasses

import jax
from jax.typing import ArrayLike

from arcface_jax.margins.combined import Margin
from arcface_jax.margins.registry import register_margin


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SubcenterArcFace(Margin):
    r"""ArcFace on the nearest of K centres of each class.

    .. math:: c_{ij} = \max_k \hat x_i \cdot \hat W_{jk}

    Only the nearest centre gets a gradient. Any margin takes centres of shape [C, K, D]; this one
    also tells training to make K of them.

    Args:
      k: centres per class, >= 1.

    Source: Deng et al., Sub-center ArcFace (ECCV 2020), eq. 3.

    >>> subcenter_arcface(k=2).centers_per_class
    2
    """

    k: int = dataclasses.field(default=3, kw_only=True, metadata={"static": True})

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"k={self.k!r} must be a Python integer of at least 1.")

    @property
    def centers_per_class(self) -> int:
        """K."""
        return self.k


@register_margin(
    "subcenter_arcface",
    formula="cos(θ + m) with the nearest of K centres of each class",
    source="Deng et al., Sub-center ArcFace, ECCV 2020, eq. 3",
)
def subcenter_arcface(
    m: ArrayLike = 0.5, *, k: int = 3, tail: str = "hard", gradient: str = "exact"
) -> SubcenterArcFace:
    """ArcFace with ``k`` centres per class, for noisy identities; ``k=1`` is ArcFace.

    Source: Deng et al., Sub-center ArcFace (ECCV 2020).

    >>> subcenter_arcface().k
    3
    """
    return SubcenterArcFace(m2=m, k=k, tail=tail, gradient=gradient)
