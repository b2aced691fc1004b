"""Many faces in one picture."""

from collections.abc import Sequence

import numpy as np

from arcface_jax.data.faces.identity import Identity
from arcface_jax.data.faces.nuisances import Nuisances
from arcface_jax.data.faces.render import render


def contact_sheet(
    identities: Sequence[Identity], nuisances: Sequence[Nuisances], *, size: int, gap: int = 2
) -> np.ndarray:
    """One picture of all combinations: a row for each identity, a column for each nuisance.

    Args:
      identities: R people.
      nuisances: C ways to picture each.
      size: side of one face in px, 16..256.
      gap: white px between two faces.

    Returns:
      uint8[R * size + (R - 1) * gap, C * size + (C - 1) * gap, 3].

    Raises:
      ValueError: no identity or no nuisances, ``gap`` below 0, or ``size`` outside 16..256.

    >>> from arcface_jax.data.faces import Nuisances, draw_identity
    >>> people = [draw_identity(i, seed=0) for i in range(2)]
    >>> contact_sheet(people, [Nuisances()], size=16, gap=1).shape
    (33, 16, 3)
    """
    if not identities or not nuisances or gap < 0:
        raise ValueError(
            "a contact sheet needs at least one identity, one nuisance and gap >= 0, got "
            f"{len(identities)}, {len(nuisances)} and gap={gap}."
        )
    step = size + gap
    shape = (len(identities) * step - gap, len(nuisances) * step - gap, 3)
    sheet = np.full(shape, 255, np.uint8)
    for row, identity in enumerate(identities):
        for column, nuisance in enumerate(nuisances):
            top, left = row * step, column * step
            sheet[top : top + size, left : left + size] = render(identity, nuisance, size=size)
    return sheet
