"""The margin softmax loss: any margin on any head."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads.dense import Dense
from arcface_jax.heads.fused import Fused
from arcface_jax.heads.head import Head
from arcface_jax.known_names import unknown_name
from arcface_jax.losses.labels import check_labels, mark_rows, rows_that_count
from arcface_jax.margins import Context, MarginRule
from arcface_jax.margins.bounds import check_number
from arcface_jax.margins.by_class import take_classes
from arcface_jax.margins.scale import scale_of

HEADS: dict[str, Head] = {"dense": Dense(), "fused": Fused()}


def margin_softmax_loss(
    embeddings: ArrayLike,
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    margin: MarginRule,
    scale: ArrayLike | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    label_smoothing: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    params: Any = None,
    state: Any = None,
    key: Array | None = None,
    features: ArrayLike | None = None,
    head: str | Head = "dense",
) -> Any:
    r"""Cross entropy of each row's class after its margin, one value per row.

    .. math:: \ell_i = -\log\frac{e^{s\,T(\cos\theta_{y_i})}}
       {e^{s\,T(\cos\theta_{y_i})} + \sum_{j \ne y_i} e^{s\cos\theta_j}}

    Args:
      embeddings: float[B, D], not normalised.
      centers: float[C, D], not normalised; float[C, K, D] for K centres a class, of which the
        nearest counts.
      labels: int[B]; -1 is ignored (loss 0).
      margin: what happens to the cosines, such as ``arcface(0.5)``. Its numbers may be traced, one
        per row, or one per class (:class:`ByClass`).
      scale: s > 0, a scalar or one number per row; None for the margin's own.
      where: bool[B], rows that count; the others' loss is 0 and they enter no statistics.
      weights: float[B], factors on the losses.
      label_smoothing: share of the true class's weight that is spread over all C classes, [0, 1).
      bias: float[C], from ``margin.init_bias(C)``, for margins that have one.
      params: the margin's own trainable scalars, from ``margin.init_params(C)``.
      state: the margin's running state, from ``margin.init_state(C, D)``.
      key: random key, for margins that draw.
      features: float[B, D], what a margin that remembers features takes instead of the
        embeddings, see ``margin.features_momentum``.
      head: how the sum over classes is taken; a name or a `Head`.

    Returns:
      float32[B] (float64 stays float64). A margin that keeps a state returns
      ``(float32[B], new_state)``.

    Raises:
      ValueError: shapes do not fit, a label lies outside [0, C), a scale is not positive, a
        state, key, bias or smoothing is missing or not wanted, an unknown head, a pair of head
        and margin that exclude each other. Inside compiled code such a label gives NaN in its
        row.

    Source: Deng et al., ArcFace (CVPR 2019), eqs. 1 to 4.

    >>> from arcface_jax.margins import cosface
    >>> x, w = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> margin_softmax_loss(x, w, jnp.array([0]), margin=cosface(1.0), scale=4.0)
    Array([0.6931472], dtype=float32)
    """
    embeddings, centers = jnp.asarray(embeddings), jnp.asarray(centers)
    _check_shapes(embeddings, centers)
    if isinstance(head, str):
        if head not in HEADS:
            raise unknown_name("head", head, HEADS)
        head = HEADS[head]
    rows, num_classes = embeddings.shape[0], head.num_classes or centers.shape[0]
    labels = check_labels(labels, rows=rows, num_classes=num_classes)
    counted = rows_that_count(labels, where)
    if weights is not None:
        weights = geometry.as_float(weights)
        if weights.shape != (rows,):
            raise ValueError(f"weights is float[{rows}], got {weights.shape}.")
    keeps_state = margin.keeps_state
    _check_margin(
        margin,
        head,
        centers,
        num_classes=num_classes,
        bias=bias,
        params=params,
        state=state,
        key=key,
        label_smoothing=label_smoothing,
    )
    margin = take_classes(margin, labels, num_classes=num_classes)
    # Zero in front of the loss: a NaN in a row of padding would pass a mask behind it.
    embeddings = jnp.where(counted[:, None], embeddings, 0.0).astype(embeddings.dtype)
    # A label that names no class gives NaN in its own row and enters no statistics.
    counted = counted & (labels >= 0) & (labels < num_classes)
    context = Context(
        scale=scale_of(margin, scale),
        norms=geometry.length(embeddings),
        where=counted,
        params=params,
        state=state,
        key=key,
        num_classes=num_classes,
    )
    losses, context = head(
        embeddings,
        margin.prototypes(centers, context),
        labels,
        margin=margin,
        bias=margin.offsets(None if bias is None else geometry.as_float(bias), context),
        context=context,
        label_smoothing=label_smoothing,
    )
    losses = margin.finish(losses, context)
    if head.samples_classes:
        # Its sample may have left rows out.
        assert context.where is not None
        losses = jnp.where(context.where, losses, 0.0)
    if weights is not None:
        losses = weights.astype(losses.dtype) * losses
    losses = mark_rows(losses, labels, num_classes=num_classes, where=where)
    if not keeps_state:
        return losses
    remembered = embeddings if features is None else jnp.asarray(features)
    return losses, margin.remember(remembered, labels, context).state


def _check_shapes(embeddings: Array, centers: Array) -> None:
    fits = embeddings.ndim == 2 and centers.ndim in (2, 3)
    if not fits or embeddings.shape[1] != centers.shape[-1]:
        raise ValueError(
            f"expected embeddings [B, D] and centers [C, D] or [C, K, D], got {embeddings.shape} "
            f"and {centers.shape}; rows of centers are classes (pass the transpose of a [D, C] "
            "kernel)."
        )


def _check_margin(
    margin: MarginRule,
    head: Head,
    centers: Array,
    *,
    num_classes: int,
    bias: ArrayLike | None,
    params: Any,
    state: Any,
    key: Array | None,
    label_smoothing: ArrayLike | None,
) -> None:
    """Refuses what this margin cannot do, or cannot do without."""
    name = type(margin).__name__
    if head.samples_classes and margin.needs_all_classes:
        raise ValueError(
            f"{name} cannot be used on a sample of the classes: {margin.needs_all_classes}; take "
            "a head that keeps them all, such as 'dense'."
        )
    if bias is not None and not margin.has_bias:
        raise ValueError(f"{name} has no number per class; leave bias=None.")
    if centers.ndim == 3 and margin.needs_center_norms:
        raise ValueError(f"{name} takes one centre per class, got centers {centers.shape}.")
    if margin.keeps_state and state is None:
        raise ValueError(
            f"{name} keeps a running state; pass state=margin.init_state(C, D) first, then the "
            "state that each call returns."
        )
    if params is None and margin.init_params(num_classes) is not None:
        raise ValueError(f"{name} has trainable scalars; pass params=margin.init_params(C).")
    if key is None and margin.needs_key:
        raise ValueError(f"{name} draws its margins; pass key=jax.random.key(step).")
    if label_smoothing is not None:
        if margin.link != "softmax":
            raise ValueError(f"{name} has no probabilities to smooth; leave label_smoothing=None.")
        check_number("label_smoothing", label_smoothing, 0.0, 1.0)
