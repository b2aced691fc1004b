"""Learning-rate schedules as a factor in [0, 1] on a traced base rate."""

import dataclasses

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from arcface_jax.known_names import unknown_name

SCHEDULES = ("constant", "cosine", "step", "poly")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up from 0, then a decay to 0 (or in steps).

    Args:
      name: ``constant``, ``cosine`` (half a wave to 0), ``step`` (divided by 10 at each drop), or
        ``poly`` (``(1 - t)^power``).
      steps: of the whole training.
      warmup: steps of the linear rise.
      drops: for ``step``: steps at which the rate falls to a tenth.
      power: for ``poly``; arcface_torch used 2 in its 2022 runs and 1 since.

    Raises:
      ValueError: an unknown name, or steps that do not fit together.

    >>> [float(ScheduleConfig(name="poly", steps=4, power=1.0).factor(t)) for t in (0, 2, 4)]
    [1.0, 0.5, 0.0]
    """

    name: str = "cosine"
    steps: int
    warmup: int = 0
    drops: tuple[int, ...] = ()
    power: float = 2.0

    def __post_init__(self):
        if self.name not in SCHEDULES:
            raise unknown_name("schedule", self.name, SCHEDULES)
        if self.steps < 1 or not 0 <= self.warmup < self.steps:
            raise ValueError(
                f"warmup={self.warmup} must lie in [0, steps={self.steps}), and steps be at least "
                "1; shorten the warm-up or train longer."
            )
        late = [d for d in self.drops if not self.warmup < d < self.steps]
        if late or list(self.drops) != sorted(set(self.drops)):
            raise ValueError(
                f"drops {self.drops} must rise strictly between warmup={self.warmup} and "
                f"steps={self.steps}."
            )

    def factor(self, step: ArrayLike) -> Array:
        """Share of the base learning rate at ``step`` (0 is the first), a traced scalar."""
        after = self.steps - self.warmup
        decay = {
            "constant": lambda: optax.constant_schedule(1.0),
            "cosine": lambda: optax.cosine_decay_schedule(1.0, after),
            "step": lambda: optax.piecewise_constant_schedule(
                1.0, {drop - self.warmup: 0.1 for drop in self.drops}
            ),
            "poly": lambda: optax.polynomial_schedule(1.0, 0.0, self.power, after),
        }[self.name]()
        step = jnp.asarray(step)
        if self.warmup:
            # The first step trains too: it takes 1 / warmup, not 0.
            rise = (step + 1) / self.warmup
            return jnp.where(step < self.warmup, rise, decay(step - self.warmup))
        return jnp.asarray(decay(step), jnp.float32)
