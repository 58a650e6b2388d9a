"""Values of losses' parameters: what else one may be, what it may not, and the numbers that twins are given."""

from __future__ import annotations

import math
from typing import Any

from lossfast._loss import Choice, Loss, Parameter

INF, NAN = math.inf, math.nan

#: Values of a parameter beside its default, by its domain.
OTHER_VALUES = {
    "> 0": (0.5, 3.0),
    ">= 0": (0.0, 0.5, 2.0),
    "finite": (-0.5, 2.0),
    "finite and > 0": (0.7, 3.0),
    "finite and >= 0": (1e-3, 0.5),
    "in [0, 1]": (0.1, 1.0),
    "in (0, 1)": (0.25, 0.9),
}
#: values outside each domain
OUTSIDE = {
    "> 0": (0, -1, NAN),
    ">= 0": (-1e-9, NAN),
    "finite": (INF, NAN),
    "finite and > 0": (0, -2, INF, NAN),
    "finite and >= 0": (-1, INF, NAN),
    "in [0, 1]": (-0.1, 1.5, NAN),
    "in (0, 1)": (0, 1, NAN),
}


def other_values_of(parameter: Parameter | Choice) -> tuple[Any, ...]:
    """Values that are not the default."""
    if isinstance(parameter, Choice):
        return tuple(choice for choice in parameter.choices if choice != parameter.default)
    return OTHER_VALUES[parameter.domain]


def outside_of(parameter: Parameter | Choice) -> tuple[Any, ...]:
    """Values that a ValueError refuses."""
    return ("average", -7) if isinstance(parameter, Choice) else OUTSIDE[parameter.domain]


def numbers_of(loss: Loss, options: dict[str, Any] | None = None) -> list[float]:
    """What the twin is given for these options."""
    given = options or {}
    return [rule.number(given.get(name, rule.default)) for name, rule in loss.parameters.items()]
