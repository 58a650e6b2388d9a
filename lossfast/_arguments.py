"""From what the caller gave to a checked job: options, dtypes, shapes, axes, masks, weights, labels and buffers.

`OPTIONS` says how each option is checked by itself; `pointwise` and `rowwise` put an option's value together with the
arrays. Both return a `Call`, which weighs, runs and reduces. All checks come first, then the weighing (which checks the
labels too), then the job; so nothing is written before an error.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._jobs import ENTRY_OUTPUTS, PointwiseJob, RowwiseJob, Weights
from ._reduction import EMPTY, Reduction, Sum
from ._sparse import SparseTargets, is_sparse, of_targets
from ._threads import check_n_threads, get_num_threads

FLOAT32, FLOAT64, BOOL, INTP = (np.dtype(name) for name in ("float32", "float64", "bool", "intp"))

#: Outputs that ``scale`` multiplies: they are 0 when the denominator is.
SCALED = frozenset(
    (
        *("grad", "hess", "grad_second", "hess_second", "hvp", "newton_step"),
        *("grad_temperature", "hess_temperature", "grad_target"),
    )
)
#: Outputs that a reduction turns into one number.
REDUCED = ("loss", "grad_temperature", "hess_temperature")
#: Outputs that are a product with a direction.
DIRECTED = frozenset(("hvp", "vjp", "jvp", "row_jvp"))
#: Row outputs whose dtype is neither the computing nor the first argument's.
OUTPUT_DTYPES = {"pred": INTP, "rank": INTP, "correct": BOOL}

# ----------------------------------------------------------------------------------------------------- options


def _one_of(*choices: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
        return value

    return check


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _axes(name: str, value: Any) -> Any:
    if value is None:
        return None
    return tuple(_integer(name, entry) for entry in value) if isinstance(value, tuple) else _integer(name, value)


def _check(name: str, value: Any) -> bool | str:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str) and value == "distribution":
        return value
    raise ValueError(f"{name} must be True, False or 'distribution', got {value!r}")


def _yes_or_no(name: str, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {value!r}")


def _denominator(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or None, got {value!r}") from None
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def _anything(name: str, value: Any) -> Any:
    return value


#: Every option that is not a parameter of one loss: its default, and what checks it by itself.
OPTIONS: dict[str, tuple[Any, Callable[[str, Any], Any]]] = {
    "b": (None, _anything),
    "class_weight": (None, _anything),
    "sample_weight": (None, _anything),
    "ignore_index": (-100, lambda name, value: None if value is None else _integer(name, value)),
    "where": (None, _anything),
    "axis": (-1, _integer),
    "keepdims": (False, lambda name, value: bool(value)),
    "reduction": ("mean", _one_of("mean", "sum", "none", "batchmean")),
    "denominator": (None, _denominator),
    "empty": ("nan", _one_of("nan", "zero", "raise")),
    "check": (True, _check),
    "n_threads": (None, lambda name, value: None if value is None else check_n_threads(name, value)),
}

#: What the functions, which reduce nothing, have in place of a reduction's options.
UNREDUCED = {"reduction": "none", "denominator": None}
ONE = Sum(1.0)
#: ``axis`` where it may be several axes, or None for all.
SEVERAL_AXES = (-1, _axes)
#: ``check`` where there is nothing but elements to check.
YES_OR_NO = (True, _yes_or_no)
#: How many elements are checked at a time.
CHECKED = 1 << 14

# ------------------------------------------------------------------------------------------------------ arrays

_computes: dict[np.dtype, np.dtype] = {}  # filled as dtypes are met: what each is computed in
_DEVICES_OF_THE_CPU = (1, 3, 11)  # DLPack's numbers for plain, CUDA-pinned and ROCm-pinned memory
_REFUSED = {
    "c": "complex numbers have no order",
    "O": "an array of objects (or None) has no dtype to compute with",
    "M": "dates are not numbers",
    "m": "time spans are not plain numbers",
    "f": "its precision would be lost; convert it to float64",
}


def as_array(name: str, value: Any) -> np.ndarray:
    """The value as a plain array over the same memory wherever it has any, of a dtype that can be computed with."""
    if type(value) is not np.ndarray:
        value = _convert(name, value)
    if value.dtype not in _computes:
        _computes[value.dtype] = _compute_dtype(name, value.dtype)
    return value


def _compute_dtype(name: str, dtype: np.dtype) -> np.dtype:
    if dtype.kind in "iub" or dtype.kind == "f" and dtype.itemsize == 8:
        return FLOAT64
    if dtype.kind == "f" and dtype.itemsize <= 4 or dtype.name == "bfloat16":
        return FLOAT32
    reason = _REFUSED.get(dtype.kind, "it must be a float, integer or bool dtype")
    raise TypeError(f"{name} has dtype {dtype}, which is not supported: {reason}")


def _convert(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        if isinstance(value, np.matrix):
            raise TypeError(f"{name} is an np.matrix, which is always 2-D; pass np.asarray({name})")
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, whose mask would be lost; pass its data, and the mask as where="
            )
        return value.view(np.ndarray)
    if value is None:
        raise TypeError(f"{name} is None; an array is needed")
    device = getattr(value, "__dlpack_device__", None)
    if device is not None:
        try:
            kind, number = device()
        except (ValueError, RuntimeError, BufferError) as error:  # torch's "meta" tensors have no memory at all
            raise TypeError(f"{name} is on no device that can be read from: {error}") from error
        if kind not in _DEVICES_OF_THE_CPU:
            raise TypeError(
                f"{name} ({type(value).__module__}.{type(value).__qualname__}) lives on a device (DLPack device type "
                f"{int(kind)}, number {number}); copy it to the CPU first"
            )
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
            import ml_dtypes  # NumPy has no bfloat16 of its own

            return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        if device is not None and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (RuntimeError, TypeError, BufferError) as error:  # torch: a tensor that requires a gradient, a sparse one
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name} cannot be read as an array: {error}") from error


def own_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a gradient: the argument's own, native; float64 where that is an integer."""
    if dtype.kind in "iub":
        return FLOAT64
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _expect_shape(name: str, array: np.ndarray, shape: tuple[int, ...], of: str) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but {of} need shape {shape}")
    return array


