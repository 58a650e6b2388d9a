"""Calls to the public interface, drawn at random over the registry: right ones, and every kind of wrong one.

`draw_call` makes a `Call` of the choices of a `Draw`, which takes them from bytes: hypothesis's or a fuzzer's. Options,
methods and outputs are those that the objects declare, so that a new loss is covered as it stands; an option or a
method that the tables here do not know is an error, not a gap. A call knows what is wrong with it (`Call.wrong`), so
that the outcome can be judged: a right call has to succeed, a wrong one to fail with one of the named exceptions.

All arrays lie in blocks of bytes, with nothing or a margin around them. `Call.arrange` makes fresh copies of the blocks
and the arrays in them; what a call has touched is then seen byte by byte (`Arranged.touched`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from lossfast._arguments import OPTIONS, OUTPUT_DTYPES, REDUCED
from lossfast._jobs import ENTRY_OUTPUTS
from lossfast._loss import DOMAINS, ELEMENTS, EVALUATED, RIDGE, Choice, Parameter, inside, looped, method

REGISTRY = looped()

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = tuple(map(np.dtype, ("f8", "f4", "f2", BFLOAT16)))
INTEGERS = tuple(map(np.dtype, ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")))
INF, NAN = math.inf, math.nan
#: What bytes hold that no array covers.
FILLER = 0xA5

# ------------------------------------------------------------------------------------------------------- drawing


class Draw:
    """Choices, each made of `below`, from a string of bytes. 0 is the simplest, and what there is beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        width = ((n - 1).bit_length() + 7) // 8
        found = int.from_bytes(self.data[self.at : self.at + width], "little")
        self.at += width
        return found % n

    def choose(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def rarely(self, n: int) -> bool:
        """True once in n times; n is at least 2."""
        return self.below(n) == n // 2


# --------------------------------------------------------------------------------------------------------- calls


@dataclass(frozen=True)
class Array:
    """A part of a block of bytes, seen as an array, or handed over as the list of its entries."""

    block: int
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    writeable: bool = True
    as_list: bool = False

    def view(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        array: np.ndarray = np.ndarray(self.shape, self.dtype, blocks[self.block], self.offset, self.strides)
        array.flags.writeable = self.writeable
        return array

    def mark(self, marks: Sequence[np.ndarray]) -> None:
        """Set the marks of every byte it covers."""
        shape, strides = (*self.shape, self.dtype.itemsize), (*self.strides, 1)
        np.ndarray(shape, bool, marks[self.block], self.offset, strides)[...] = True


@dataclass
class Result:
    """What a call has to give: its name, the keyword of its buffer, and its shape and dtype (None: a float)."""

    name: str
    keyword: str | None
    shape: tuple[int, ...] | None
    dtype: np.dtype


@dataclass
class Call:
    """A loss, a method of it, and all that is given to it."""

    loss: Any
    method: str
    blocks: list[np.ndarray] = field(default_factory=list)
    operands: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)  #: what belongs to the method: buffers, ``want``, ``ridge``
    bound: bool = False  #: whether the options are given by `bind`
    turn: int = 0  #: which variant's threads are looked at
    results: list[Result] = field(default_factory=list)
    wrong: dict[str, tuple[type, ...]] = field(default_factory=dict)  #: what is, and the exceptions that say so
    doubtful: dict[str, tuple[type, ...]] = field(default_factory=dict)  #: what may be, as the values have it

    @property
    def over(self) -> bool:
        """Whether the gradient's buffer is the first operand."""
        return any(given is self.operands[0] for given in self.given.values())

    def arrange(self) -> Arranged:
        return Arranged(self, [block.copy() for block in self.blocks])

    def __str__(self) -> str:
        def shown(value: Any) -> str:
            if not isinstance(value, Array):
                return repr(value)
            array = value.view(self.blocks)
            strides = "" if array.flags.c_contiguous else f", strides={value.strides}"
            flags = "" if value.writeable else ", read-only"
            lies = f", block={value.block}+{value.offset} of {self.blocks[value.block].size}"
            with np.printoptions(threshold=32, edgeitems=2, precision=17):
                text = repr(array.tolist()) if array.size <= 32 else " ".join(str(array).split())
            kind = "list" if value.as_list else "array"
            return f"{kind}({text}, {value.dtype.str}/{value.dtype}, shape={value.shape}{strides}{flags}{lies})"

        lines = [f"{self.loss.name}.{self.method}{' (options bound)' if self.bound else ''}"]
        lines += [f"    {shown(operand)}" for operand in self.operands]
        lines += [f"    {name} = {shown(value)}" for name, value in {**self.options, **self.given}.items()]
        lines += [f"    wrong: {', '.join(self.wrong)}"] if self.wrong else []
        return "\n".join(lines)


class Arranged:
    """A call's arrays in memory of their own."""

    def __init__(self, call: Call, blocks: list[np.ndarray]) -> None:
        self.call, self.blocks = call, blocks
        self.arrays: dict[int, Any] = {}

    def real(self, value: Any) -> Any:
        """The array itself; the same one for what is given twice."""
        if not isinstance(value, Array):
            return value
        if id(value) not in self.arrays:
            array = value.view(self.blocks)
            self.arrays[id(value)] = as_list(array) if value.as_list else array
        return self.arrays[id(value)]

    def run(self, **more: Any) -> Any:
        """What the method returns; a warning is an exception. ``more`` are options that replace those of the call."""
        call = self.call
        operands = [self.real(operand) for operand in call.operands]
        options = {name: self.real(value) for name, value in {**call.options, **more}.items()}
        given = {name: self.real(value) for name, value in call.given.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss = call.loss
            if call.bound:
                loss, options = loss.bind(**options), {}
            return getattr(loss, call.method)(*operands, **options, **given)

    def touched(self, outputs: bool) -> str | None:
        """Which block has changed where it must not: outside the buffers, or anywhere if ``outputs`` is False."""
        marks = [np.zeros(block.size, bool) for block in self.blocks]
        if outputs:
            for value in self.call.given.values():
                if isinstance(value, Array):
                    value.mark(marks)
        for number, (block, mark) in enumerate(zip(self.blocks, marks, strict=True)):
            changed = (block != self.call.blocks[number]) & ~mark
            if changed.any():
                return f"byte {int(changed.argmax())} of block {number}, one of {int(changed.sum())}"
        return None


def as_list(array: np.ndarray) -> Any:
    return (array.astype(float) if array.dtype.kind not in "iub" else array).tolist()


# -------------------------------------------------------------------------------------------------------- arrays

SPECIAL = (
    0.0,
    NAN,
    INF,
    -INF,
    -0.0,
    1.0,
    -1.0,
    3e38,
    -3e38,
    1e-40,
    5e-324,
    1e308,
    -1e308,
    1e30,
    -700.0,
    100.0,
    6e4,
    1e-7,
)

#: Of soft labels. What infinite ones give is not promised.
SPECIAL_SHARES = (0.0, 1.0, NAN, -0.0, -1.0, 2.0, 1e-7, 1e-40, 5e-324)
#: The largest entry of a direction. What comes of one that overflows on the way is not promised.
LARGEST = 6e4


def random_of(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw.below(256))


def sprinkle(draw: Draw, values: np.ndarray, special: Sequence[Any]) -> np.ndarray:
    """A few entries, or all of them, replaced by special ones."""
    values = np.array(values)
    if values.size and draw.rarely(3):
        for _ in range(1 + draw.below(4)):
            values.flat[draw.below(min(values.size, 1 << 16))] = draw.choose(special)
        if draw.rarely(12):
            values[...] = draw.choose(special)
    return values


def numbers(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Logits or predictions in float64."""
    random = random_of(draw)
    kind = draw.below(8)
    values = np.asarray(random.normal(size=shape))
    if kind == 1:
        values *= 10
    elif kind == 2:
        values *= 300
    elif kind == 3:
        values += draw.choose((1e4, -1e4, 100, 3e4))
    elif kind == 4:
        values *= 1e-6
    elif kind == 5:
        values = np.round(values)
    elif kind == 6:
        values = np.log(random.random(shape))
    elif kind == 7:
        values = np.where(random.random(shape) < 0.1, -INF, values)
    return sprinkle(draw, values, SPECIAL)


def shares(draw: Draw, shape: tuple[int, ...], special: Sequence[float] = SPECIAL) -> np.ndarray:
    """Targets between 0 and 1, of which the last axis's may be a distribution."""
    random = random_of(draw)
    kind = draw.below(5)
    values = np.asarray(random.random(shape))
    if kind == 1 and shape and shape[-1]:
        values /= values.sum(-1, keepdims=True)
    elif kind == 2 and shape and shape[-1]:
        values = np.zeros(shape)
        np.put_along_axis(values, random.integers(shape[-1], size=(*shape[:-1], 1)), 1, -1)
    elif kind == 3:
        values = np.round(values)
    elif kind == 4:
        values = 3 * np.asarray(random.normal(size=shape))
    return sprinkle(draw, values, special)


def weights(draw: Draw, shape: tuple[int, ...], special: Sequence[float] = (0, 1, -1, 1e-40, 6e4)) -> np.ndarray:
    random = random_of(draw)
    values = np.asarray(2 * random.random(shape))
    kind = draw.below(6)
    if kind == 1:
        values = np.where(values < 0.7, 0.0, values)
    elif kind == 2:
        values = np.round(values)
    elif kind == 3:
        values -= 0.5
    elif kind == 4:
        values = np.zeros(shape)
    return sprinkle(draw, values, special) if kind == 5 else values


def mask(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(random_of(draw).random(shape) < draw.choose((0.7, 0.3, 1.0, 0.0)))


def converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values in a dtype, cut to its range if that is of integers."""
    with np.errstate(all="ignore"):
        if dtype.kind == "b":
            return np.asarray(values > 0)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            low, high = max(info.min, -(2**53)), min(info.max, 2**53)
            return np.asarray(np.clip(np.nan_to_num(np.round(values)), low, high).astype(dtype))
        return np.asarray(values.astype(dtype))


class Builder:
    """Puts arrays into a call's blocks."""

    def __init__(self, draw: Draw, call: Call) -> None:
        self.draw, self.call = draw, call
        self.settled = {"axis"}  # options that are given already, or left out for good

    def flaw(self, what: str, *errors: type) -> bool:
        """Whether something is to be wrong here; it is noted then."""
        if not self.draw.rarely(70):
            return False
        self.call.wrong[what] = errors
        return True

    def strides(self, shape: tuple[int, ...], itemsize: int, plain: bool) -> tuple[tuple[int, ...], int, int]:
        """Strides without overlap, the offset of the first entry, and how many bytes that takes."""
        draw, strides = self.draw, [0] * len(shape)
        axes = list(range(len(shape)))
        order = 0 if plain else draw.below(4)
        if order == 1:
            axes.reverse()
        elif order == 2:
            axes.append(axes.pop(0)) if axes else None
        start, reach = 0, itemsize
        for axis in reversed(axes):
            step = 1 if plain else draw.choose((1, 1, 1, 2, 3))
            pad = 0 if plain or not draw.rarely(8) else 1 + draw.below(7)
            stride = reach * step + pad
            length = shape[axis]
            if not plain and draw.rarely(6):
                stride = -stride
                start += -stride * max(length - 1, 0)
            strides[axis] = stride
            reach = abs(stride) * (max(length, 1) - 1) + reach
        return tuple(strides), start, reach

    def place(self, values: np.ndarray, *, buffer: bool = False, many: bool = False) -> Array:
        """The values in a new block, in a layout of their own; as a buffer they are always apart and writeable."""
        draw, dtype, shape = self.draw, values.dtype, values.shape
        plain = draw.below(3) < 2 or many and not draw.rarely(4)
        if not plain and not buffer and shape and draw.rarely(4):  # strides of 0
            axis = draw.below(len(shape))
            values = values[tuple(slice(0, 1) if a == axis else slice(None) for a in range(len(shape)))]
        if (
            not plain
            and dtype.itemsize > 1
            and dtype != BFLOAT16
            and (not buffer or dtype.kind == "f")
            and draw.rarely(5)
        ):
            values = values.astype(dtype.newbyteorder())
        strides, start, size = self.strides(values.shape, dtype.itemsize, plain)
        misaligned = 0 if plain or not draw.rarely(5) else 1 + draw.below(7)
        before, after = draw.choose(((0, 0), (64, 64), (0, 8), (8, 0)))
        block = np.full(before + misaligned + size + after, FILLER, np.uint8)
        number = len(self.call.blocks)
        self.call.blocks.append(block)
        offset = before + misaligned + start
        array = Array(number, offset, values.dtype, values.shape, strides)
        array.view(self.call.blocks)[...] = values
        repeated = tuple(0 if s != v else stride for s, v, stride in zip(shape, values.shape, strides, strict=True))
        writeable = buffer or not draw.rarely(4)
        if buffer and not plain:
            array.view(self.call.blocks).view(np.dtype(("V", dtype.itemsize)))[...] = bytes([FILLER]) * dtype.itemsize
        lists = not buffer and not many and plain and (values.size > 0 or values.ndim == 1) and draw.rarely(12)
        if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
            lists = False  # NumPy makes something else of such lists
        return Array(number, offset, values.dtype, shape, repeated, writeable, lists)

    def other_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One that is not the given one, nor broadcasts to it."""
        if not shape or self.draw.rarely(3):
            return (*shape, 2)
        axis = self.draw.below(len(shape))
        return tuple(n + 2 if a == axis else n for a, n in enumerate(shape))

    def floating(self, values: np.ndarray, *, integers: bool = True) -> Array:
        """An operand beside the first: of any dtype that can be computed with."""
        dtypes = (*FLOATS, *INTEGERS) if integers else FLOATS
        dtype = self.draw.choose(dtypes) if self.draw.rarely(2) else FLOATS[self.draw.below(2)]
        return self.place(converted(values, dtype), many=values.size > 4096)


# ---------------------------------------------------------------------------------------------- operands, options

#: What is no array at all, or of no dtype that can be computed with.
UNFIT: tuple[Any, ...] = (
    None,
    np.ones(3, complex),
    np.ones((2, 3), object),
    np.ones(3, "M8[s]"),
    np.ones(3, np.longdouble),
    np.ma.ones(3),
    np.ones((2, 3)).view(np.matrix),
    "text",
    [[1.0, 2.0], [3.0]],
)
UNFIT_ERRORS = (TypeError, ValueError)

#: Of parameters. None is beyond float32's range: what such a one is in float32 is not promised.
VALUES = (0.5, 1, 2, 0.1, 3.0, 0, 1e-3, 0.25, 0.75, True, np.float32(0.5), 1e3, 1e-30, 1e30, -1, INF, -INF, NAN)
NO_NUMBERS = ("one", None, 10**400, [1.0, 2.0], 1j)
ANY_INTEGERS = (0, 1, -1, 2, 5, 2**31, -(2**40), 2**63, -(2**63) - 1, 2**80)


def draw_parameter(build: Builder, name: str, parameter: Parameter) -> Any:
    flawed = build.flaw(name, TypeError, ValueError)
    if isinstance(parameter, Choice):
        return build.draw.choose(("average", 17, 0.5) if flawed else parameter.choices)
    values = [value for value in VALUES if DOMAINS[parameter.domain](float(value)) != flawed]
    optional = parameter.default is None
    if flawed:
        return build.draw.choose([value for value in (*NO_NUMBERS, *values) if value is not None or not optional])
    return build.draw.choose((None, *values) if optional else values)


class Rows:
    """Where the classes lie, and what is left without them."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        self.shape, self.axes = shape, axes
        self.rows = tuple(n for axis, n in enumerate(shape) if axis not in axes)
        self.kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
        self.classes = math.prod(shape[axis] for axis in axes)


def draw_classes(draw: Draw) -> int:
    kind = draw.below(64)
    if kind < 24:
        return 1 + draw.below(5)
    if kind < 40:
        return 1 + draw.below(20)
    if kind < 48:
        return 60 + draw.below(10)
    if kind < 60:
        return 1 + draw.below(130)
    if kind == 60:
        return 0
    if kind == 61:
        return draw.choose((15_872, 15_873, 31_744, 31_745))
    return 1000 + draw.below(100)


def draw_shape(draw: Draw, classes: int | None) -> tuple[tuple[int, ...], int]:
    """A shape of 0 to 5 axes, and which of them has the classes (the last, if ``classes`` is None)."""
    ndim = draw.choose((2, 1, 2, 3, 2, 4, 5, 2, 2, 1, 1, 3, 3, 2, 2, 0))
    most = 4 if ndim > 3 else 12
    shape = [draw.below(most + 1) if draw.rarely(3) else 1 + draw.below(most) for _ in range(ndim)]
    if ndim and draw.rarely(16):
        shape[0] = draw.choose((16, 17, 33, 100, 300, 600))
    axis = ndim - 1
    if classes is not None and ndim:
        if draw.rarely(3):
            axis = draw.below(ndim)
        shape[axis] = classes
        while math.prod(shape) > max(6000, 3 * classes):
            shape[next(a for a in range(ndim) if a != axis and shape[a] > 1)] = 1
    return tuple(shape), axis


def draw_x(build: Builder, shape: tuple[int, ...]) -> Array:
    draw = build.draw
    dtype = draw.choose((*FLOATS, *FLOATS[:2], draw.choose(INTEGERS)))
    values = mostly_inside(draw, build.call.loss, "pred", numbers(draw, shape))
    return build.place(converted(values, dtype), many=math.prod(shape) > 4096)


def mostly_inside(draw: Draw, loss: Any, name: str, values: np.ndarray) -> np.ndarray:
    """The values, usually brought into the domain that the argument has; `outside` looks at what became of them."""
    return values if name not in loss.domains or draw.rarely(12) else inside(loss, name, values)


def outside(call: Call) -> bool:
    """Whether an element that counts is outside its domain, in a call in which nothing else is wrong."""
    options, x = call.options, call.operands[0]

    def seen(value: Any) -> np.ndarray:
        return value.view(call.blocks).astype(np.float64)

    counts = np.ones(x.shape, bool)
    if isinstance(options.get("where"), Array):
        counts &= seen(options["where"]) != 0
    if isinstance(options.get("sample_weight"), Array):
        weight = seen(options["sample_weight"])
        counts &= (weight if weight.shape == x.shape else weight.reshape(-1, *[1] * (len(x.shape) - 1))) != 0
    arguments = {**dict(zip(call.loss.operands, call.operands, strict=False)), **options}
    for name, domain in call.loss.domains.items():
        if isinstance(arguments.get(name), Array):
            with np.errstate(invalid="ignore"):
                elements = seen(arguments[name])
                if (counts & ~ELEMENTS[domain](elements) & (elements == elements)).any():
                    return True
    return False


def dtype_of(x: Array) -> np.dtype:
    """What the object sees: a list of floats is of float64."""
    return np.dtype(float) if x.as_list else x.dtype


def own_dtype(x: Array) -> np.dtype:
    dtype = dtype_of(x)
    return np.dtype(float) if dtype.kind in "iub" else dtype.newbyteorder("=")


def compute_dtype(x: Array) -> np.dtype:
    dtype = own_dtype(x)
    return dtype if dtype.itemsize == 8 else np.dtype(np.float32)


def draw_labels(build: Builder, rows: tuple[int, ...], classes: int) -> Array:
    """Integer labels, most of them classes; what ``check`` and ``ignore_index`` say of the others is settled here."""
    draw, call = build.draw, build.call
    dtype = draw.choose(INTEGERS)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    labels = random_of(draw).integers(0, max(1, min(classes, high + 1)), size=rows)
    labels = np.asarray(labels).astype(dtype)
    for name in ("ignore_index", "check"):
        build.settled.add(name)
        if draw.rarely(4):
            draw_option(build, name, None)
    ignore = call.options.get("ignore_index", OPTIONS["ignore_index"][0])
    if labels.size and draw.rarely(4) and isinstance(ignore, int) and low <= ignore <= high:
        for _ in range(1 + draw.below(3)):
            labels.flat[draw.below(labels.size)] = ignore
    if labels.size and draw.rarely(8):
        outside = [v for v in (-1, classes, classes + 1, low, high, 2**63 + 7, -100, 2**31) if low <= v <= high]
        for _ in range(1 + draw.below(3)):
            labels.flat[draw.below(labels.size)] = draw.choose(outside) if outside else 0
    placed = build.place(labels)
    seen = placed.view(call.blocks)  # strides of 0 may have left some out
    bad = [int(v) for v in seen.ravel() if not 0 <= int(v) < classes and int(v) != ignore]
    if bad and call.options.get("check", True):
        call.wrong["a label"] = (IndexError,)
    return placed


def draw_option(build: Builder, name: str, rows: Rows | None) -> None:
    """Give the option a value."""
    draw, call, loss = build.draw, build.call, build.call.loss
    options = call.options
    shape = call.operands[0].shape
    if name in loss.parameters:
        options[name] = draw_parameter(build, name, loss.parameters[name])
    elif name == loss.extra:
        last = shape[-1:]
        if build.flaw(name, ValueError):
            options[name] = build.place(np.ones((*last, 3)))
        else:
            values = weights(draw, last if draw.rarely(2) else (), (0, 1, NAN, -1, 1e-7))
            options[name] = build.floating(mostly_inside(draw, loss, name, values))
    elif name == "b":
        own = shape if draw.rarely(2) else shape[draw.below(len(shape) + 1) :]
        own = build.other_shape(shape) if build.flaw("b", ValueError) else own
        options[name] = build.floating(weights(draw, own))
    elif name == "class_weight":
        assert rows is not None
        own = (rows.classes,)
        own = build.other_shape(own) if build.flaw("class_weight", ValueError) else own
        options[name] = build.floating(weights(draw, own))
    elif name == "sample_weight":
        own = shape if rows is None else rows.rows
        own = own[:1] if rows is None and draw.rarely(2) else own
        if build.flaw("sample_weight", ValueError):
            own = build.other_shape(shape if rows is None else own)
        options[name] = build.floating(weights(draw, own))
    elif name == "where":
        own = (
            shape if draw.rarely(2) else tuple(1 if draw.rarely(4) else n for n in shape[draw.below(len(shape) + 1) :])
        )
        own = build.other_shape(shape) if build.flaw("where's shape", ValueError) else own
        here = mask(draw, own)
        here = here.astype(int) if build.flaw("where's dtype", TypeError) else here
        options[name] = build.place(here)
    elif name == "ignore_index":
        flawed = build.flaw("ignore_index", TypeError)
        options[name] = draw.choose((0.5, "no")) if flawed else draw.choose((-100, None, *ANY_INTEGERS, np.int8(1)))
    elif name == "keepdims":
        options[name] = draw.choose((True, False))
    elif name == "reduction":
        flawed = build.flaw("reduction", ValueError)
        options[name] = draw.choose(("average", 3, None) if flawed else ("none", "sum", "mean", "batchmean"))
    elif name == "denominator":
        flawed = build.flaw("denominator", TypeError, ValueError)
        options[name] = draw.choose((NAN, INF, "many", 10**400) if flawed else (2.5, None, 0, -3, 1e-3, 1e30, True))
        if options[name] is not None and options.get("reduction", "mean") != "mean" and not flawed:
            call.wrong["denominator"] = (ValueError,)
    elif name == "empty":
        options[name] = draw.choose(("none", 0) if build.flaw("empty", ValueError) else ("zero", "nan", "raise"))
        if options[name] == "raise":
            call.doubtful["nothing to divide by"] = (ValueError,)
    elif name == "check":
        flawed, over_rows = build.flaw("check", ValueError), loss.kind == "rowwise"
        right = (False, "distribution", True, np.bool_(False)) if over_rows else (False, True, np.bool_(False))
        options[name] = draw.choose(("yes", 2, None) if flawed else right)
        if options[name] == "distribution":
            call.doubtful["no distribution"] = (ValueError,)
    elif name == "n_threads":
        flawed = build.flaw("n_threads", TypeError)
        options[name] = draw.choose((1.5, "two") if flawed else (1, 2, 3, 7, 0, None, *ANY_INTEGERS))
    elif name != "axis":  # with the shape
        raise NotImplementedError(f"tests/calls.py has no values for the option {name!r}")


def draw_axis(build: Builder, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Give ``axis`` so that it means that one, or several for the functions that take several."""
    draw, call, ndim = build.draw, build.call, len(shape)
    several = call.loss.kind == "row_function" and "keepdims" in call.loss.shared
    if build.flaw("axis", TypeError, ValueError):
        call.options["axis"] = draw.choose(
            (ndim, -ndim - 1, 2**40, 2**80, 0.5, "last", () if not several else (0, 0, 0))
        )
        return (axis,) if ndim else ()
    if several and draw.rarely(3):
        axes = tuple(a for a in range(ndim) if draw.rarely(2))
        call.options["axis"] = (
            None if len(axes) == ndim and draw.rarely(2) else tuple(a - ndim if draw.rarely(2) else a for a in axes)
        )
        return axes
    if not ndim:
        if several:
            call.options["axis"] = draw.choose((None, ()))
        else:
            call.wrong["no axes"] = (ValueError,)
        return ()
    if axis != ndim - 1 or draw.rarely(4):
        call.options["axis"] = axis if draw.rarely(2) else axis - ndim
    return (axis,)


# ------------------------------------------------------------------------------------------------------- methods

#: What each method gives, for losses. ``None``: what the call wants.
LOSS_RESULTS: dict[str, tuple[str, ...] | None] = {
    "__call__": ("loss",),
    "value_and_grad": ("loss", "grad"),
    "grad": ("grad",),
    "grad_and_hess": ("grad", "hess"),
    "hvp": ("hvp",),
    "newton_step": ("newton_step",),
    "evaluate": None,
    "reduce": (),
    "weigh": (),
}
#: And for functions, whose first output is their result.
FUNCTION_RESULTS: dict[str, tuple[str, ...]] = {
    "__call__": ("",),
    "vjp": ("vjp",),
    "jvp": ("jvp",),
    "with_sign": ("", "sign"),
    "grad": ("proba",),
}


#: Methods that are no calls of this kind: they have their own tests.
OTHERWISE = {"jacobian"}


def methods_of(loss: Any) -> list[str]:
    """The methods that an object has, as its class declares them."""
    declared = {name for kind in type(loss).__mro__ for name, value in vars(kind).items() if isinstance(value, method)}
    known = LOSS_RESULTS if loss.kind in ("pointwise", "rowwise") else FUNCTION_RESULTS
    unknown = declared - set(known) - OTHERWISE
    if unknown:
        raise NotImplementedError(f"tests/calls.py does not know the methods {sorted(unknown)}")
    return [name for name in known if name == "__call__" or name in declared and hasattr(loss, name)]


def draw_buffer(build: Builder, result: Result) -> Any:
    """A buffer for a result: right, or wrong in one way."""
    draw, call = build.draw, build.call
    shape, dtype = result.shape, result.dtype
    x = call.operands[0]
    if shape is None:
        call.wrong["a buffer for a reduced value"] = (TypeError,)
        return build.place(np.zeros(3))
    if build.flaw("no array for a buffer", TypeError):
        return draw.choose(([0.0, 1.0], "text", np.zeros(shape).view(np.ma.MaskedArray), 3.0))
    if build.flaw("a buffer's dtype", TypeError):
        return np.zeros(shape, np.float16 if dtype.kind in "ib" else draw.choose((int, complex, object)))
    if build.flaw("a buffer's shape", ValueError):
        return build.place(np.zeros(build.other_shape(shape), dtype), buffer=True)
    if not x.as_list and draw.rarely(2 if result.name == "grad" else 8):
        return draw_overlap(build, result, x)
    others = [dtype] if dtype.kind in "ib" else [*FLOATS, dtype, dtype]
    buffer = build.place(np.zeros(shape, draw.choose(others)), buffer=True, many=math.prod(shape) > 4096)
    if build.flaw("a read-only buffer", ValueError):
        return Array(buffer.block, buffer.offset, buffer.dtype, buffer.shape, buffer.strides, False)
    long = [axis for axis, n in enumerate(shape) if n > 1]
    if long and math.prod(shape) and build.flaw("a buffer over itself", ValueError):
        axis = draw.choose(long)
        strides = tuple(0 if a == axis else s for a, s in enumerate(buffer.strides))
        offset = buffer.offset + min(0, buffer.strides[axis] * (shape[axis] - 1))
        return Array(buffer.block, offset, buffer.dtype, shape, strides)
    return buffer


def draw_overlap(build: Builder, result: Result, x: Array) -> Array:
    """The first operand itself, which the gradient may replace, or something else in its memory or in another's."""
    draw, call = build.draw, build.call
    assert result.shape is not None
    itself = x.shape == result.shape and x.dtype.kind not in "iub" and x.writeable
    itself &= all(stride or n < 2 for stride, n in zip(x.strides, x.shape, strict=True))
    first = not any(given is x for given in call.given.values())
    loss = call.loss.kind in ("pointwise", "rowwise")
    if itself and first and loss and result.name == "grad" and (draw.below(6) or not math.prod(x.shape)):
        return x
    others = [v for v in (*call.operands, *call.options.values(), *call.given.values()) if isinstance(v, Array)]
    other = draw.choose([v for v in others if not v.as_list])
    dtype = result.dtype if result.dtype.kind in "ib" else draw.choose(FLOATS[:2])
    size = math.prod(result.shape) * dtype.itemsize
    room = call.blocks[other.block].size - size
    if not size or room < 0:
        return build.place(np.zeros(result.shape, result.dtype), buffer=True)
    strides = np.empty(result.shape, dtype).strides
    buffer = Array(other.block, draw.below(min(room, 64) + 1), dtype, result.shape, strides)
    marks = [[np.zeros(block.size, bool) for block in call.blocks] for _ in range(2)]
    buffer.mark(marks[0])
    for value in others:
        if not value.as_list:
            value.mark(marks[1])
    where = (buffer.block, buffer.offset, buffer.dtype, buffer.strides)
    allowed = result.name == "grad" and loss and where == (x.block, x.offset, x.dtype, x.strides)
    if allowed or not any((a & b).any() for a, b in zip(*marks, strict=True)):
        return build.place(np.zeros(result.shape, result.dtype), buffer=True)
    call.wrong["an overlap"] = (ValueError,)
    return buffer


def results_of(call: Call, names: Sequence[str], rows: Rows | None, seen: Array) -> list[Result]:
    """What the call gives, for these outputs."""
    loss, found = call.loss, []
    function = loss.kind in ("function", "row_function")
    reduction = call.options.get("reduction", "mean")
    for name in names:
        output = name
        if function:
            output = {"": loss.outputs[0], "jvp": "jvp" if "jvp" in loss.outputs else "row_jvp"}.get(name, name)
        keyword = "out" if output == "loss" or len(names) == 1 and call.method != "evaluate" else f"{name}_out"
        if function:
            keyword = "out" if name != "sign" else None
        shape: tuple[int, ...] | None = seen.shape
        dtype = own_dtype(seen)
        if rows is not None and output not in ENTRY_OUTPUTS:
            shape = rows.kept if call.options.get("keepdims") is True else rows.rows
            dtype = OUTPUT_DTYPES.get(output, compute_dtype(seen))
        elif output == "loss":
            dtype = compute_dtype(seen)
        if not function and output in REDUCED and reduction != "none":
            shape = None
        found.append(Result(name, keyword, shape, dtype))
    return found


def draw_wanted(build: Builder) -> tuple[str, ...]:
    """Names for ``evaluate``."""
    draw, call = build.draw, build.call
    offered = [name for name in EVALUATED if name in ("loss", "grad", *call.loss.outputs)]
    if build.flaw("want", ValueError):
        call.given["want"] = draw.choose((("loss", "nothing"), "nothing", ("loss", 3)))
        return ("loss",)
    kind = draw.below(4)
    if kind == 1:
        return tuple(offered)
    wanted = list(dict.fromkeys(draw.choose(offered) for _ in range(1 + draw.below(4))))
    call.given["want"] = wanted[0] if kind == 2 else tuple(wanted)
    return tuple(wanted[:1] if kind == 2 else wanted)


def draw_targets(build: Builder, x: Array, rows: Rows | None) -> Any:
    """The second operand of a loss."""
    draw, call = build.draw, build.call
    if build.flaw("the target's kind", *UNFIT_ERRORS):
        return draw.choose(UNFIT)
    if rows is None:
        shape = () if draw.rarely(6) else x.shape
        wrong = build.flaw("the target's shape", ValueError)
        values = shares(draw, build.other_shape(x.shape) if wrong else shape)
        return build.floating(mostly_inside(draw, call.loss, "target", values))
    if not call.loss.labelled:
        if not call.loss.entrywise and build.flaw("integers for logits", TypeError):
            return build.place(np.zeros(x.shape, int))
        wrong = build.flaw("the other logits' shape", ValueError)
        values = numbers(draw, build.other_shape(x.shape) if wrong else x.shape)
        return build.floating(values, integers=False)
    if draw.below(3) or not call.loss.soft:
        if build.flaw("the labels' shape", ValueError, TypeError, IndexError):
            return build.place(np.zeros(build.other_shape(rows.rows), int))
        if math.prod(rows.rows) and build.flaw("floating labels", TypeError):
            return build.place(np.zeros(rows.rows))
        return draw_labels(build, rows.rows, rows.classes)
    shape = build.other_shape(x.shape) if build.flaw("the targets' shape", ValueError, TypeError) else x.shape
    return build.floating(shares(draw, shape, SPECIAL_SHARES), integers=False)


def draw_call(draw: Draw) -> Call:
    """One call."""
    every = [loss for loss in REGISTRY.values() if not loss.differentiable]
    loss = draw.choose([*every, *2 * [loss for loss in every if loss.kind == "rowwise"]])  # those have the most options
    call = Call(loss, draw.choose(methods_of(loss)))
    build = Builder(draw, call)
    over_rows = loss.kind in ("rowwise", "row_function")
    function = loss.kind in ("function", "row_function")
    shape, axis = draw_shape(draw, draw_classes(draw) if over_rows else None)
    x = draw_x(build, shape)
    call.operands.append(x)
    rows = Rows(shape, draw_axis(build, shape, axis)) if over_rows else None
    if loss.kind == "rowwise" and rows is not None and not rows.classes:
        call.wrong["no classes"] = (ValueError,)
    names = LOSS_RESULTS.get(call.method, ()) if not function else FUNCTION_RESULTS[call.method]
    if not function:
        if rows is None or rows.axes:
            call.operands.append(draw_targets(build, x, rows))
        else:
            call.operands.append(build.place(np.zeros((), int)))
    for name in loss._defaults:
        if name in build.settled or not draw.rarely(4):
            continue
        if name == "class_weight" and (rows is None or not rows.axes):
            continue
        if name == "reduction" and call.method in ("reduce", "weigh"):
            continue
        draw_option(build, name, rows)
    if call.method in ("hvp", "vjp", "jvp"):
        own = shape
        if call.method == "vjp" and rows is not None and loss.outputs[0] not in ENTRY_OUTPUTS:
            own = rows.kept if draw.rarely(2) else rows.rows
        own = build.other_shape(own) if build.flaw("the direction's shape", ValueError) else own
        call.operands.append(build.floating(np.clip(np.nan_to_num(numbers(draw, own)), -LARGEST, LARGEST)))
    if call.method == "newton_step":
        call.given["ridge"] = draw_parameter(build, "ridge", RIDGE)
    if names is None:
        names = draw_wanted(build)
    call.results = results_of(call, names, rows, x)
    for result in call.results:
        rare = result.shape is None or call.wrong
        if result.keyword is not None and draw.rarely(40 if rare else 3):
            call.given[result.keyword] = draw_buffer(build, result)
            several = rows is not None and len(rows.axes) != 1 and result.name not in ("", "sign")
            if function and several and isinstance(call.given[result.keyword], Array):
                call.doubtful["axes that cannot be joined in a buffer"] = (ValueError,)
    if build.flaw("an unknown option", TypeError):
        call.options["nonesuch"] = 1
    elif build.flaw("the first operand's kind", *UNFIT_ERRORS):
        call.operands[0] = draw.choose(UNFIT)
    if loss.kind == "pointwise" and loss.domains and call.options.get("check", True) is True:
        if call.wrong:
            call.doubtful["an element"] = (ValueError,)
        elif outside(call):
            call.wrong["an element"] = (ValueError,)
    call.turn = draw.below(8)
    call.bound = draw.rarely(10) and call.method not in ("reduce", "weigh")
    return call
