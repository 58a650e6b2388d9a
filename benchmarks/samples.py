"""torch's own sample inputs, for every loss and function that both libraries have: values and gradients in float64.

``python -m benchmarks.samples`` prints, for each of torch's operators and modules, how many of its samples agree, of
each that differs by how much, and how many are left out for which reason. The samples are those with which torch tests
itself (``op_db`` and ``module_db``, which come with it): `OPS` says which loss an operator is here, and turns its
arguments into ours. Nothing is left out in silence: a sample agrees, differs, is left out for a reason, or its loss is
not there; an operator that is left out whole counts once.
"""

from __future__ import annotations

import argparse
import collections
import inspect
import sys
import types
import unittest
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lossfast as lf

#: What differs by no more than rounding, relative to the largest entry.
CLOSE = 1e-12
#: How many units in the last place of its inputs torch may lose.
LOST = 4


BROADCAST = "torch broadcasts the input, whose gradient is a sum then: refused here"


#: What may become of a sample.
WHAT = {
    "agrees": "value and gradients are the same",
    "on purpose": "the same but for what is said",
    "rounds": "the same to the digits that torch has",
    "differs": "something is wrong",
    "left out": "there is no such call here",
    "no such loss": "the registry does not have it",
}


class LeftOutError(Exception):
    """A sample for which there is no call here, and why."""


@dataclass
class Sample:
    """One of torch's samples: ``call`` gives its result from the tensors, as arguments by their names."""

    op: str
    source: str  #: "OpInfo" or "ModuleInfo"
    call: Callable[..., Any]
    arguments: dict[str, Any]


@dataclass
class Ours:
    """What a sample is here: a loss, its operands by torch's names, and the options."""

    loss: str
    operands: tuple[str, ...]  #: by torch's names; derivatives are compared with respect to each that has one
    options: dict[str, Any] = field(default_factory=dict)
    given: dict[str, np.ndarray] = field(default_factory=dict)  #: operands that are not torch's as they stand
    scale: float = 1.0  #: what the value here is multiplied by to be torch's
    shape: tuple[int, ...] | None = None  #: that torch's result is given, where it is not ours
    purpose: str = ""  #: what is otherwise on purpose


@dataclass
class Outcome:
    """What became of a sample, and why."""

    sample: Sample
    what: str  #: a key of `WHAT`
    why: str = ""


# ------------------------------------------------------------------------------------------------- torch's arguments


def _array(value: Any) -> np.ndarray:
    return np.array(value.detach().numpy())


def _reduced(a: Mapping[str, Any]) -> dict[str, Any]:
    if a.get("size_average") is not None or a.get("reduce") is not None:
        raise LeftOutError("the deprecated size_average and reduce")
    return {"reduction": a["reduction"]}


def _alike(a: Mapping[str, Any], *names: str) -> dict[str, np.ndarray]:
    """Operands of the first one's shape: what torch broadcasts is broadcast here before the call."""
    shape = a[names[0]].shape
    found = {}
    for name in names[1:]:
        try:
            if a[name].shape != shape:
                found[name] = np.broadcast_to(_array(a[name]), tuple(shape))
        except ValueError:
            raise LeftOutError(BROADCAST) from None
    return found


def _elementwise(loss: str, **names: str) -> Callable[[Mapping[str, Any]], Ours]:
    """A loss of input and target; ``names``: of our options those of torch's arguments."""

    def translate(a: Mapping[str, Any]) -> Ours:
        options = _reduced(a) | {ours: a[theirs] for ours, theirs in names.items()}
        return _weighed(a, Ours(loss, ("input", "target"), options, _alike(a, "input", "target")))

    return translate


