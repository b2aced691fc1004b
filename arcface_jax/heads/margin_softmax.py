"""The margin softmax loss: any margin on any head."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads.dense import Dense
from arcface_jax.heads.head import Head
from arcface_jax.known_names import unknown_name
from arcface_jax.losses.labels import check_labels, mark_rows
from arcface_jax.margins import Context, MarginRule

HEADS: dict[str, Head] = {"dense": Dense()}


def margin_softmax_loss(
    embeddings: ArrayLike,
    centers: ArrayLike,
    labels: ArrayLike,
    *,
    margin: MarginRule,
    scale: ArrayLike | None = None,
    where: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    params: Any = None,
    state: Any = None,
    key: Array | None = None,
    head: str | Head = "dense",
) -> Any:
    r"""Cross entropy of each row's class after its margin, one value per row.

    .. math:: \ell_i = -\log\frac{e^{s\,T(\cos\theta_{y_i})}}
       {e^{s\,T(\cos\theta_{y_i})} + \sum_{j \ne y_i} e^{s\cos\theta_j}}

    Args:
      embeddings: float[B, D], not normalised.
      centers: float[C, D], not normalised.
      labels: int[B]; -1 is ignored (loss 0).
      margin: what happens to the cosines, such as ``arcface(0.5)``.
      scale: s > 0, a scalar or one number per row; None for the margin's own.
      where: bool[B], rows that count; the others' loss is 0.
      bias: float[C], only for plain softmax.
      params: the margin's own trainable scalars, from ``margin.init_params(C)``.
      state: the margin's running state, from ``margin.init_state()``.
      key: random key, for margins that draw.
      head: how the sum over classes is taken; a name or a `Head`.

    Returns:
      float32[B] (float64 stays float64). A margin that keeps a state returns
      ``(float32[B], new_state)``.

    Raises:
      ValueError: shapes do not fit, a label lies outside [0, C), a state or bias is missing or
        not wanted, an unknown head. Inside compiled code such a label gives NaN in its row.

    Source: Deng et al., ArcFace (CVPR 2019), eqs. 1 to 4.

    >>> from arcface_jax.margins import cosface
    >>> x, w = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> margin_softmax_loss(x, w, jnp.array([0]), margin=cosface(1.0), scale=4.0)
    Array([0.6931472], dtype=float32)
    """
    embeddings, centers = jnp.asarray(embeddings), jnp.asarray(centers)
    if embeddings.ndim != 2 or centers.ndim != 2 or embeddings.shape[1] != centers.shape[1]:
        raise ValueError(
            f"expected embeddings [B, D] and centers [C, D], got {embeddings.shape} and "
            f"{centers.shape}; rows of centers are classes (pass the transpose of a [D, C] kernel)."
        )
    rows, num_classes = embeddings.shape[0], centers.shape[0]
    labels = check_labels(labels, rows=rows, num_classes=num_classes)
    if where is not None:
        where = jnp.asarray(where)
        if where.shape != (rows,) or where.dtype != jnp.bool_:
            raise ValueError(f"where is bool[{rows}], got {where.dtype}{where.shape}.")
    if bias is not None and not margin.has_bias:
        raise ValueError(f"{type(margin).__name__} has no bias; only plain softmax has one.")
    keeps_state = margin.init_state() is not None
    if keeps_state and state is None:
        raise ValueError(
            f"{type(margin).__name__} keeps a running state; pass state=margin.init_state() first, "
            "then the state that each call returns."
        )
    if params is None and margin.init_params(num_classes) is not None:
        raise ValueError(
            f"{type(margin).__name__} has trainable scalars; pass params=margin.init_params(C)."
        )
    if isinstance(head, str):
        if head not in HEADS:
            raise unknown_name("head", head, HEADS)
        head = HEADS[head]
    counted = labels >= 0 if where is None else (labels >= 0) & where
    losses, context = head(
        embeddings,
        centers,
        labels,
        margin=margin,
        scale=scale,
        bias=None if bias is None else geometry.as_float(bias),
        context=Context(
            norms=geometry.length(embeddings), where=counted, params=params, state=state, key=key
        ),
    )
    losses = mark_rows(losses, labels, num_classes=num_classes, where=where)
    return (losses, context.state) if keeps_state else losses
