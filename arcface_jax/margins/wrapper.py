"""A margin that changes one thing of another."""

import dataclasses
from typing import Any

from jax import Array
from jax.typing import ArrayLike

from arcface_jax.margins.combined import Margin
from arcface_jax.margins.rule import Context, MarginRule

ARCFACE = Margin(m2=0.5)


@dataclasses.dataclass(frozen=True)
class Wrapper(MarginRule):
    """Passes every question on to ``margin``; a subclass changes some answers.

    >>> from arcface_jax.margins import softmax
    >>> Wrapper(softmax()).normalized
    False
    """

    margin: MarginRule = ARCFACE

    def __post_init__(self):
        # What is fixed for a class of margins is an attribute there, and one of this margin here.
        for name in (
            "link",
            "normalized",
            "default_scale",
            "needs_key",
            "needs_center_norms",
        ):
            object.__setattr__(self, name, getattr(self.margin, name))
        for name in ("needs_all_classes", "state_by_class"):
            if not getattr(self, name):
                object.__setattr__(self, name, getattr(self.margin, name))

    @property
    def needs_norms(self) -> bool:
        """As the wrapped margin."""
        return self.margin.needs_norms

    @property
    def has_bias(self) -> bool:
        """As the wrapped margin."""
        return self.margin.has_bias

    @property
    def no_scale(self) -> str:
        """As the wrapped margin."""
        return self.margin.no_scale

    @property
    def keeps_state(self) -> bool:
        """As the wrapped margin."""
        return self.margin.keeps_state

    @property
    def centers_per_class(self) -> int:
        """As the wrapped margin."""
        return self.margin.centers_per_class

    def init_state(self, num_classes: int | None = None, embedding_dim: int | None = None) -> Any:
        """As the wrapped margin."""
        return self.margin.init_state(num_classes, embedding_dim)

    def init_params(self, num_classes: int, *, scale: float | None = None) -> Any:
        """As the wrapped margin."""
        return self.margin.init_params(num_classes, scale=scale)

    def init_bias(self, num_classes: int) -> Array | None:
        """As the wrapped margin."""
        return self.margin.init_bias(num_classes)

    def offsets(self, bias: Array | None, context: Context) -> Array | None:
        """As the wrapped margin."""
        return self.margin.offsets(bias, context)

    def prototypes(self, centers: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.prototypes(centers, context)

    @property
    def features_momentum(self) -> ArrayLike | None:
        """As the wrapped margin."""
        return self.margin.features_momentum

    @property
    def observes_others(self) -> bool:
        """As the wrapped margin."""
        return self.margin.observes_others

    def observe(self, context: Context) -> Context:
        """As the wrapped margin."""
        return self.margin.observe(context)

    def remember(self, embeddings: Array, labels: Array, context: Context) -> Context:
        """As the wrapped margin."""
        return self.margin.remember(embeddings, labels, context)

    def scales(self, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.scales(context)

    def target(self, cosines: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.target(cosines, context)

    def negatives(self, cosines: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.negatives(cosines, context)

    def target_loss(self, logits: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.target_loss(logits, context)

    def negative_losses(self, logits: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.negative_losses(logits, context)

    def finish(self, losses: Array, context: Context) -> Array:
        """As the wrapped margin."""
        return self.margin.finish(losses, context)