def _weighed(a: Mapping[str, Any], ours: Ours) -> Ours:
    """With torch's weight of each element, by which a mean is not divided there."""
    weight = a.get("weight")
    if weight is not None:
        shape = tuple(a["input"].shape)
        try:
            ours.options["sample_weight"] = np.broadcast_to(_array(weight), shape).copy()
        except ValueError:
            raise LeftOutError(BROADCAST) from None
        if ours.options["reduction"] == "mean":
            ours.options["reduction"], ours.scale = "sum", 1 / max(a["input"].numel(), 1)
    return ours


def _bce_with_logits(a: Mapping[str, Any]) -> Ours:
    ours = _weighed(
        a,
        Ours("binary_cross_entropy_with_logits", ("input", "target"), _reduced(a), _alike(a, "input", "target")),
    )
    if a["pos_weight"] is not None:
        q = _array(a["pos_weight"])
        if q.ndim and q.shape != tuple(a["input"].shape[-1:]):
            if q.ndim > 1 and all(n == 1 for n in q.shape[:-1]) and q.shape[-1] == a["input"].shape[-1]:
                q = q.reshape(-1)
            elif q.size == 1:
                q = q.reshape(())
            else:
                raise LeftOutError("a pos_weight for each element: here it is one number, or one for each last entry")
        ours.options["pos_weight"] = q
    return ours


def _class_axis(a: Mapping[str, Any]) -> int:
    return 1 if a["input"].ndim > 1 else 0


def _cross_entropy(a: Mapping[str, Any]) -> Ours:
    soft = a["target"].is_floating_point()
    options = {**_reduced(a), "axis": _class_axis(a), "label_smoothing": a["label_smoothing"]}
    if not soft:
        options["ignore_index"] = a["ignore_index"]
    if a["weight"] is not None:
        options["class_weight"] = _array(a["weight"])
    if soft and options["reduction"] == "mean":
        options["reduction"] = "batchmean"  # divided by the number of rows there
    return Ours("cross_entropy", ("input", "target"), options)


def _nll(a: Mapping[str, Any]) -> Ours:
    options = {**_reduced(a), "axis": _class_axis(a), "ignore_index": a["ignore_index"]}
    if a["weight"] is not None:
        options["class_weight"] = _array(a["weight"])
    return Ours("nll_loss", ("input", "target"), options)


def _kl_div(a: Mapping[str, Any]) -> Ours:
    if a["input"].ndim == 0:
        raise LeftOutError("a scalar, which has no class axis")
    if a["reduction"] == "none":
        raise LeftOutError("one value for each class: here a row has one")
    options, scale = {"reduction": "sum", "log_target": a["log_target"]}, 1.0
    if a["reduction"] == "mean":
        scale = 1 / a["input"].numel()  # of all elements there
    elif a["reduction"] == "batchmean":
        scale = 1 / a["input"].shape[0]
    _reduced(a)
    return Ours("kl_div", ("input", "target"), options, _alike(a, "input", "target"), scale)


def _multi_margin(a: Mapping[str, Any]) -> Ours:
    options = {**_reduced(a), "variant": "weston_watkins", "p": a["p"], "margin": float(a["margin"])}
    given, scale, shape = {}, 1.0, None
    logits, labels = _array(a["input"]), _array(a["target"])
    if logits.ndim == 0:
        logits = logits.reshape(1)
    if labels.ndim == logits.ndim:
        labels = labels.reshape(logits.shape[:-1])
    given = {"input": logits, "target": labels}
    if a["weight"] is not None:
        options["class_weight"] = _array(a["weight"])
        if options["reduction"] == "mean":
            options["reduction"], scale = "sum", 1 / max(labels.size, 1)  # by the number of rows there
    if options["reduction"] == "none":
        shape = labels.shape
    return Ours("multiclass_hinge_loss", ("input", "target"), options, given, scale, shape)


