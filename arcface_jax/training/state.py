"""What training carries from step to step, and what a sweep varies without recompiling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from arcface_jax.margins import MarginRule


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """The whole state of a run as one pytree.

    Attributes:
      step: int32, steps done.
      params: parameters of the backbone (an `nnx.State`).
      rest: everything else the backbone carries: batch statistics, dropout counters.
      head: ``{"centers": float[C, D]}`` (``[C, K, D]`` for K centres a class) and, for
        margins that have one, ``"bias": float[C]``.
      margin_params: the margin's own trainable scalars, or None.
      margin_state: the margin's running state, or None.
      average: running mean of ``params`` where the margin wants its features, or None.
      term_state: of added terms, by name; centre loss keeps its own centres.
      optimizer: optax's state over (params, head, margin_params).
      key: folded with the step wherever a margin draws.
    """

    step: Array
    params: Any
    rest: Any
    head: dict[str, Array]
    margin_params: Any
    margin_state: Any
    average: Any
    term_state: dict[str, Array]
    optimizer: Any
    key: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
    """Traced hyper-parameters: runs that differ in these alone share one compiled step.

    Attributes:
      margin: its numbers are traced, its kind, tail and gradient convention are not.
      scale: s, or None for the margin's own.
      terms: weights of terms added to the loss, by name; see `arcface_jax.training.TERMS`.
      learning_rate: base rate, multiplied by the schedule's factor.
      weight_decay: added to the gradient as ``weight_decay * w``.
    """

    margin: MarginRule
    scale: Any
    learning_rate: Any
    weight_decay: Any
    terms: dict[str, Any] = dataclasses.field(default_factory=dict)

    def traced(self) -> "Hyper":
        """Every number as a float32 array, so that 0.5 and 1 do not compile apart."""
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), self)
