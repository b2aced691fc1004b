"""Checking the name of a split."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The words "Did you mean X?" with the known name nearest to ``name``, or nothing.

    >>> nearest("omniglt", ["lfw", "omniglot"])
    ' Did you mean omniglot?'
    """
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]}?" if match else ""


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
