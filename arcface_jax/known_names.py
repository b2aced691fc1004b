"""Errors for names that do not exist, with the nearest that does."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The words " Did you mean X?" with the known name nearest to ``name``, or nothing.

    >>> nearest("omniglt", ["lfw", "omniglot"])
    ' Did you mean omniglot?'
    """
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]}?" if match else ""


def refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises the error for the first of ``names`` that is not one of ``known``.

    >>> refuse_unknown("field", ["size", "colour"], ["size", "color"])
    Traceback (most recent call last):
    ValueError: unknown field 'colour'; known: size, color. Did you mean color?
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown_name(what, name, known)


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not one of ``known``, to be raised.

    >>> raise unknown_name("margin", "arcfaec", ["arcface", "cosface"])
    Traceback (most recent call last):
    ValueError: unknown margin 'arcfaec'; known: arcface, cosface. Did you mean arcface?
    """
    known = list(known)
    return ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}.{nearest(name, known)}")