def _multilabel_margin(a: Mapping[str, Any]) -> Ours:
    x, labels = (_array(a[name]).reshape(a[name].shape or (1,)) for name in ("input", "target"))
    labels = np.where(np.cumprod(labels >= 0, axis=-1, dtype=bool), labels, -1)  # a list ends at its first -1
    counts = (np.arange(labels.shape[-1]) == labels[..., None]).sum(-2)
    if (counts > 1).any():
        raise LeftOutError("a label that a list has twice: here a class is one of the row's or is not")
    return Ours("multilabel_margin_loss", ("input", "target"), _reduced(a), {"input": x, "target": counts})


def _multilabel_soft_margin(a: Mapping[str, Any]) -> Ours:
    options: dict[str, Any] = _reduced(a)
    scale = 1.0
    if a["weight"] is not None:
        if a["weight"].shape != a["input"].shape[-1:]:
            raise LeftOutError("a weight for each element of each row: here it is one for each class")
        options["class_weight"] = _array(a["weight"])
        if options["reduction"] == "mean":
            options["reduction"], scale = "sum", 1 / max(a["input"][..., 0].numel(), 1)
    return Ours("multilabel_soft_margin_loss", ("input", "target"), options, _alike(a, "input", "target"), scale)


def _triplet(a: Mapping[str, Any]) -> Ours:
    if not len({a[name].shape for name in ("anchor", "positive", "negative")}) == 1:
        raise LeftOutError(BROADCAST)
    options = _reduced(a) | {name: a[name] for name in ("margin", "p", "eps", "swap")}
    return Ours("triplet_margin_loss", ("anchor", "positive", "negative"), options)


def _cosine(a: Mapping[str, Any]) -> Ours:
    options = _reduced(a) | {"margin": a["margin"]}
    return Ours("cosine_embedding_loss", ("input1", "input2", "target"), options)


def _ranking(a: Mapping[str, Any]) -> Ours:
    if a["input1"].shape != a["input2"].shape:
        raise LeftOutError(BROADCAST)
    options = _reduced(a) | {"margin": a["margin"]}
    return _signed(a, Ours("margin_ranking_loss", ("input1", "input2", "target"), options))


def _hinge_embedding(a: Mapping[str, Any]) -> Ours:
    if (abs(_array(a["target"])) != 1).any():
        raise LeftOutError("targets other than -1 and 1, of which torch adds up both cases: refused here")
    return Ours("hinge_embedding_loss", ("input", "target"), _reduced(a) | {"margin": a["margin"]})


def _soft_margin(a: Mapping[str, Any]) -> Ours:
    return _signed(a, Ours("logistic_loss", ("input", "target"), _reduced(a)))


def _signed(a: Mapping[str, Any], ours: Ours) -> Ours:
    """With targets that should be -1 and 1, and often are not in torch's samples."""
    if (abs(_array(a["target"])) != 1).any():
        ours.options["check"] = False
        ours.purpose = "targets other than -1 and 1 are an error; with check=False the formula is taken as it stands"
    return ours


def _poisson(a: Mapping[str, Any]) -> Ours:
    options = _reduced(a) | {"log_input": a["log_input"], "full": "stirling" if a["full"] else False, "eps": a["eps"]}
    return Ours("poisson_nll_loss", ("input", "target"), options, _alike(a, "input", "target"))


def _gaussian(a: Mapping[str, Any]) -> Ours:
    variance, x = a["var"], a["input"]
    if not hasattr(variance, "shape"):
        raise LeftOutError("a variance that is one Python number: here it is an array or a scalar array")
    given = _alike(a, "input", "target")
    shape = tuple(variance.shape)
    if shape == tuple(x.shape[:-1]) and shape != tuple(x.shape):
        shape = (*shape, 1)  # one for each row
    try:
        given["var"] = np.broadcast_to(_array(variance).reshape(shape), tuple(x.shape))
    except ValueError:
        raise LeftOutError(BROADCAST) from None
    options = _reduced(a) | {"full": a["full"], "eps": a["eps"]}
    return Ours("gaussian_nll_loss", ("input", "target", "var"), options, given)