def _mask(where: Any, shape: tuple[int, ...], of: str) -> np.ndarray:
    mask = as_array("where", where)
    if mask.dtype != BOOL:
        raise TypeError(f"where must be a mask of dtype bool, got {mask.dtype}")
    return _broadcast("where", mask, shape, of)


def _broadcast(name: str, array: np.ndarray, shape: tuple[int, ...], of: str) -> np.ndarray:
    if array.shape == shape:
        return array
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}, which does not broadcast to {of} of shape {shape}") from None


# ----------------------------------------------------------------------------------------------------- outputs


def _buffer(name: str, given: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The caller's buffer once it has been checked, or a new one."""
    if given is None:
        return np.empty(shape, dtype)
    if type(given) is not np.ndarray and (
        not isinstance(given, np.ndarray) or isinstance(given, (np.matrix, np.ma.MaskedArray))
    ):
        raise TypeError(f"{name} must be a NumPy array, got {type(given).__module__}.{type(given).__qualname__}")
    if dtype.kind in "ib" and given.dtype != dtype:
        raise TypeError(f"{name} has dtype {given.dtype}, but its result is of dtype {dtype}")
    if dtype.kind not in "ib" and (given.dtype.kind in "iub" or not _is_floating(given.dtype)):
        raise TypeError(f"{name} has dtype {given.dtype}, but must be of a floating dtype up to float64")
    if given.shape != shape:
        raise ValueError(f"{name} has shape {given.shape}, but its result has shape {shape}")
    if not given.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if not given.flags.c_contiguous and _overlaps_itself(given):
        raise ValueError(f"{name} overlaps itself: several of its entries share memory")
    return given


def _is_floating(dtype: np.dtype) -> bool:
    return dtype.kind == "f" and dtype.itemsize <= 8 or dtype.name == "bfloat16"


def _overlaps_itself(array: np.ndarray) -> bool:
    reach = array.itemsize
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(array.strides, array.shape, strict=True)
    ):
        if length > 1:
            if stride < reach:
                return array.size > 0
            reach += stride * (length - 1)
    return False


def _refuse_overlap(buffers: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """A buffer shares memory with nothing else; but the gradient's may be the first input, entry for entry."""
    first = next(iter(inputs))
    others = dict(inputs)
    for output, buffer in buffers.items():
        if buffer is None:
            continue
        label = buffer_name(output, buffers)
        for name, array in others.items():
            if array is None or not np.may_share_memory(buffer, array):
                continue
            if name == first and output == "grad" and _same_memory(buffer, array):
                continue
            if _overlap(buffer, array):
                exception = f"; it may be {first} itself, or apart from it" if (name, output) == (first, "grad") else ""
                raise ValueError(f"{label} overlaps {name} in memory{exception}")
        others[label] = buffer


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True  # not known to be apart


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    return _address(a) == _address(b) and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])  # three times as fast as ``ctypes.data``


