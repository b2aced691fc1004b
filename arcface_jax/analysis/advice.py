"""What scale s a number of classes asks for."""

import math


def suggest_scale(num_classes: int, probability: float = 0.9) -> float:
    r"""Smallest scale at which a class centre itself can reach ``probability``.

    .. math:: s \ge \frac{C - 1}{C} \ln\frac{(C - 1) P}{1 - P}

    With all centres spread as evenly as they can be, a sample on its own centre gets a softmax
    probability of P only from this scale on; a smaller one leaves a loss that cannot be reduced.

    Args:
      num_classes: C, at least 2.
      probability: wanted probability P, in (1 / C, 1).

    Raises:
      ValueError: fewer than two classes, or a probability outside (1 / C, 1).

    Source: Wang et al., CosFace (CVPR 2018), section 3.3.

    >>> round(suggest_scale(2, 0.9), 4)
    1.0986
    """
    if num_classes < 2:
        raise ValueError(f"a scale needs two classes or more, got num_classes={num_classes}.")
    if not 1.0 / num_classes < probability < 1.0:
        raise ValueError(
            f"choose {1.0 / num_classes:g} < probability < 1 for {num_classes} classes, "
            f"got {probability:g}: chance alone gives the lower end, no scale the upper."
        )
    odds = (num_classes - 1) * probability / (1.0 - probability)
    return (num_classes - 1) / num_classes * math.log(odds)


def fixed_adacos_scale(num_classes: int) -> float:
    r"""Scale :math:`\sqrt{2} \ln(C - 1)`, with which the target probability bends at 45 degrees.

    Args:
      num_classes: C, at least 3.

    Raises:
      ValueError: fewer than three classes (ln 1 = 0).

    Source: Zhang et al., AdaCos (CVPR 2019), fixed AdaCos.

    >>> round(fixed_adacos_scale(10_575), 3)
    13.104
    """
    if num_classes < 3:
        raise ValueError(
            f"sqrt(2) ln(C - 1) needs three classes or more, got num_classes={num_classes}; "
            "use suggest_scale."
        )
    return math.sqrt(2.0) * math.log(num_classes - 1)
