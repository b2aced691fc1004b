"""Margins that change with the number of steps."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from arcface_jax.margins.rule import Context, MarginRule


class CountsSteps(MarginRule):
    """A margin whose state is the number of the step, 1 at the first.

    >>> CountsSteps().observe(Context(state=CountsSteps().init_state())).state
    {'step': Array(1, dtype=int32)}
    """

    def init_state(
        self, num_classes: int | None = None, embedding_dim: int | None = None
    ) -> dict[str, Array]:
        """No step yet: int32, 0."""
        del num_classes, embedding_dim
        return {"step": jnp.zeros((), jnp.int32)}

    def observe(self, context: Context) -> Context:
        """``context`` one step further."""
        if context.state is None:
            return context
        return dataclasses.replace(context, state={"step": context.state["step"] + 1})