def buffer_name(output: str, buffers: Mapping[str, Any]) -> str:
    """The keyword that takes an output's buffer: ``out`` for the per-row value, and where a method has one result."""
    if output == "loss" or len(buffers) == 1:
        return "out"
    first = output.removesuffix("_second")
    if f"{first}_second" not in buffers:
        return f"{output}_out"
    keyword = "out" if len(buffers) == 2 else f"{first}_out"
    return f"{keyword}[{int(first != output)}]"


# ------------------------------------------------------------------------------------------------------- calls


@dataclass(slots=True)
class Call:
    """A call whose arguments have been checked: the job, and what is left to do around it."""

    job: Any
    options: Mapping[str, Any]
    kind: str  #: "pointwise" or "rowwise": the backend's function
    results: dict[str, Any]  #: what is wanted, in order: the caller's view of each array, or None for a reduced value
    given: Mapping[str, Any]  #: the caller's buffers
    count: int  #: elements or rows
    batch: int  #: what "batchmean" divides by
    weighted: bool = False  #: whether the sum of the weights may be anything but the count
    label_error: Callable[[Weights], str] | None = None  #: the message for labels out of range, where they are checked
    finish: Callable[[], None] | None = None  #: what remains once the job is done

    def run(self, backend: Any) -> dict[str, Any]:
        """Weigh, run and reduce, in the arithmetic that the backend wants."""
        state = backend.enter_arithmetic()
        try:
            return self._run(backend)
        finally:
            backend.leave_arithmetic(state)

    def _run(self, backend: Any) -> dict[str, Any]:
        job, results = self.job, self.results
        denominator = self.denominator(backend)
        if denominator.head == 0:
            self.run_empty(backend)
        else:
            job.scale = denominator.inverse()
            totals = backend.pointwise(job) if self.kind == "pointwise" else backend.rowwise(job)
            for name in totals:
                # Derivatives are scaled already, entry by entry.
                results[name] = totals[name].over(denominator) if name == "loss" else float(totals[name])
            if self.finish is not None:
                self.finish()
        for name, result in results.items():
            if type(result) is np.ndarray and result.ndim == 0 and self.given.get(name) is None:
                results[name] = result[()]
        return results

    def denominator(self, backend: Any) -> Sum:
        """What the reduction divides by. Labels out of range are found on the way."""
        reduction, given = self.options["reduction"], self.options["denominator"]
        weight = Sum(float(self.count))
        if self.label_error is not None or (self.weighted and reduction == "mean" and given is None):
            weight = self.weigh(backend).total
        if reduction == "mean":
            return weight if given is None else Sum(given)
        return Sum(float(self.batch)) if reduction == "batchmean" else ONE

    def weigh(self, backend: Any) -> Weights:
        """The sum of the weights and the count; an IndexError for labels out of range."""
        if not self.weighted and self.label_error is None:
            return Weights(Sum(float(self.count)), self.count)
        weights: Weights = (
            backend.weigh_pointwise(self.job) if self.kind == "pointwise" else backend.weigh_rows(self.job)
        )
        if weights.bad_count and self.label_error is not None:
            raise IndexError(self.label_error(weights))
        return weights

    def run_empty(self, backend: Any) -> None:
        """Nothing to divide by: the value is as ``empty`` says, every derivative 0, all else as usual."""
        empty = self.options["empty"]
        if empty == "raise":
            raise ValueError(EMPTY)
        job, results = self.job, self.results
        if self.kind == "rowwise":
            job.outputs = {name: array for name, array in job.outputs.items() if name not in SCALED}
            job.totals = ()
            if job.outputs:
                backend.rowwise(job)
        for name, array in results.items():
            if array is None:
                results[name] = math.nan if empty == "nan" and name == "loss" else 0.0
            elif name in SCALED:
                array[...] = 0

    def reduce(self, backend: Any) -> Reduction:
        """The sum, the weight and the count, as something that merges."""
        state = backend.enter_arithmetic()
        try:
            weights = self.weigh(backend)
            totals = backend.pointwise(self.job) if self.kind == "pointwise" else backend.rowwise(self.job)
        finally:
            backend.leave_arithmetic(state)
        given, empty = self.options["denominator"], self.options["empty"]
        return Reduction(totals["loss"], weights.total, weights.count, given, empty)


def _threads(options: Mapping[str, Any]) -> int:
    chosen = options["n_threads"]
    return get_num_threads() if chosen is None else chosen