def _over_classes(loss: str) -> Callable[[Mapping[str, Any]], Ours]:
    def translate(a: Mapping[str, Any]) -> Ours:
        if a["input"].ndim == 0:
            raise LeftOutError("a scalar, which has no class axis")
        axis = a["dim"]
        if axis is None:
            raise LeftOutError("no dim, which torch guesses and warns of")
        options: dict[str, Any] = {"axis": axis}
        if a.get("mask") is not None:
            options["where"] = np.broadcast_to(_array(a["mask"]).astype(bool), tuple(a["input"].shape))
        return Ours(loss, ("input",), options)

    return translate


def _logsumexp(a: Mapping[str, Any]) -> Ours:
    if a["input"].ndim == 0:
        raise LeftOutError("a scalar, which has no class axis")
    axis = a["dim"]
    options: dict[str, Any] = {"axis": None if axis is None or axis == () else axis, "keepdims": a["keepdim"]}
    if isinstance(axis, list):
        options["axis"] = tuple(axis) or None
    if a.get("mask") is not None:
        options["where"] = np.broadcast_to(_array(a["mask"]).astype(bool), tuple(a["input"].shape))
    return Ours("logsumexp", ("input",), options)


def _function(loss: str) -> Callable[[Mapping[str, Any]], Ours]:
    return lambda a: Ours(loss, ("input",))


#: torch's operators, and what their arguments are here.
OPS: dict[str, Callable[[Mapping[str, Any]], Ours]] = {
    "nn.functional.cross_entropy": _cross_entropy,
    "nn.functional.nll_loss": _nll,
    "nn.functional.kl_div": _kl_div,
    "nn.functional.multi_margin_loss": _multi_margin,
    "nn.functional.multilabel_margin_loss": _multilabel_margin,
    "nn.functional.multilabel_soft_margin_loss": _multilabel_soft_margin,
    "nn.functional.triplet_margin_loss": _triplet,
    "nn.functional.cosine_embedding_loss": _cosine,
    "nn.functional.margin_ranking_loss": _ranking,
    "nn.functional.hinge_embedding_loss": _hinge_embedding,
    "nn.functional.soft_margin_loss": _soft_margin,
    "nn.functional.binary_cross_entropy_with_logits": _bce_with_logits,
    "nn.functional.binary_cross_entropy": _elementwise("binary_cross_entropy"),
    "nn.functional.mse_loss": _elementwise("mse_loss"),
    "nn.functional.l1_loss": _elementwise("l1_loss"),
    "nn.functional.smooth_l1_loss": _elementwise("smooth_l1_loss", beta="beta"),
    "nn.functional.huber_loss": _elementwise("huber_loss", delta="delta"),
    "nn.functional.poisson_nll_loss": _poisson,
    "nn.functional.gaussian_nll_loss": _gaussian,
    "nn.functional.logsigmoid": _function("log_sigmoid"),
    "sigmoid": _function("sigmoid"),
    "softmax": _over_classes("softmax"),
    "log_softmax": _over_classes("log_softmax"),
    "logsumexp": _logsumexp,
    "masked.softmax": _over_classes("softmax"),
    "masked.log_softmax": _over_classes("log_softmax"),
    "masked.logsumexp": _logsumexp,
}
#: torch's modules, by the operator that each wraps.
MODULES = {
    "nn.CrossEntropyLoss": "nn.functional.cross_entropy",
    "nn.NLLLoss": "nn.functional.nll_loss",
    "nn.KLDivLoss": "nn.functional.kl_div",
    "nn.MultiMarginLoss": "nn.functional.multi_margin_loss",
    "nn.MultiLabelMarginLoss": "nn.functional.multilabel_margin_loss",
    "nn.MultiLabelSoftMarginLoss": "nn.functional.multilabel_soft_margin_loss",
    "nn.TripletMarginLoss": "nn.functional.triplet_margin_loss",
    "nn.CosineEmbeddingLoss": "nn.functional.cosine_embedding_loss",
    "nn.MarginRankingLoss": "nn.functional.margin_ranking_loss",
    "nn.HingeEmbeddingLoss": "nn.functional.hinge_embedding_loss",
    "nn.SoftMarginLoss": "nn.functional.soft_margin_loss",
    "nn.BCEWithLogitsLoss": "nn.functional.binary_cross_entropy_with_logits",
    "nn.BCELoss": "nn.functional.binary_cross_entropy",
    "nn.MSELoss": "nn.functional.mse_loss",
    "nn.L1Loss": "nn.functional.l1_loss",
    "nn.SmoothL1Loss": "nn.functional.smooth_l1_loss",
    "nn.HuberLoss": "nn.functional.huber_loss",
    "nn.PoissonNLLLoss": "nn.functional.poisson_nll_loss",
    "nn.GaussianNLLLoss": "nn.functional.gaussian_nll_loss",
    "nn.LogSigmoid": "nn.functional.logsigmoid",
    "nn.Sigmoid": "sigmoid",
    "nn.Softmax": "softmax",
    "nn.LogSoftmax": "log_softmax",
}
#: Other losses and functions over classes that torch has: why there is nothing to compare them with.
WITHOUT = {
    "nn.functional.ctc_loss": "alignments of sequences are no loss of this library",
    "nn.CTCLoss": "alignments of sequences are no loss of this library",
    "nn.AdaptiveLogSoftmaxWithLoss": "a layer with weights of its own",
    "nn.functional.linear_cross_entropy": "a linear layer and a cross-entropy in one",
    "nn.LinearCrossEntropyLoss": "a linear layer and a cross-entropy in one",
    "nn.functional.triplet_margin_with_distance_loss": "a distance that is a Python function",
    "nn.TripletMarginWithDistanceLoss": "a distance that is a Python function",
    "nn.functional.softmin": "softmax of minus the input",
    "softmin": "softmax of minus the input",
    "nn.Softmin": "softmax of minus the input",
    "nn.functional.softmin.with_dtype": "softmax of minus the input",
    "masked.softmin": "softmax of minus the input",
    "nn.Softmax2d": "softmax of axis -3",
    "nn.functional.hardsigmoid": "piecewise linear: another function",
    "nn.Hardsigmoid": "piecewise linear: another function",
    "_softmax_backward_data": "private",
    "torch.ops.aten._safe_softmax.default": "private: 0 for a row that is masked whole, as `where=` has it here",
    "nn.functional.gumbel_softmax": "random",
}
_OF_LOSSES = ("loss", "softm", "sigmoid", "entropy", "kl_div", "logsumexp")


