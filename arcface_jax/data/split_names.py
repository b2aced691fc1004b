"""Checking the name of a split."""

from collections.abc import Iterable

from arcface_jax.known_names import nearest


def known_split(dataset: str, split: str, known: Iterable[str]) -> None:
    """Nothing, if ``split`` is one of ``known``.

    Raises:
      ValueError: it isn't; the known ones are listed.
    """
    known = list(known)
    if split not in known:
        raise ValueError(
            f"{dataset} has no split {split!r}; known: {', '.join(known)}.{nearest(split, known)}"
        )