# --------------------------------------------------------------------------------------------------- pointwise


def pointwise(
    loss: Any,
    wanted: tuple[str, ...],
    operands: tuple[Any, Any],
    options: Mapping[str, Any],
    buffers: Mapping[str, Any],
    v: Any = None,
) -> Call:
    """A call of a pointwise loss; where it has three arguments, the second and the third come as a tuple."""
    x = as_array(loss.operands[0], operands[0])
    inputs: dict[str, Any] = {loss.operands[0]: x}
    differentiable = loss.differentiable
    for name, operand in zip(loss.operands[1:], operands[1] if differentiable else operands[1:], strict=True):
        inputs[name] = _pointwise_operand(name, operand, x, loss.operands[0], differentiable)
    _, t, *third = inputs.values()
    shape, compute, none = x.shape, _computes[x.dtype], options["reduction"] == "none"
    job = PointwiseJob(loss.name, compute, x, t, n_threads=_threads(options))
    if loss.parameters:
        job.params = tuple([parameter.number(options[name]) for name, parameter in loss.parameters.items()])
    if options["sample_weight"] is not None:
        job.weight = _pointwise_weight(options["sample_weight"], shape)
    if options["where"] is not None:
        job.where = _mask(options["where"], shape, loss.operands[0])
    if third:
        [job.extra] = third
    if loss.extra is not None and options[loss.extra] is not None:
        job.extra = _extra(loss.extra, options[loss.extra], shape)
    _refuse_reduced_buffers(buffers, none)
    results: dict[str, Any] = {}
    for name in wanted:
        if name == "loss" and not none:
            job.totals = ("loss",)
            results[name] = None
        else:
            of = inputs[differentiable[1]] if name.endswith("_second") else x
            dtype = compute if name == "loss" else own_dtype(of.dtype)
            results[name] = _buffer(buffer_name(name, buffers), buffers.get(name), shape, dtype)
    job.value, job.grad, job.hess = results.get("loss"), results.get("grad"), results.get("hess")
    job.grad_second, job.hess_second = results.get("grad_second"), results.get("hess_second")
    inputs.update({"sample_weight": job.weight, "where": job.where})
    if loss.extra is not None:
        inputs[loss.extra] = job.extra
    weighted = job.weight is not None or job.where is not None
    call = Call(job, options, "pointwise", results, buffers, x.size, shape[0] if shape else 1, weighted)
    if "hvp" in wanted:
        job.v = inputs["v"] = _expect_shape("v", as_array("v", v), shape, "the elements of pred")
        job.hess = results["hvp"]
    if buffers:
        _refuse_overlap(buffers, inputs)
    if loss.domains and options["check"]:
        for name, domain in loss.domains.items():
            elements = inputs[name]
            if elements is not None:
                _check_elements(name, elements, domain, job)
    return call


def _check_elements(name: str, array: np.ndarray, domain: str, job: PointwiseJob) -> None:
    """A ValueError if an element that counts is outside its domain, whatever the caller's arithmetic makes of it."""
    from . import backends

    backend = backends.current or backends.get()
    state = backend.enter_arithmetic()
    try:
        _look_at_elements(name, array, domain, job)
    finally:
        backend.leave_arithmetic(state)


def _look_at_elements(name: str, array: np.ndarray, domain: str, job: PointwiseJob) -> None:
    from ._loss import ELEMENTS  # which builds on this module
    from .backends.numpy import load, spots

    counts = [mask for mask in (job.where, job.weight) if mask is not None]
    if not counts:  # what is repeated is looked at once
        array = array[tuple(slice(None) if stride else slice(1) for stride in array.strides)]
    bad, first, value = 0, -1, 0.0
    for start in range(0, array.size, CHECKED):
        stop = min(start + CHECKED, array.size)
        at = spots(array.shape, start, stop)
        elements = load(array, at, np.empty(stop - start))
        with np.errstate(invalid="ignore"):
            wrong = ~ELEMENTS[domain](elements) & (elements == elements)
        if wrong.any():
            for mask in counts:
                wrong &= load(mask, at, np.empty(stop - start)) != 0
            if wrong.any() and not bad:
                here = int(wrong.argmax())
                first, value = start + here, float(elements[here])
            bad += int(np.count_nonzero(wrong))
    if bad:
        index = np.unravel_index(first, array.shape)
        place = int(index[0]) if len(index) == 1 else tuple(map(int, index))
        hint = "; labels 0 and 1 become -1 and 1 as 2 * target - 1" if domain == "-1 or 1" and value == 0 else ""
        where = f" at {place}" if index else ""
        raise ValueError(f"{name} must be {domain}, got {value:g}{where} ({bad} such elements){hint}")