# ------------------------------------------------------------------------------------------------------- samples


def samples() -> Iterator[Sample]:
    """All of torch's samples of losses, softmaxes and sigmoids, in float64."""
    import torch

    try:
        import expecttest  # noqa: F401
    except ImportError:  # which torch's own tests use, and its samples do not
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stand_in
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import module_db

    for info in op_db:
        if not any(word in info.name.lower() for word in _OF_LOSSES):
            continue
        if info.name not in OPS:
            yield Sample(info.name, "OpInfo", info.op, {})
            continue
        for given in info.sample_inputs("cpu", torch.float64, requires_grad=True):
            if info.name.startswith("masked."):
                arguments = {"input": given.input, "dim": None, "keepdim": False, **given.kwargs}
                arguments.update(zip(("dim", "keepdim"), given.args, strict=False))
            else:
                arguments = _bound(info.op, info.name, (given.input, *given.args), given.kwargs)
            yield Sample(info.name, "OpInfo", _called(info.op, given.args, given.kwargs), arguments)
    for info in module_db:
        if not any(word in info.name.lower() for word in _OF_LOSSES):
            continue
        if info.name not in MODULES:
            yield Sample(info.name, "ModuleInfo", info.module_cls, {})
            continue
        name = MODULES[info.name]
        function = _functional(name)
        for given in info.module_inputs_func(info, "cpu", torch.float64, True, True):
            made, forward = given.constructor_input, given.forward_input
            module = info.module_cls(*made.args, **made.kwargs)
            options = dict(inspect.signature(info.module_cls).bind(*made.args, **made.kwargs).arguments)
            positional = {k: v for k, v in options.items() if k not in ("device", "dtype")}
            arguments = _bound(function, name, forward.args, {**positional, **forward.kwargs})
            yield Sample(info.name, "ModuleInfo", _called(module, forward.args[1:], forward.kwargs), arguments)


