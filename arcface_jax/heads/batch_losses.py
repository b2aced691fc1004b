"""The order in which a head asks a margin: statistics first, then the classes, then the rows."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads.class_products import own_products, ready_rows
from arcface_jax.heads.class_sums import ClassSums, row_losses
from arcface_jax.margins import Context, MarginRule


class SumsOverClasses(Protocol):
    """How one device sums over the classes that it holds."""

    def sums(
        self,
        rows: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        smoothed: bool,
        counts: Array | None = None,
    ) -> tuple[Array, ClassSums]:
        """(product of each row with its own class, sums over its wrong classes).

        Args:
          rows: float[B, D], from `ready_rows`.
          centers: float[C, D] or float[C, K, D].
          labels: int[B]; a row whose class is not among these has a number outside [0, C).
          margin: what happens to the products of wrong classes.
          bias: float[C] or None.
          context: of the batch.
          smoothed: whether the sum of logits is wanted.
          counts: float[C], classes that each stands for, 0 for padding; None for one each.
        """
        ...


def _same(value: Any) -> Any:
    return value


def observed(
    local: SumsOverClasses,
    rows: Array,
    centers: Array,
    labels: Array,
    *,
    margin: MarginRule,
    bias: Array | None,
    context: Context,
    counts: Array | None = None,
    across: Callable[[Any], Any] = _same,
    of_rows: Callable[[Any], Any] = _same,
) -> Context:
    """``context`` after the margin has seen the batch: everything here is a constant but lengths.

    Args:
      local: how this device sums over its classes.
      rows: float[B, D], those that this device works on.
      centers: float[C, D], those that this device holds.
      labels: int[B], as for `SumsOverClasses`.
      margin: asked.
      bias: float[C] or None.
      context: of the whole batch.
      counts: float[C], classes that each of these stands for; None for one each.
      across: makes values of these rows and classes, or `ClassSums`, those of the whole batch.
      of_rows: cuts what is per row of the whole batch to these rows.
    """
    own = own_products(rows, centers, bias, labels, normalized=margin.normalized)
    context = dataclasses.replace(context, target_cosines=jax.lax.stop_gradient(across(own)))
    if margin.needs_center_norms:
        inside = (labels >= 0) & (labels < centers.shape[0])
        lengths = geometry.length(centers[jnp.where(inside, labels, 0)])
        lengths = across(jnp.where(inside, lengths, 0.0))
        context = dataclasses.replace(context, center_norms=lengths)
    if margin.observes_others:
        _, sums = local.sums(
            jax.lax.stop_gradient(rows),
            jax.lax.stop_gradient(centers),
            labels,
            margin=of_rows(margin),
            bias=bias,
            context=context.of_rows(of_rows),
            smoothed=False,
            counts=counts,
        )
        lse = jax.lax.stop_gradient(across(sums).lse)
        context = dataclasses.replace(context, others_lse=lse)
    return margin.observe(context)


class OneDevice(SumsOverClasses):
    """A head with all classes on one device; a subclass says how they are summed.

    >>> import arcface_jax as af
    >>> af.heads.Dense().samples_classes
    False
    """

    @property
    def samples_classes(self) -> bool:
        """No: every class counts in every step."""
        return False

    @property
    def mesh(self) -> Mesh | None:
        """None: one device holds all classes."""
        return None

    @property
    def num_classes(self) -> int | None:
        """None: every row of the centres is a class."""
        return None

    def __call__(
        self,
        embeddings: Array,
        centers: Array,
        labels: Array,
        *,
        margin: MarginRule,
        bias: Array | None,
        context: Context,
        label_smoothing: ArrayLike | None,
        counts: Array | None = None,
    ) -> tuple[Array, Context]:
        """One loss per row and the context after the margin has observed the batch."""
        data = (ready_rows(embeddings, normalized=margin.normalized), centers, labels)
        asked: dict[str, Any] = {"margin": margin, "bias": bias, "counts": counts}
        context = observed(self, *data, context=context, **asked)
        smoothed = label_smoothing is not None
        own, sums = self.sums(*data, context=context, smoothed=smoothed, **asked)
        return row_losses(own, sums, margin, context, label_smoothing=label_smoothing), context