def function(
    loss: Any,
    wanted: tuple[str, ...],
    operands: tuple[Any, Any],
    options: Mapping[str, Any],
    buffers: Mapping[str, Any],
    v: Any,
) -> Call:
    """A call of a pointwise function: its value, or, with a direction, the derivative times that."""
    (name,), x = wanted, as_array("x", operands[0])
    job = PointwiseJob(loss.name, _computes[x.dtype], x, n_threads=_threads(options))
    if options["where"] is not None:
        job.where = _mask(options["where"], x.shape, "x")
    if loss.parameters:
        job.params = tuple([parameter.number(options[name]) for name, parameter in loss.parameters.items()])
    result = _buffer("out", buffers.get(name), x.shape, own_dtype(x.dtype))
    if name == "value":
        job.value = result
    else:
        job.v = _expect_shape("v", as_array("v", v), x.shape, "the elements of x")
        job.grad = result
    if buffers:
        _refuse_overlap(buffers, {"x": x, "v": job.v, "where": job.where})
    return Call(job, UNREDUCED, "pointwise", {name: result}, buffers, x.size, 1)


def _pointwise_operand(name: str, value: Any, x: np.ndarray, first: str, differentiable: tuple[str, ...]) -> np.ndarray:
    """Of the first one's shape; a scalar too, unless there is a gradient in it."""
    array = as_array(name, value)
    if array.shape == x.shape:
        return array
    if array.ndim == 0 and name not in differentiable:
        return np.broadcast_to(array, x.shape)
    raise ValueError(f"{name} has shape {array.shape} and {first} shape {x.shape}: they must agree")


