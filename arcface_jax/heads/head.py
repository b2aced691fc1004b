"""What every head promises."""

from typing import Protocol

from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from arcface_jax.margins import Context, MarginRule


class Head(Protocol):
    """Takes the sum over classes for any margin; equal to the dense head in value and gradient."""

    @property
    def samples_classes(self) -> bool:
        """Whether a step leaves classes out."""
        ...

    @property
    def mesh(self) -> Mesh | None:
        """The devices that the classes are cut over, or None for one device."""
        ...

    @property
    def num_classes(self) -> int | None:
        """C, where it is not the number of rows of the centres that the head takes."""
        ...

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
        """One loss per row, float[B], and the context after the margin has observed the batch.

        Shapes and labels are checked already; rows without a class are masked by the caller.
        ``counts``, float[C], says how many classes each row of the centres stands for.
        """
        ...
