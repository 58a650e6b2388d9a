"""Values of losses' parameters and of their arguments' elements: what one may be and what not; what twins are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossfast._loss import ELEMENTS, Choice, Loss, Parameter, inside, looped

INF, NAN = math.inf, math.nan

#: Values of a parameter beside its default, by its domain.
OTHER_VALUES = {
    "> 0": (0.5, 3.0),
    ">= 0": (0.0, 0.5, 2.0),
    "finite": (-0.5, 2.0),
    "finite and > 0": (0.7, 3.0),
    "finite and >= 0": (1e-3, 0.5),
    "finite and >= -1": (-1.0, -0.3, 2.0),
    "in [0, 1]": (0.1, 1.0),
    "in (0, 1)": (0.25, 0.9),
    "in (0, 0.5)": (1e-3, 0.375),
    "finite, > 0 and not 1": (2.0, 10.0, 0.3),
}
#: values outside each domain
OUTSIDE = {
    "> 0": (0, -1, NAN),
    ">= 0": (-1e-9, NAN),
    "finite": (INF, NAN),
    "finite and > 0": (0, -2, INF, NAN),
    "finite and >= 0": (-1, INF, NAN),
    "finite and >= -1": (-1.001, INF, NAN),
    "in [0, 1]": (-0.1, 1.5, NAN),
    "in (0, 1)": (0, 1, NAN),
    "in (0, 0.5)": (0, 0.5, -0.1, NAN),
    "finite, > 0 and not 1": (0, 1, -2, INF, NAN),
}


def other_values_of(parameter: Parameter | Choice) -> tuple[Any, ...]:
    """Values that are not the default."""
    if isinstance(parameter, Choice):
        return tuple(choice for choice in parameter.choices if choice != parameter.default)
    return OTHER_VALUES[parameter.domain]


def outside_of(parameter: Parameter | Choice) -> tuple[Any, ...]:
    """Values that a ValueError refuses."""
    return ("average", -7) if isinstance(parameter, Choice) else OUTSIDE[parameter.domain]


#: Losses and functions with derivatives in one argument; `test_two_inputs` has the others.
SINGLE = looped()

# ----------------------------------------------------------------------------------------------------- elements

#: Elements inside each domain: both answers and what lies between, or some of every kind.
ELEMENTS_INSIDE = {
    None: (0.0, 1.0, 0.25),
    "-1 or 1": (-1.0, 1.0),
    "0 or 1": (0.0, 1.0),
    "in [0, 1]": (0.0, 1.0, 0.25),
    ">= 0": (0.0, 1.0, 0.25),
    "> 0": (1.0, 0.25, 6.0),
    "not 0": (1.0, 0.25, -6.0),
    "> -1": (0.0, 2.0, -0.75),
}
#: And outside, but for NaN, which is neither.
ELEMENTS_OUTSIDE = {
    "-1 or 1": (0.0, 0.5, -2.0, INF, -INF),
    "0 or 1": (-1.0, 0.5, 2.0, INF, -INF),
    "in [0, 1]": (-1e-3, 1.25, INF, -INF),
    ">= 0": (-1e-3, -6.0, -INF),
    "> 0": (0.0, -0.0, -1e-3, -INF),
    "not 0": (0.0, -0.0),
    "> -1": (-1.0, -1.25, -INF),
}


def targets_of(loss: Loss) -> tuple[float, ...]:
    """Elements of its targets; one that is not looked at, for a function."""
    return ELEMENTS_INSIDE[loss.domains.get("target")] if len(loss.operands) > 1 else (0.0,)


def extras_of(loss: Loss) -> tuple[float, ...]:
    """Elements of its element-wise parameter; 1 where it has none."""
    if loss.extra is None:
        return (1.0,)
    return ELEMENTS_INSIDE[loss.domains[loss.extra]] if loss.extra in loss.domains else (1.0, 0.75)


def predictions_of(loss: Loss, numbers: np.ndarray) -> np.ndarray:
    """Numbers for its first argument, each once."""
    if loss.domains.get("pred") == "in [0, 1]":  # as near to one end as to the other
        numbers = np.concatenate((numbers, (1 - np.abs(numbers)).astype(numbers.dtype)))
    return np.unique(inside(loss, "pred", numbers)) if "pred" in loss.domains else numbers


def is_inside(loss: Loss, name: str, number: Any) -> bool:
    """Whether a number may be an element of that argument."""
    return name not in loss.domains or bool(ELEMENTS[loss.domains[name]](number))


def within(loss: Loss, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
    """Operands brought into their domains."""
    return tuple(inside(loss, name, operand) for name, operand in zip(loss.operands, operands, strict=True))