def _pointwise_weight(weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    w = as_array("sample_weight", weight)
    if w.shape == shape:
        return w
    if w.ndim == 1 and shape and len(w) == shape[0]:
        return np.broadcast_to(w.reshape(-1, *(1 for _ in shape[1:])), shape)
    raise ValueError(f"sample_weight has shape {w.shape}, but pred of shape {shape} needs {shape} or {shape[:1]}")


def _extra(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = as_array(name, value)
    if array.ndim and array.shape != shape[-1:]:
        raise ValueError(f"{name} has shape {array.shape}, but pred of shape {shape} needs a scalar or {shape[-1:]}")
    return np.broadcast_to(array, shape)


def _refuse_reduced_buffers(buffers: Mapping[str, Any], none: bool) -> None:
    if none:
        return
    for name in REDUCED:
        if buffers.get(name) is not None:
            raise TypeError(f"{buffer_name(name, buffers)}= takes per-row values: it needs reduction='none'")


# ----------------------------------------------------------------------------------------------------- rowwise


def rowwise(
    loss: Any,
    wanted: tuple[str, ...],
    operands: tuple[Any, Any],
    options: Mapping[str, Any],
    buffers: Mapping[str, Any],
    v: Any = None,
    ridge: float = 0.0,
) -> Call:
    """A call of a loss over a class axis."""
    name_x, name_t = loss.operands
    given, t = as_array(name_x, operands[0]), _operand(loss, name_t, operands[1], options)
    axis = options["axis"]
    x = given if axis == -1 and given.ndim else _class_axis_last(given, axis, name_x)
    classes, rows = x.shape[-1], x.shape[:-1]
    if classes == 0:
        raise ValueError(f"{name_x} of shape {given.shape} have no classes along axis {axis}")
    compute, none = _computes[x.dtype], options["reduction"] == "none"
    job = RowwiseJob(loss.name, compute, x, n_threads=_threads(options))
    _set_parameters(job, loss, options)
    inputs: dict[str, Any] = {name_x: given, name_t: t}
    if loss.entrywise and not loss.labelled:
        weighted = False
        if type(t) is np.ndarray:  # sparse ones wait for the mask
            job.target = _moved(_expect_shape(name_t, t, given.shape, f"the elements of {name_x}"), axis)
    elif loss.labelled:
        weighted = _set_targets(job, loss, t, given, axis)
    else:
        weighted = _set_others(job, loss, t, given, axis)
    job.ignore_index = options.get("ignore_index")
    if weighted and job.ignore_index is None:
        weighted = False  # labels that cannot be ignored each count 1
    if options.get("class_weight") is not None:
        w = _expect_shape("class_weight", as_array("class_weight", options["class_weight"]), (classes,), "the classes")
        inputs["class_weight"] = w
        if loss.labelled:
            job.class_weight, weighted = np.ascontiguousarray(w, FLOAT64), True
        else:
            job.entry_weight = np.ascontiguousarray(w, FLOAT64)
    if options["sample_weight"] is not None:
        w = as_array("sample_weight", options["sample_weight"])
        inputs["sample_weight"] = job.sample_weight = _expect_shape("sample_weight", w, rows, f"the rows of {name_x}")
        weighted = True
    if options["where"] is not None:
        mask = _mask(options["where"], given.shape, name_x)
        inputs["where"] = mask
        job.where = _moved(mask, axis)
        weighted = True
    if type(t) is not np.ndarray:  # sparse, and masked where the logits are
        job.target = of_targets(name_t, t, rows, classes, job.where)
        inputs[name_t], inputs[f"{name_t}.indices"] = job.target.targets, job.target.classes
    if "hvp" in wanted:
        direction = _expect_shape("v", as_array("v", v), given.shape, f"the elements of {name_x}")
        inputs["v"] = direction
        job.v = _moved(direction, axis)
    job.ridge = ridge
    _refuse_reduced_buffers(buffers, none)
    results: dict[str, Any] = {}
    totals: list[str] = []
    for name in wanted:
        if name in REDUCED and not none:
            totals.append(name)
            results[name] = None
        elif name in ENTRY_OUTPUTS:
            buffer = _buffer(buffer_name(name, buffers), buffers.get(name), given.shape, own_dtype(x.dtype))
            results[name] = buffer
            job.outputs[name] = _moved(buffer, axis)
        else:
            dtype = OUTPUT_DTYPES.get(name, compute)
            results[name] = job.outputs[name] = _buffer(buffer_name(name, buffers), buffers.get(name), rows, dtype)
    job.totals = tuple(totals)
    if buffers:
        _refuse_overlap(buffers, inputs)
    count = math.prod(rows)
    call = Call(job, options, "rowwise", results, buffers, count, count, weighted)
    if job.labels is not None and options["check"]:
        call.label_error = lambda weights: _label_error(job, weights)
    if options["check"] == "distribution":
        if loss.entrywise and loss.takes[0] == "probabilities":
            _check_distribution(x, job.where, name_x)
        if job.target is not None and (
            not loss.entrywise or loss.takes[1] == "probabilities" and not options.get("log_target")
        ):
            if isinstance(job.target, SparseTargets):
                _check_sparse_distribution(job.target)
            else:
                _check_distribution(job.target, job.where, name_t)
    return call


def _set_parameters(job: RowwiseJob, loss: Any, options: Mapping[str, Any]) -> None:
    for name in loss.parameters:
        if name not in loss.own:
            setattr(job, name, options[name])
    if loss.own:
        job.params = loss.own_numbers(options)


def _set_others(job: RowwiseJob, loss: Any, z: np.ndarray, logits: np.ndarray, axis: int) -> bool:
    """Put the logits to compare with into the job; there are no labels."""
    name_x, name_z = loss.operands
    if z.dtype.kind in "iub":
        raise TypeError(
            f"{loss.name} takes two arrays of logits: {name_z} must be floating, of {name_x}'s shape {logits.shape}, "
            f"got {z.dtype} of shape {z.shape}"
        )
    if z.shape != logits.shape:
        raise ValueError(f"{name_z} has shape {z.shape} and {name_x} shape {logits.shape}: they must agree")
    job.logits_q = _moved(z, axis)
    return False


def _operand(loss: Any, name: str, value: Any, options: Mapping[str, Any]) -> Any:
    """The second argument of a loss over a class axis: an array, or sparse targets as they are."""
    if type(value) is np.ndarray or not is_sparse(value):
        return as_array(name, value)
    if loss.labelled and not loss.soft:
        raise TypeError(f"{loss.name} takes integer labels, one a row, got sparse ones ({type(value).__name__})")
    if not loss.labelled and "probabilities" not in loss.takes[1:]:
        raise TypeError(f"{loss.name} compares with numbers that are not mostly 0: {name} must be dense")
    if options.get("log_target"):
        raise ValueError(f"sparse {name} are probabilities, and their logarithms are not 0: log_target must be False")
    return value


def _set_targets(job: RowwiseJob, loss: Any, t: Any, logits: np.ndarray, axis: int) -> bool:
    """Put labels or soft labels into the job; return whether they are labels. Sparse ones wait for the mask."""
    rows = job.logits.shape[:-1]
    if type(t) is not np.ndarray:
        return False
    integers = t.dtype.kind in "iub"
    if integers and t.shape == rows:
        job.labels = t
    elif t.shape == rows and t.size == 0:
        job.labels = t.astype(INTP)  # an empty list, which NumPy takes for floats
    elif integers:
        soft = "; soft labels must be floating" if loss.soft and t.shape == logits.shape else ""
        raise ValueError(
            f"labels have shape {t.shape}, but {loss.operands[0]} of shape {logits.shape} with classes along axis "
            f"{axis} need labels of shape {rows}{soft}"
        )
    elif t.shape == rows:
        raise TypeError(f"labels of shape {t.shape} must be of an integer dtype, got {t.dtype}")
    elif not loss.soft:
        raise TypeError(f"{loss.name} takes integer labels of shape {rows}, got {t.dtype} of shape {t.shape}")
    else:
        what = f"targets have shape {t.shape}, but {loss.operands[0]} of shape {logits.shape}"
        if t.shape != logits.shape:
            raise ValueError(f"{what} need soft labels of that shape, or integer labels of shape {rows}")
        job.target = _moved(t, axis)
    return job.labels is not None


def _label_error(job: RowwiseJob, weights: Weights) -> str:
    labels = job.labels
    assert labels is not None
    index = tuple(int(i) for i in np.unravel_index(weights.bad_row, labels.shape))
    place = "" if not index else f" at row {index[0] if len(index) == 1 else index}"
    rows = "row" if weights.bad_count == 1 else "rows"
    return (
        f"target {int(labels[index])}{place} is out of bounds for {job.logits.shape[-1]} classes "
        f"({weights.bad_count} such {rows})"
    )


def _check_sparse_distribution(target: SparseTargets) -> None:
    row, live = target.live()
    total, low = target.row_sums(), np.zeros(len(target.starts) - 1)
    np.minimum.at(low, row, np.where(live, target.targets, 0.0))
    whole = np.zeros(len(low), bool) if target.where is None else ~target.where.any(-1).reshape(len(low))
    bad = ~((low >= 0) & (abs(total - 1) <= 1e-6) | whole)
    if bad.any():
        first = int(bad.argmax())
        what = f"holds {float(low[first])!r}" if low[first] < 0 else f"sums to {float(total[first])!r}"
        raise ValueError(f"targets at row {target.place(first)} are not a distribution: the row {what}")


def _check_distribution(target: np.ndarray, where: np.ndarray | None, name: str) -> None:
    """Refuse a row that is not a distribution over the classes that are not masked."""
    tolerance = max(1e-6, 16 * _epsilon(target.dtype))
    for rows in _blocks(target.shape):
        block = target[rows]
        mask: Any = True if where is None else where[rows]
        with np.errstate(invalid="ignore"):  # ml_dtypes flags a comparison with NaN
            low = np.minimum.reduce(block, axis=-1, where=mask, initial=0)
            total = block.sum(-1, dtype=FLOAT64, where=mask)  # of infinities of both signs NaN
            fair = (low >= 0) & (abs(total - 1) <= tolerance)
        whole = np.zeros(total.shape, bool) if where is None else ~where[rows].any(-1)
        bad = ~(fair | whole)
        if bad.any():
            first = np.unravel_index(int(bad.argmax()), bad.shape)
            low_value, total_value = float(low[first]), float(total[first])
            what = f"holds {low_value!r}" if low_value < 0 else f"sums to {total_value!r}"
            place = tuple(int(i) for i in (*rows[:-1], (rows[-1].start if rows else 0) + (first[0] if first else 0)))
            raise ValueError(
                f"{name} at row {place[0] if len(place) == 1 else place} are not a distribution: the row {what}"
            )


def _epsilon(dtype: np.dtype) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Indices that cut an array's rows (all axes but the last) into pieces of at most 8192 along the last of them."""
    rows = shape[:-1]
    if not rows:
        yield ()
        return
    for outer in np.ndindex(rows[:-1]):
        for start in range(0, rows[-1], 8192):
            yield (*outer, slice(start, start + 8192))


def _class_axis_last(array: np.ndarray, axis: int, name: str) -> np.ndarray:
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis {axis} is out of range for {name} of shape {array.shape}")
    return _moved(array, axis)


def _moved(array: np.ndarray, axis: int) -> np.ndarray:
    """The array with that axis last."""
    return array if axis == -1 else np.moveaxis(array, axis, -1)


# ----------------------------------------------------------------------------------------------- row functions


def row_function(
    loss: Any,
    wanted: tuple[str, ...],
    operands: tuple[Any, Any],
    options: Mapping[str, Any],
    buffers: Mapping[str, Any],
    v: Any,
) -> Call:
    """A call of a function over one class axis, or for ``logsumexp`` over several taken as one."""
    name, x = wanted[0], as_array(loss.operands[0], operands[0])
    out = buffers.get(name)
    axis = options["axis"]
    a_row = loss.outputs[0] not in ENTRY_OUTPUTS
    if axis == -1 and x.ndim:
        rows, kept = x.shape[:-1], (*x.shape[:-1], 1)
        join = None
    else:
        axes = _normal_axes(axis, x)
        rest = tuple(axis for axis in range(x.ndim) if axis not in axes)
        rows = tuple(x.shape[axis] for axis in rest)
        kept = tuple(1 if axis in axes else length for axis, length in enumerate(x.shape))
        join = functools.partial(_joined, rest=rest, axes=axes)
    job = RowwiseJob(loss.name, _computes[x.dtype], join(x) if join else x, n_threads=_threads(options))
    _set_parameters(job, loss, options)
    inputs: dict[str, Any] = {loss.operands[0]: x}
    if options["where"] is not None:
        mask = inputs["where"] = _mask(options["where"], x.shape, loss.operands[0])
        job.where = join(mask) if join else mask
    if options.get("b") is not None:
        factors = inputs["b"] = _broadcast("b", as_array("b", options["b"]), x.shape, "x")
        job.b = join(factors) if join else factors
    if name in DIRECTED:
        direction = inputs["v"] = as_array("v", v)
        if a_row and name == "vjp":
            if direction.shape != kept:
                _expect_shape("v", direction, rows, "the results")
            job.v = direction.reshape(rows)
        else:
            _expect_shape("v", direction, x.shape, "the elements of x")
            job.v = join(direction) if join else direction
    if name not in ENTRY_OUTPUTS:
        result = _buffer("out", out, kept if options.get("keepdims") else rows, job.compute)
        view = result.reshape(rows)
    elif join is None or len(axes) == 1 or out is not None:
        result = _buffer("out", out, x.shape, own_dtype(x.dtype))
        view = join(result) if join else result
        if view.size and not np.may_share_memory(view, result):
            raise ValueError("out cannot be viewed with the axes joined: give a contiguous buffer, or one axis")
    else:
        view = np.empty(job.logits.shape, own_dtype(x.dtype))
        result = view.reshape(x.transpose(rest + axes).shape).transpose(np.argsort(rest + axes))
    job.outputs[name] = view
    results = {name: result}
    if "sign" in wanted or (job.b is not None and name == "lse"):
        sign = np.empty(result.shape, job.compute)
        job.outputs["sign"] = sign.reshape(rows)
    if buffers:
        _refuse_overlap(buffers, inputs)
    call = Call(job, UNREDUCED, "rowwise", results, buffers, 0, 0)
    if "sign" in wanted:
        results["sign"] = sign
    elif "sign" in job.outputs:  # a negative sum has no real logarithm
        call.finish = lambda: np.copyto(result, math.nan, where=sign < 0)
    return call


def jacobian(x: Any, options: Mapping[str, Any], out: Any) -> tuple[np.ndarray, Any, np.ndarray, int]:
    """Of a call for the Jacobians of rows: the argument and the mask, class axis last, the result, and the threads."""
    given = as_array("x", x)
    rows = _class_axis_last(given, options["axis"], "x")
    where = None if options["where"] is None else _mask(options["where"], given.shape, "x")
    result = _buffer("out", out, (*rows.shape, rows.shape[-1]), own_dtype(given.dtype))
    if out is not None:
        _refuse_overlap({"jacobian": out}, {"x": given, "where": where})
    return rows, None if where is None else _moved(where, options["axis"]), result, _threads(options)


def _normal_axes(axis: Any, x: np.ndarray) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for entry in axes:
        if not -x.ndim <= entry < x.ndim:
            raise ValueError(f"axis {entry} is out of range for x of shape {x.shape}")
    normal = tuple(entry % x.ndim for entry in axes)
    if len(set(normal)) < len(normal):
        raise ValueError(f"axis {axis} names an axis twice")
    return normal


def _joined(array: np.ndarray, rest: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """The axes moved to the end and joined into one: a view wherever the strides allow it."""
    moved = array.transpose(rest + axes)
    if len(axes) == 1:
        return moved
    return moved.reshape(*moved.shape[: len(rest)], math.prod(moved.shape[len(rest) :]))