def _functional(name: str) -> Any:
    import torch

    found: Any = torch
    for part in name.split("."):
        found = getattr(found, part)
    return found


#: Of functions that are not Python's: their arguments after the first, with defaults.
_BUILT_IN = {
    "sigmoid": {},
    "nn.functional.logsigmoid": {},
    "logsumexp": {"dim": None, "keepdim": False},
    "softmax": {"dim": None, "dtype": None},
    "log_softmax": {"dim": None, "dtype": None},
}


def _bound(function: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, with defaults."""
    if name in _BUILT_IN:
        given = dict(zip(("input", *_BUILT_IN[name]), args, strict=False))
        return {"input": args[0], **_BUILT_IN[name], **kwargs, **given}
    signature = inspect.signature(_functional(name))
    known = {key: value for key, value in kwargs.items() if key in signature.parameters}
    bound = signature.bind(*args, **known)
    bound.apply_defaults()
    return dict(bound.arguments)


def _called(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda first: function(first, *args, **kwargs)


# --------------------------------------------------------------------------------------------------- comparisons


def outcome(sample: Sample) -> Outcome:
    """Run a sample there and here."""
    name = MODULES.get(sample.op, sample.op)
    if name not in OPS:
        return Outcome(sample, "left out", WITHOUT.get(sample.op, "not known"))
    try:
        ours = OPS[name](sample.arguments)
    except LeftOutError as reason:
        return Outcome(sample, "left out", str(reason))
    if ours.loss not in lf.losses():
        return Outcome(sample, "no such loss", ours.loss)
    apart = compare(sample, ours)
    wrong = {what: errors for what, errors in apart.items() if not errors[0] <= CLOSE}
    if not wrong:
        return Outcome(sample, "on purpose", ours.purpose) if ours.purpose else Outcome(sample, "agrees")
    if all(lost <= LOST for _, lost in wrong.values()):
        return Outcome(sample, "rounds", "a small result there has no more digits than the inputs that it is made of")
    return Outcome(sample, "differs", ", ".join(f"{what} by {errors[0]:.1e}" for what, errors in wrong.items()))


def compare(sample: Sample, ours: Ours) -> dict[str, tuple[float, float]]:
    """How far value and gradients are apart: of the largest entry, and in units in the last place of the inputs.

    The latter are what torch, which takes differences of log-sum-exps and logits, can be held to.
    """
    import torch

    leaf = next(iter(sample.arguments.values()))
    theirs = sample.call(leaf)
    loss = lf.get_loss(ours.loss)
    operands = [ours.given.get(name, _array(sample.arguments[name])) for name in ours.operands]
    value = loss(*operands, **ours.options)
    expected = _array(theirs) if ours.shape is None else _array(theirs).reshape(ours.shape)
    seen = _seen(ours, value)
    size = float(np.abs(np.nan_to_num(operands[0], posinf=0, neginf=0)).max(initial=0))
    found = {"value": _apart(np.where(seen, np.multiply(value, ours.scale), 0), np.where(seen, expected, 0), size)}
    wanted = [name for name in ours.operands if sample.arguments[name].requires_grad]
    if not wanted:
        return found
    along = np.where(seen, np.cos(np.arange(np.size(value))).reshape(np.shape(value)) + 2, 0)
    direction = torch.from_numpy(np.array(along)).reshape(theirs.shape)
    tensors = [sample.arguments[name] for name in wanted]
    slopes = torch.autograd.grad(torch.where(direction == 0, 0, theirs * direction).sum(), tensors, allow_unused=True)
    if "function" in loss.kind:
        found["gradient"] = _apart(loss.vjp(*operands, along, **ours.options), _array(slopes[0]), size)
        return found
    grads = loss.grad(*operands, **ours.options)
    if not isinstance(grads, tuple):
        grads = (grads,)
    fields = getattr(grads, "_fields", loss.operands[:1])  # by our names, whose order is torch's
    for name, grad in zip((ours.operands[loss.operands.index(own)] for own in fields), grads, strict=True):
        if name not in wanted or slopes[wanted.index(name)] is None:
            continue
        slope = _array(slopes[wanted.index(name)])
        if name in ours.given and slope.size != grad.size:
            continue  # broadcast there: only the first argument's is compared
        axis = ours.options.get("axis", -1)
        weighted = np.expand_dims(along, axis) if 0 < along.ndim == grad.ndim - 1 else along
        made, slope = ours.scale * grad * weighted, slope.reshape(grad.shape)
        unknown = np.isnan(made) & ~np.isnan(slope)
        if unknown.any() and unknown[_no_numbers(ours, operands)].sum() == unknown.sum():
            ours.purpose = "NaN in (and a negative probability) is NaN out, also where torch's gradient needs no input"
            made, slope = np.where(unknown, 0, made), np.where(unknown, 0, slope)
        found[f"gradient in {name}"] = _apart(made, slope, size)
    return found


def _no_numbers(ours: Ours, operands: list[np.ndarray]) -> np.ndarray:
    """Where an operand is NaN, or a probability negative: logarithms of random numbers are among torch's samples."""
    found = np.isnan(operands[0])
    for operand in operands[1:]:
        if operand.shape == found.shape and operand.dtype.kind == "f":
            found |= np.isnan(operand) | ((ours.loss == "kl_div") & (operand < 0))
    return found


def _seen(ours: Ours, value: Any) -> Any:
    """Which entries of a result are compared: torch leaves undefined what its masked functions give where they mask."""
    mask = ours.options.get("where")
    if mask is None or np.shape(value) == np.shape(mask):
        return True if mask is None else mask
    axis = ours.options["axis"]
    return mask.any(axis=axis, keepdims=True).reshape(np.shape(value))


def _apart(ours: Any, theirs: Any, size: float) -> tuple[float, float]:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        return np.inf, np.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    if same.all():
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        most = float(np.nan_to_num(np.where(same, 0, np.abs(ours - theirs)), nan=np.inf, posinf=np.inf).max())
    largest = np.abs(np.where(np.isfinite(theirs), theirs, 0)).max(initial=0)
    return most / (largest or 1.0), most / float(np.spacing(max(size, 1.0)))


def run() -> list[Outcome]:
    """All of them; random parts of the samples are the same each time."""
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [outcome(sample) for sample in samples()]


def table(outcomes: list[Outcome]) -> str:
    """What became of the samples, operator by operator."""
    lines = []
    by_op: dict[tuple[str, str], list[Outcome]] = collections.defaultdict(list)
    for found in outcomes:
        by_op[found.sample.source, found.sample.op].append(found)
    for (source, op), group in by_op.items():
        counts = collections.Counter((found.what, found.why) for found in group)
        agreeing = sum(found.what == "agrees" for found in group)
        lines.append(f"{op} ({source}): {agreeing} of {len(group)} agree")
        lines += [f"    {count} {what}: {why}" for (what, why), count in counts.items() if what != "agrees"]
    total = collections.Counter(found.what for found in outcomes)
    lines.append(", ".join(f"{count} {what}" for what, count in total.items()))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(arguments)
    outcomes = run()
    print(table(outcomes))
    return int(any(found.what == "differs" for found in outcomes))


if __name__ == "__main__":
    sys.exit(main())
