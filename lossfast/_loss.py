"""The public objects: one per loss or function, each callable in the manner of a NumPy ufunc, and their registry.

A decorator (`pointwise_loss`, `pointwise_function`, `row_loss`, `row_function`) turns a Python twin into such an object
and registers it; everything that lists losses (the package's namespace, the command line, tests, benchmarks and
documentation) asks the registry.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, ClassVar

import numpy as np

from . import _arguments, backends
from ._reduction import Reduction, Sum
from ._sparse import is_sparse

#: What a parameter's domain means, by the text that declares it (and that error messages print). NaN is in none.
DOMAINS: dict[str, Callable[[float], bool]] = {
    "> 0": lambda value: value > 0,
    ">= 0": lambda value: value >= 0,
    ">= 1": lambda value: value >= 1,
    "finite": math.isfinite,
    "finite and > 0": lambda value: 0 < value < math.inf,
    "finite and >= 0": lambda value: 0 <= value < math.inf,
    "finite and >= -1": lambda value: -1 <= value < math.inf,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [-1, 1]": lambda value: -1 <= value <= 1,
    "in (0, 1)": lambda value: 0 < value < 1,
    "in (0, 0.5)": lambda value: 0 < value < 0.5,
    "finite, > 0 and not 1": lambda value: 0 < value < math.inf and value != 1,
}

#: What a domain of an argument's elements means. NaN is not looked at: it makes its element NaN.
ELEMENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "-1 or 1": lambda a: np.abs(a) == 1,
    "0 or 1": lambda a: (a == 0) | (a == 1),
    "in [0, 1]": lambda a: (a >= 0) & (a <= 1),
    ">= 0": lambda a: a >= 0,
    "> 0": lambda a: a > 0,
    "not 0": lambda a: a != 0,
    "> -1": lambda a: a > -1,
}
#: What brings other numbers to such a domain, for what is drawn to measure and to test.
_BROUGHT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "-1 or 1": lambda a: np.where(a > 0.5, 1, -1),
    "0 or 1": lambda a: np.where(a > 0.5, 1, 0),
    "in [0, 1]": lambda a: 1 - 0.5 / np.maximum(np.abs(a), 1),
    ">= 0": np.abs,
    "> 0": lambda a: np.where(a == 0, 1, np.abs(a)),
    "not 0": np.ones_like,
    "> -1": np.abs,
}

#: What ``out`` is to a function, which reduces nothing.
RESULT_BUFFER = (
    "ndarray, optional",
    "Where the result goes: an array of its shape, of any floating dtype, which is then the one returned.",
)


@dataclass(frozen=True)
class Parameter:
    """A scalar parameter of a loss: its default (None if it needs no value) and its domain (a key of `DOMAINS`)."""

    default: float | None
    domain: str = "finite"

    def check(self, name: str, value: Any) -> float | None:
        """The value as a float, or a ValueError with the value in it (a TypeError if it is not a number)."""
        if value is None and self.default is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number {self.domain}, got {value!r}") from None
        except OverflowError:
            raise ValueError(f"{name} must be {self.domain}, got an integer beyond the range of a float") from None
        if not DOMAINS[self.domain](number):
            raise ValueError(f"{name} must be {self.domain}, got {value!r}")
        return number

    def number(self, value: float | None) -> float:
        """What twins and kernels are given for it: NaN for None."""
        return math.nan if value is None else value


@dataclass(frozen=True)
class Choice:
    """A parameter with a few values: bools, integers or names. Twins and kernels are given the place among them."""

    default: Any
    choices: tuple[Any, ...]

    @property
    def domain(self) -> str:
        """What it may be, as documentation and errors say it."""
        return "one of " + ", ".join(map(repr, self.choices))

    def check(self, name: str, value: Any) -> Any:
        """The choice that the value is, or a ValueError with the value in it."""
        if isinstance(value, (str, bool, int, np.bool_, np.integer)):
            for choice in self.choices:
                if value == choice:
                    return choice
        raise ValueError(f"{name} must be {self.domain}, got {value!r}")

    def number(self, value: Any) -> float:
        """What twins and kernels are given for it."""
        return float(self.choices.index(value))


@dataclass(frozen=True)
class Base(Parameter):
    """The base of logarithms; None is e. Twins and kernels are given the factor of nats, one over its logarithm."""

    default: float | None = None
    domain: str = "finite, > 0 and not 1"

    def number(self, value: float | None) -> float:
        """The factor, rounded once."""
        return 1.0 if value is None else _of_nats(value)


@functools.lru_cache(64)
def _of_nats(base: float) -> float:
    import decimal  # which rounds logarithms alike on every machine

    with decimal.localcontext() as context:
        context.prec = 40
        return float(1 / decimal.Decimal(base).ln())


RIDGE = Parameter(0.0, "finite and >= 0")

#: Parameters that losses over a class axis have in common: fields of `RowwiseJob`. All others are a loss's own.
ROW_PARAMETERS = ("label_smoothing", "temperature", "z_loss")

#: What `Loss.evaluate` offers, in this order; a loss offers those that it has.
EVALUATED = (
    *("loss", "grad", "hess", "proba", "log_proba", "lse", "pred", "correct", "entropy", "margin", "rank"),
    *("grad_temperature", "hess_temperature", "grad_target"),
)
#: What is made of first derivatives by further products and sums.
PRODUCTS = frozenset(
    ("hess", "hvp", "vjp", "jvp", "row_jvp", "newton_step", "entropy", "grad_target")
    + ("grad_temperature", "hess_temperature", "jacobian")
)
_NO_BUFFERS: dict[str, Any] = {}

#: The groups of the documentation, and their titles.
GROUPS = {
    "rows": "Over a class axis",
    "information": "Information theory",
    "classification": "Pointwise, classification",
    "regression": "Pointwise, regression",
    "embeddings": "Between embeddings",
}

#: What documentation says of the options that objects share: type and text. Objects' docstrings say the rest.
OPTION_TEXTS = {
    "class_weight": (
        "array_like of shape (C,), optional",
        "A weight for each class: part of the loss and of the mean's denominator.",
    ),
    "sample_weight": (
        "array_like, optional",
        "A weight for each row, of the shape of integer labels. Nothing of a row that weighs 0 is used.",
    ),
    "ignore_index": (
        "int or None, default -100",
        "Rows with this label count for nothing: their loss, gradient and weight are 0. With None no row is ignored.",
    ),
    "where": (
        "array_like of bool, optional",
        "A mask of classes, broadcastable to the first argument's shape: where it is False, there is no such class.",
    ),
    "axis": ("int, default -1", "The axis along which the classes lie."),
    "keepdims": ("bool, default False", "Keep the axes that are summed over, with length 1."),
    "reduction": (
        '{"mean", "sum", "none", "batchmean"}, default "mean"',
        'How the losses become one number: ``"mean"`` divides their weighted sum by the sum of the weights, '
        '``"batchmean"`` by the number of rows. ``"none"`` returns the weighted losses themselves.',
    ),
    "denominator": ("float, optional", 'What ``"mean"`` divides by, instead of the sum of the weights.'),
    "empty": (
        '{"nan", "zero", "raise"}, default "nan"',
        'The value where the denominator is 0 (the gradient is 0 then); ``"raise"`` makes that a ValueError.',
    ),
    "check": (
        'bool or "distribution", default True',
        "Whether labels out of range are an error; if not, their rows become NaN. With "
        '``"distribution"``, soft labels that are negative or do not sum to 1 are an error too.',
    ),
    "out": (
        "ndarray, optional",
        'With ``reduction="none"``, where the losses go: an array of their shape, of any floating dtype, which is then '
        "the one returned.",
    ),
    "n_threads": (
        "int, optional",
        "How many threads may work on the call; `get_num_threads` says how many otherwise. No bit of a result depends "
        "on it.",
    ),
}


class method:  # noqa: N801 (a decorator)
    """A method whose signature, on an object, shows the real options of that object.

    Found on an object for the first time, it becomes an ordinary bound method with the signature spelt out, and is kept
    there. ``needs`` names an output: the method is absent from objects that do not offer it.
    """

    def __init__(self, function: Any = None, *, needs: str | None = None, without: tuple[str, ...] = ()):
        self.needs = needs
        self.without = without
        if function is not None:
            self(function)

    def __call__(self, function: Any) -> Any:
        self.function = function
        self.__doc__ = function.__doc__
        return self

    def __get__(self, loss: Loss | None, owner: type | None = None) -> Any:
        if loss is None:
            return self.function
        name = self.function.__name__
        if self.needs is not None and self.needs not in loss.outputs:
            raise AttributeError(f"{loss!r} has no attribute {name!r}")
        f = self.function
        own = FunctionType(f.__code__, f.__globals__, name, f.__defaults__, f.__closure__)
        own.__kwdefaults__, own.__doc__, own.__module__, own.__qualname__ = (
            *(f.__kwdefaults__, f.__doc__, f.__module__),
            f.__qualname__,
        )
        own.__signature__ = loss._signature_of(f, self.without)  # type: ignore[attr-defined]
        bound = loss.__dict__[name] = MethodType(own, loss)
        return bound


class _Signature:
    """That of an object's call, made when it is asked for: an import should not pay for it.

    Not by ``__getattr__``, whose mere presence would make every attribute that is there slower to find.
    """

    def __get__(self, loss: Loss | None, owner: type | None = None) -> inspect.Signature:
        if loss is None:
            raise AttributeError("__signature__")  # a class has that of its constructor
        signature = loss._signature_of(type(loss).__call__, bound=True)
        loss.__dict__["__signature__"] = signature
        return signature


class Loss:
    """A loss or function, callable in the manner of a NumPy ufunc: module-level, immutable, picklable by name.

    How many results come back depends on the method alone. The keyword arguments that its methods share are described
    on the object itself (``help(lossfast.cross_entropy)``).

    Attributes
    ----------
    name : str
        Its name in `lossfast` and in `lossfast.losses`.
    kind : str
        ``"pointwise"``, ``"pointwise_of_two"`` (with derivatives in two arguments), ``"function"``, ``"rowwise"``,
        ``"row_function"`` or ``"embedding"``.
    parameters : dict of str to Parameter or Choice
        Its scalar parameters, with default and domain.
    domains : dict of str to str
        What the elements of its arguments must be, by the argument's name: keys of `ELEMENTS`.
    outputs : tuple of str
        What it can compute besides its value.
    terms : function or None
        What says how large the terms are that cancel in the twin's results: the error budget is of those.
    ulp : float
        The error budget of value and gradient, in units in the last place of the result; `bound` has it for any output.
    labelled : bool
        Whether its targets may be integer labels, one a row.
    group : str
        Where the documentation has it: a key of `GROUPS`.
    entrywise : bool
        Whether it is a sum over the entries of a row, without a softmax.
    takes : tuple of str
        What each of its arguments holds, where that is not logits or any numbers: ``"logits"``, ``"probabilities"``,
        ``"log-probabilities"`` or ``"0 or 1"``.
    of : str
        What the twin of a loss over a class axis is a function of: ``"classes"``, ``"truth"``, ``"violations"`` or
        ``"pairs"``.
    own : tuple of str
        Those of its parameters that no other loss shares, which its twin is given.
    """

    kind: ClassVar[str] = ""
    differentiable: tuple[str, ...] = ()  # the arguments in which it has derivatives, where those come as a tuple
    labelled: ClassVar[bool] = False  # whether its targets may be labels, one a row
    operands: tuple[str, ...] = ()  # the names of the positional arguments
    entrywise: ClassVar[bool] = False
    takes: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()  # which of _arguments.OPTIONS it takes
    special: ClassVar[Mapping[str, tuple[Any, Callable[[str, Any], Any]]]] = {}  # and where its rule for one differs
    texts: ClassVar[Mapping[str, tuple[str, str]]] = {}  # or what documentation says of it
    __signature__ = _Signature()
    _checked: Callable[
        ..., _arguments.Call
    ]  # from what is wanted, operands, options, buffers and a direction to a checked call

    def __init__(
        self,
        twin: Callable[..., Any],
        parameters: Mapping[str, Parameter | Choice],
        ulp: Any,
        outputs: tuple[str, ...] = (),
        extra: str | None = None,
        soft: bool = False,
        group: str = "rows",
        domains: Mapping[str, str] | None = None,
        takes: tuple[str, ...] = (),
        terms: Callable[..., Any] | None = None,
        of: str = "classes",
    ) -> None:
        self.twin = twin
        self.terms = terms
        self.takes = takes
        self.of = of
        self.domains = dict(domains or {})
        self.name = self.__name__ = self.__qualname__ = twin.__name__
        self.__module__ = "lossfast"
        if self.domains:
            self.shared = (*self.shared, "check")
        self.__doc__ = self._documented(twin.__doc__)
        self.parameters = dict(parameters)
        self.own = tuple([name for name in parameters if name not in ROW_PARAMETERS])
        self.ulp = ulp
        self.outputs = outputs
        self.extra = extra
        self.soft = soft
        self.group = group
        rules: dict[str, tuple[Any, Callable[[str, Any], Any]]] = {
            name: (parameter.default, parameter.check) for name, parameter in self.parameters.items()
        }
        if extra is not None:
            rules[extra] = (None, lambda name, value: value)
        rules.update({name: self.special.get(name, _arguments.OPTIONS[name]) for name in self.shared})
        self._checks = {name: check for name, (_, check) in rules.items()}
        self._defaults = {name: default for name, (default, _) in rules.items()}
        self._fixed: dict[str, Any] = {}
        self._evaluated = tuple([name for name in EVALUATED if name in ("loss", "grad", *outputs)])
        self._quick: Any = None

    def _documented(self, doc: str | None) -> str | None:
        """The twin's docstring with the shared options, which it leaves out."""
        if doc is None:  # python -OO
            return None
        known = {**OPTION_TEXTS, **self.texts}
        texts = {name: known[name] for name in (*self.shared, "out") if name in known}
        lines = [line for name, (kind, text) in texts.items() for line in (f"{name} : {kind}", f"    {text}")]
        heading = "Other Parameters"
        options = "\n".join([heading, "-" * len(heading), *lines])
        before, raises, after = inspect.cleandoc(doc).partition("\n\nRaises\n")
        return f"{before}\n\n{options}{raises}{after}"

    def bound(self, output: str) -> float:
        """The error budget of an output on the compiled backend, in units in the last place of the result.

        Second derivatives, products with a direction, entropies, and derivatives in targets and temperature have one
        unit more than ``ulp``, which is that of everything else.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.cross_entropy.bound("grad"), lf.cross_entropy.bound("hess")
        (2, 3)
        """
        return self.ulp + (output in PRODUCTS)

    def own_numbers(self, options: Mapping[str, Any] | None = None) -> tuple[float, ...]:
        """What the twin is given for the loss's own parameters: of these options, of what is bound, or by default."""
        given = {**self._defaults, **(options or {})}
        return tuple([self.parameters[name].number(given[name]) for name in self.own])

    # ------------------------------------------------------------------------------------------- what it looks like

    def __repr__(self) -> str:
        fixed = ", ".join(f"{name}={value!r}" for name, value in self._fixed.items())
        return f"lossfast.{self.name}" + (f".bind({fixed})" if fixed else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self.name, self._fixed)) if self._fixed else (get_loss, (self.name,))

    def __copy__(self) -> Loss:
        return self

    def _signature_of(
        self, function: Callable[..., Any], without: tuple[str, ...] = (), bound: bool = False
    ) -> inspect.Signature:
        """The function's signature, with the object's names for the arguments and its options for ``**options``."""
        positional: list[inspect.Parameter] = []
        keywords: list[inspect.Parameter] = []
        names = iter(self.operands)
        for number, annotated in enumerate(inspect.signature(function).parameters.values()):
            parameter = annotated.replace(annotation=inspect.Parameter.empty)
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(parameter.replace(name=next(names, parameter.name)) if number else parameter)
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional += [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                options = [(name, value) for name, value in self._defaults.items() if name not in without]
                keywords[:0] = [
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in options
                ]
            else:
                keywords.append(parameter)
        return inspect.Signature(positional[1:] + keywords if bound else positional + keywords)

    # ------------------------------------------------------------------------------------------------------ options

    def bind(self, **options: Any) -> Any:
        """The same object with options fixed: parameters, weights, masks, the reduction, anything but buffers.

        They are checked now, can be given anew in a call, and go along when the object is pickled.

        Raises
        ------
        TypeError
            It has no such option.
        ValueError
            The value is outside its domain.

        Examples
        --------
        >>> import lossfast as lf
        >>> loss = lf.huber_loss.bind(delta=0.5)
        >>> loss
        lossfast.huber_loss.bind(delta=0.5)
        >>> loss([3.0], [0.0])
        1.375
        """
        bound = object.__new__(type(self))
        bound.__dict__.update(
            {
                name: value
                for name, value in self.__dict__.items()
                if not isinstance(value, (MethodType, inspect.Signature))
            }
        )
        bound._defaults = self._settle(options)
        bound._fixed = {**self._fixed, **{name: bound._defaults[name] for name in options}}
        bound._quick = None
        return bound

    def _settle(self, options: dict[str, Any]) -> dict[str, Any]:
        """All options of a call: those given, checked one by one, and the defaults."""
        settled = self._defaults.copy()
        for name, value in options.items():
            check = self._checks.get(name)
            if check is None:
                takes = ", ".join(self._checks)
                raise TypeError(f"{self!r} has no option {name!r}; its options are {takes}")
            settled[name] = check(name, value)
        if settled.get("denominator") is not None and settled["reduction"] != "mean":
            raise ValueError(f"denominator= belongs to reduction='mean', got reduction={settled['reduction']!r}")
        return settled

    # -------------------------------------------------------------------------------------------------------- calls

    def _run(
        self,
        wanted: tuple[str, ...],
        x: Any,
        target: Any,
        options: dict[str, Any],
        buffers: dict[str, Any] | None = None,
        v: Any = None,
        *more: Any,
    ) -> tuple[Any, ...]:
        """What is wanted, in that order: the quick way where the backend has one that takes the call."""
        backend = backends.current or backends.get()
        if backend.quick is not None:
            quick = self._quick or self._make_quick(backend)
            results: tuple[Any, ...] | None
            if more:
                results = quick.run(wanted, x, target, v, options, buffers, *more)
            else:  # the same, and quicker to call
                results = quick.run(wanted, x, target, v, options, buffers)
            plain = type(x) is np.ndarray and (target is None or type(target) is np.ndarray)
            if results is None and not plain and not is_sparse(target):
                self._settle(options)  # whose errors come first
                x, *others = map(_arguments.as_array, self.operands, (x, target))
                target = others[0] if others else None
                results = quick.run(wanted, x, target, v, options, buffers, *more)
            if results is not None:
                return results
        settled = self._settle(options) if options else self._defaults
        call = self._checked(wanted, (x, target), settled, buffers or _NO_BUFFERS, v, *more)
        return tuple(call.run(backend).values())

    def _make_quick(self, backend: Any) -> Any:
        """What takes this object's plain calls whole, made for the first of them."""
        self._quick = backend.quick(self)
        return self._quick


class _Reducing(Loss):
    """What losses have in common, in contrast to functions: they are compared with a target, and reduced."""

    def __call__(self, x: Any, target: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The loss: a float, or with ``reduction="none"`` an array."""
        return self._run(("loss",), x, target, options, None if out is None else {"loss": out})[0]

    @method
    def value_and_grad(
        self, x: Any, target: Any, /, *, out: Any = None, grad_out: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradient of that value with respect to the first argument.

        Parameters
        ----------
        out : ndarray, optional
            With ``reduction="none"``, where the losses go.
        grad_out : ndarray, optional
            Where the gradient goes: of the first argument's shape, of any floating dtype. It may be that argument.

        Returns
        -------
        value : float or ndarray
        grad : ndarray
            Of the first argument's shape and dtype. With ``reduction="none"``, each row's own gradient.

        Examples
        --------
        >>> import lossfast as lf
        >>> value, grad = lf.mse_loss.value_and_grad([1.0, 3.0], [1.0, 1.0])
        >>> value, grad
        (2.0, array([0., 2.]))
        """
        buffers = None if out is grad_out is None else {"loss": out, "grad": grad_out}
        return self._run(("loss", "grad"), x, target, options, buffers)

    @method
    def grad(self, x: Any, target: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The gradient of the value with respect to the first argument.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: of the first argument's shape, of any floating dtype. It may be that argument.

        Returns
        -------
        ndarray
            Of the first argument's shape and dtype. With ``reduction="none"``, each row's own gradient.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.mse_loss.grad([1.0, 3.0], [1.0, 1.0])
        array([0., 2.])
        """
        return self._run(("grad",), x, target, options, None if out is None else {"grad": out})[0]

    @method(needs="hess")
    def grad_and_hess(
        self, x: Any, target: Any, /, *, grad_out: Any = None, hess_out: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """The gradient of the value, and the diagonal of its Hessian, entry by entry.

        Parameters
        ----------
        grad_out, hess_out : ndarray, optional
            Where they go: of the first argument's shape, of any floating dtype.

        Returns
        -------
        grad, hess : ndarray

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.mse_loss.grad_and_hess([1.0, 3.0], [1.0, 1.0])
        (array([0., 2.]), array([1., 1.]))
        """
        buffers = None if grad_out is hess_out is None else {"grad": grad_out, "hess": hess_out}
        return self._run(("grad", "hess"), x, target, options, buffers)

    @method(needs="hvp")
    def hvp(self, x: Any, target: Any, v: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The Hessian of the value times a direction ``v`` of the first argument's shape; exact, at a gradient's cost.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: of the first argument's shape, of any floating dtype.

        Returns
        -------
        ndarray

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.mse_loss.hvp([1.0, 3.0], [1.0, 1.0], [10.0, 20.0])
        array([10., 20.])
        """
        return self._run(("hvp",), x, target, options, None if out is None else {"hvp": out}, v)[0]

    @method(without=("reduction",))
    def reduce(self, x: Any, target: Any, /, **options: Any) -> Reduction:
        """The losses' sum and weight, to be merged with those of other shards, micro-batches or workers.

        Returns
        -------
        Reduction
            With ``sum``, ``weight``, ``count``, ``mean``, ``merge`` and ``+``.

        Examples
        --------
        >>> import lossfast as lf
        >>> batches = [([1.0, 3.0], [1.0, 1.0]), ([5.0], [0.0])]
        >>> sum(lf.mse_loss.reduce(pred, target) for pred, target in batches).mean
        9.666666666666666
        """
        backend = backends.current or backends.get()
        if backend.quick is not None and "reduction" not in options:
            parts = (self._quick or self._make_quick(backend)).reduce(x, target, options)
            if parts is not None:
                total, weight, count = parts
                given, empty = (options.get(name, self._defaults[name]) for name in ("denominator", "empty"))
                return Reduction(Sum(*total), Sum(*weight), count, given, empty)
        return self._reducible("reduce", x, target, options).reduce(backend)

    @method(without=("reduction",))
    def weigh(self, x: Any, target: Any, /, **options: Any) -> Reduction:
        """The weight and the count that `reduce` gives, and no losses: the values in the first argument are not read.

        It is for gradients of a mean over more than fits in memory: weigh all shards first, then give the weight of the
        whole to each as its ``denominator``. Any array of the right shape and floating dtype will do for the first
        argument, ``numpy.broadcast_to(0.0, shape)`` for one. Targets and options are checked as by the other methods.

        Returns
        -------
        Reduction
            Whose ``sum`` and ``mean`` are NaN; ``merge`` and ``+`` are of use.

        Examples
        --------
        >>> import lossfast as lf
        >>> shards = [([[0.0, 0.0], [0.0, 0.0]], [0, -100]), ([[0.0, 0.0]], [1])]
        >>> whole = sum(lf.cross_entropy.weigh(logits, labels) for logits, labels in shards)
        >>> whole.weight, whole.count
        (2.0, 2)
        >>> lf.cross_entropy.grad(*shards[1], denominator=whole.weight)
        array([[ 0.25, -0.25]])
        """
        call = self._reducible("weigh", x, target, options)
        weights = call.weigh(backends.current or backends.get())
        given, empty = call.options["denominator"], call.options["empty"]
        return Reduction(Sum(math.nan), weights.total, weights.count, given, empty)

    def _reducible(self, name: str, x: Any, target: Any, options: dict[str, Any]) -> _arguments.Call:
        if "reduction" in options:
            raise TypeError(f"{name}() takes no reduction: its result is the same for all of them")
        # The mean is what an object bound to another reduction is reduced to as well.
        settled = self._settle({**options, "reduction": "mean"})
        return self._checked(("loss",), (x, target), settled, _NO_BUFFERS)

    @method
    def evaluate(
        self,
        x: Any,
        target: Any,
        /,
        *,
        want: Iterable[str] | None = None,
        out: Any = None,
        grad_out: Any = None,
        hess_out: Any = None,
        **options: Any,
    ) -> Any:
        """Whatever is wanted of the loss, in one pass; only that is computed.

        Parameters
        ----------
        want : tuple of str, optional
            Any of

            - ``"loss"``, ``"grad"``, ``"hess"``: value, gradient and the Hessian's diagonal, as the other methods give
              them;

            and, for losses over a class axis, of those the object offers (its ``outputs``),

            - ``"proba"``, ``"log_proba"``: the softmax of the logits and its logarithm;
            - ``"lse"``: each row's log-sum-exp; ``"entropy"``: the entropy of its softmax;
            - ``"pred"``: the first largest class; ``"correct"``: whether that is the label (for soft labels: the first
              largest of them);
            - ``"margin"``: the true class's logit less the largest of the others; ``"rank"``: how many classes score
              above the true one;
            - ``"grad_temperature"``, ``"hess_temperature"``: the value's first and second derivative in the
              temperature;
            - ``"grad_target"``: the value's derivatives in the second argument (soft labels, or other logits).

            Everything the object offers, if not given.
        out, grad_out, hess_out : ndarray, optional
            Where the losses (with ``reduction="none"``), the gradient and the Hessian go. Every other result takes its
            buffer likewise: ``proba_out=``, ``pred_out=`` and so on.

        Returns
        -------
        named tuple
            With the names in ``want``, in that order.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.cross_entropy.evaluate([[3.0, 3.0, 1.0]], [1], want=("pred", "correct", "margin", "rank"))
        Evaluation(pred=array([0]), correct=array([False]), margin=array([0.]), rank=array([0]))
        """
        offered = self._evaluated
        wanted = offered if want is None else (want,) if isinstance(want, str) else tuple(want)
        for name in wanted:
            if name not in offered:
                raise ValueError(f"{self!r} can evaluate {', '.join(offered)}; got {name!r}")
        evaluation = _evaluation(wanted)
        if out is grad_out is hess_out is None and not options:
            return evaluation._make(self._run(wanted, x, target, options))
        given: dict[str, Any] = {"loss": out, "grad": grad_out, "hess": hess_out}
        given.update({name: options.pop(f"{name}_out") for name in EVALUATED if f"{name}_out" in options})
        for name, buffer in given.items():
            if buffer is not None and name not in wanted:
                raise TypeError(f"a buffer for {name!r} is given, which is not wanted")
        return evaluation._make(self._run(wanted, x, target, options, given))


class PointwiseLoss(_Reducing):
    """A loss between each element of ``pred`` and of ``target``."""

    kind = "pointwise"
    operands = ("pred", "target")
    shared = ("sample_weight", "where", "reduction", "denominator", "empty", "n_threads")
    texts: ClassVar = {
        "sample_weight": (
            "array_like, optional",
            "A weight for each element, of pred's shape; or one for each entry of its first axis. Nothing of an "
            "element that weighs 0 is used.",
        ),
        "where": (
            "array_like of bool, optional",
            "A mask of elements, broadcastable to pred's shape: where it is False, the element counts for nothing.",
        ),
        "reduction": (
            OPTION_TEXTS["reduction"][0],
            OPTION_TEXTS["reduction"][1].replace("number of rows", "length of the first axis"),
        ),
        "check": (
            "bool, default True",
            "Whether an element out of its domain is an error; if not, the formula is taken as it stands.",
        ),
    }
    special: ClassVar = {"check": _arguments.YES_OR_NO}
    _checked = _arguments.pointwise


class PointwiseLossOfTwo(PointwiseLoss):
    """A loss of each element of three arguments, with derivatives in two of them."""

    kind = "pointwise_of_two"

    def __init__(
        self,
        twin: Callable[..., Any],
        parameters: Mapping[str, Parameter | Choice],
        *,
        operands: tuple[str, ...],
        differentiable: tuple[str, ...],
        **traits: Any,
    ) -> None:
        first = operands[0]
        given = {name: (kind, text.replace("pred", first)) for name, (kind, text) in PointwiseLoss.texts.items()}
        # What a class has, where it is the same for all.
        self.__dict__.update(operands=operands, differentiable=differentiable, texts=given)
        super().__init__(twin, parameters, **traits)

    def _run(
        self,
        wanted: tuple[str, ...],
        x: Any,
        target: Any,
        options: dict[str, Any],
        buffers: dict[str, Any] | None = None,
        v: Any = None,
        *more: Any,
    ) -> tuple[Any, ...]:
        """As ever, with a named tuple for a derivative, and a pair for its buffer."""
        settled = self._settle(options) if options else self._defaults
        flat = [each for name in wanted for each in ((name,) if name == "loss" else (name, f"{name}_second"))]
        given: dict[str, Any] = {}
        for name, buffer in (buffers or _NO_BUFFERS).items():
            if name == "loss":
                given[name] = buffer
            elif buffer is not None:
                if not isinstance(buffer, (tuple, list)) or len(buffer) != 2:
                    what = f"a pair of arrays, for {' and '.join(self.differentiable)}"
                    raise TypeError(f"the buffer of {name!r} must be {what}, got {type(buffer).__qualname__}")
                given[name], given[f"{name}_second"] = buffer
        call = self._checked(tuple(flat), (x, target), settled, given)
        found = call.run(backends.current or backends.get())
        make = _evaluation(self.differentiable, "Derivatives", "A derivative in each argument that has one.")
        return tuple([found[name] if name == "loss" else make(found[name], found[f"{name}_second"]) for name in wanted])

    def __call__(  # type: ignore[override]
        self, x: Any, second: Any, third: Any, /, *, out: Any = None, **options: Any
    ) -> Any:
        """The loss: a float, or with ``reduction="none"`` an array."""
        return PointwiseLoss.__call__(self, x, (second, third), out=out, **options)

    @method
    def value_and_grad(
        self, x: Any, second: Any, third: Any, /, *, out: Any = None, grad_out: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """The value, and its gradients with respect to both arguments that have one.

        Parameters
        ----------
        out : ndarray, optional
            With ``reduction="none"``, where the losses go.
        grad_out : pair of ndarray, optional
            Where the gradients go: of the arguments' shape, of any floating dtype. The first may be the first argument.

        Returns
        -------
        value : float or ndarray
        grad : named tuple of two ndarray
            With the arguments' names, of their shape and dtypes. With ``reduction="none"``, each element's own
            gradients.

        Examples
        --------
        >>> import lossfast as lf
        >>> value, grad = lf.margin_ranking_loss.value_and_grad([1.0, 3.0], [2.0, 1.0], [1, 1])
        >>> value, grad
        (0.5, Derivatives(input1=array([-0.5,  0. ]), input2=array([0.5, 0. ])))
        """
        return PointwiseLoss.value_and_grad(self, x, (second, third), out=out, grad_out=grad_out, **options)

    @method
    def grad(self, x: Any, second: Any, third: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The gradients of the value with respect to both arguments that have one.

        Parameters
        ----------
        out : pair of ndarray, optional
            Where they go: of the arguments' shape, of any floating dtype. The first may be the first argument.

        Returns
        -------
        named tuple of two ndarray
            With the arguments' names, of their shape and dtypes.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.gaussian_nll_loss.grad([1.0], [3.0], [2.0])
        Derivatives(pred=array([-1.]), var=array([-0.25]))
        """
        return PointwiseLoss.grad(self, x, (second, third), out=out, **options)

    @method(needs="hess")
    def grad_and_hess(
        self, x: Any, second: Any, third: Any, /, *, grad_out: Any = None, hess_out: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """The gradients of the value, and the diagonals of the Hessians in either argument alone.

        Parameters
        ----------
        grad_out, hess_out : pair of ndarray, optional
            Where they go: of the arguments' shape, of any floating dtype.

        Returns
        -------
        grad, hess : named tuple of two ndarray

        Examples
        --------
        >>> import lossfast as lf
        >>> grad, hess = lf.gaussian_nll_loss.grad_and_hess([1.0], [3.0], [2.0])
        >>> hess
        Derivatives(pred=array([0.5]), var=array([0.375]))
        """
        return PointwiseLoss.grad_and_hess(self, x, (second, third), grad_out=grad_out, hess_out=hess_out, **options)

    @method(without=("reduction",))
    def reduce(self, x: Any, second: Any, third: Any, /, **options: Any) -> Reduction:
        """The losses' sum and weight, to be merged with those of other shards, micro-batches or workers.

        Returns
        -------
        Reduction
            With ``sum``, ``weight``, ``count``, ``mean``, ``merge`` and ``+``.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.margin_ranking_loss.reduce([1.0, 3.0], [2.0, 1.0], [1, 1]).mean
        0.5
        """
        return self._reducible("reduce", x, (second, third), options).reduce(backends.current or backends.get())

    @method(without=("reduction",))
    def weigh(self, x: Any, second: Any, third: Any, /, **options: Any) -> Reduction:
        """The weight and the count that `reduce` gives, and no losses.

        Returns
        -------
        Reduction
            Whose ``sum`` and ``mean`` are NaN; ``merge`` and ``+`` are of use.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.margin_ranking_loss.weigh([1.0, 3.0], [2.0, 1.0], [1, 1], where=[True, False]).weight
        1.0
        """
        return PointwiseLoss.weigh(self, x, (second, third), **options)

    @method
    def evaluate(
        self,
        x: Any,
        second: Any,
        third: Any,
        /,
        *,
        want: Iterable[str] | None = None,
        out: Any = None,
        grad_out: Any = None,
        hess_out: Any = None,
        **options: Any,
    ) -> Any:
        """Whatever is wanted of ``"loss"``, ``"grad"`` and ``"hess"``, in one pass; only that is computed.

        Parameters
        ----------
        want : tuple of str, optional
            Everything, if not given.
        out : ndarray, optional
            With ``reduction="none"``, where the losses go.
        grad_out, hess_out : pair of ndarray, optional
            Where the gradients and the Hessians go.

        Returns
        -------
        named tuple
            With the names in ``want``, in that order.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.margin_ranking_loss.evaluate([1.0], [2.0], [1], want=("loss",))
        Evaluation(loss=1.0)
        """
        buffers = {"out": out, "grad_out": grad_out, "hess_out": hess_out}
        return PointwiseLoss.evaluate(self, x, (second, third), want=want, **buffers, **options)


class RowLoss(_Reducing):
    """A loss between each row of logits and its label or soft labels."""

    kind = "rowwise"
    labelled = True
    operands = ("logits", "targets")
    shared: tuple[str, ...] = (
        *("class_weight", "sample_weight", "ignore_index", "where", "axis"),
        *("reduction", "denominator", "empty", "check", "n_threads"),
    )
    _checked = _arguments.rowwise

    @method(needs="newton_step")
    def newton_step(self, x: Any, target: Any, /, *, ridge: float = 0.0, out: Any = None, **options: Any) -> Any:
        """The damped Newton step of every row, ``-(H + ridge I)^-1 g``, exact and in one pass.

        ``g`` and ``H`` are the value's gradient and Hessian in the row's logits. The step is a direction of descent.

        Parameters
        ----------
        ridge : float, default 0.0
            At least 0. H is singular along the direction of equal logits (unless ``z_loss`` is above 0), so that 0 is
            the limit of small ridges. Without a ridge, a class whose curvature is 0 as a number keeps its logit.
        out : ndarray, optional
            Where it goes: of the logits' shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of the logits' shape and dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.cross_entropy.newton_step([[0.0, 0.0]], [0], ridge=0.5)
        array([[ 0.5, -0.5]])
        """
        buffers = None if out is None else {"newton_step": out}
        ridge = RIDGE.number(RIDGE.check("ridge", ridge))
        return self._run(("newton_step",), x, target, options, buffers, None, ridge)[0]


class RowComparison(RowLoss):
    """A loss between each row of logits and the same row of others."""

    labelled = False
    operands = ("z_p", "z_q")
    shared = ("sample_weight", "where", "axis", "reduction", "denominator", "empty", "check", "n_threads")
    texts: ClassVar = {
        "sample_weight": ("array_like, optional", "A weight for each row. Nothing of a row that weighs 0 is used."),
        "where": (
            OPTION_TEXTS["where"][0],
            "A mask of classes, broadcastable to the arguments' shape: where it is False, there is no such class in "
            "either.",
        ),
        "check": ("bool, default True", "For losses with labels, whether those are checked; logits never are."),
    }


class _Entrywise(Loss):
    """What sums over entries have in common: the names of their arguments are their own."""

    entrywise = True

    def __init__(
        self,
        twin: Callable[..., Any],
        parameters: Mapping[str, Parameter | Choice],
        *,
        operands: tuple[str, ...],
        class_weight: bool = False,
        average: bool = False,
        **traits: Any,
    ) -> None:
        self.operands, self.average = operands, average
        if class_weight:
            self.shared = ("class_weight", *self.shared)
        super().__init__(twin, parameters, **traits)


class EntryLoss(_Entrywise, RowLoss):
    """A sum over the entries of a row, compared with its label or soft labels."""

    texts: ClassVar = {
        "check": (
            OPTION_TEXTS["check"][0],
            "Whether labels out of range are an error; if not, their rows become NaN. With "
            '``"distribution"``, probabilities and soft labels that are negative or do not sum to 1 are an error too.',
        ),
    }


class EntryComparison(_Entrywise, RowComparison):
    """A sum over the entries of a row, compared with the same row of another array."""

    texts: ClassVar = {
        **RowComparison.texts,
        "class_weight": (
            OPTION_TEXTS["class_weight"][0],
            "A weight for each class: part of the loss, but not of the mean's denominator.",
        ),
        "check": (
            OPTION_TEXTS["check"][0],
            'With ``"distribution"``, probabilities that are negative or do not sum to 1 in a row are an error; '
            "otherwise nothing is checked.",
        ),
    }


class PointwiseFunction(Loss):
    """A function of each element."""

    kind = "function"
    operands = ("x",)
    shared = ("where", "n_threads")
    texts: ClassVar = {
        "where": (
            "array_like of bool, optional",
            "A mask of elements, broadcastable to x's shape: where it is False, the result is 0.",
        ),
        "out": RESULT_BUFFER,
    }

    _checked = _arguments.function

    def __call__(self, x: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The function of each element: an array of x's shape and dtype."""
        return self._run(("value",), x, None, options, None if out is None else {"value": out})[0]

    @method
    def vjp(self, x: Any, v: Any, /, *, out: Any = None, **options: Any) -> Any:
        """``v`` times the derivative at ``x``, element by element: what backpropagation hands on.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: of x's shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of x's shape and dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.sigmoid.vjp([0.0], [2.0])
        array([0.5])
        """
        return self._run(("vjp",), x, None, options, None if out is None else {"vjp": out}, v)[0]

    @method
    def jvp(self, x: Any, v: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The derivative at ``x`` along ``v``; for a function of each element, the same as `vjp`.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.sigmoid.jvp([0.0], [2.0])
        array([0.5])
        """
        return self._run(("jvp",), x, None, options, None if out is None else {"jvp": out}, v)[0]


class RowFunction(Loss):
    """A function of each row of logits."""

    kind = "row_function"
    operands = ("x",)
    shared: tuple[str, ...] = ("axis", "where", "n_threads")
    texts: ClassVar[Mapping[str, tuple[str, str]]] = {"out": RESULT_BUFFER}

    _checked = _arguments.row_function

    def __call__(self, x: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The function of each row: an array."""
        return self._run(self.outputs[:1], x, None, options, None if out is None else {self.outputs[0]: out})[0]

    @method(needs="vjp")
    def vjp(self, x: Any, v: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The transposed Jacobian at ``x`` times ``v``: what backpropagation hands on.

        Parameters
        ----------
        x : array_like
            Where the derivative is taken.
        v : array_like
            Of the result's shape.
        out : ndarray, optional
            Where it goes: of x's shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of x's shape and dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.softmax.vjp([0.0, 0.0], [4.0, 0.0])
        array([ 1., -1.])
        """
        return self._run(("vjp",), x, None, options, None if out is None else {"vjp": out}, v)[0]

    @method
    def jvp(self, x: Any, v: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The Jacobian at ``x`` times ``v``: the derivative along that direction.

        Parameters
        ----------
        x : array_like
            Where the derivative is taken.
        v : array_like
            The direction, of x's shape.
        out : ndarray, optional
            Where it goes: of the result's shape, of any floating dtype.

        Returns
        -------
        ndarray

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.log_softmax.jvp([0.0, 0.0], [4.0, 0.0])
        array([ 2., -2.])
        """
        wanted = "jvp" if "jvp" in self.outputs else "row_jvp"
        return self._run((wanted,), x, None, options, None if out is None else {wanted: out}, v)[0]


class Softmax(RowFunction):
    """A function that makes each row of logits a distribution."""

    @method
    def jacobian(self, x: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The Jacobian of each row, ``p_i (delta_ij - p_j)`` divided by the temperature: the two cases of it at once.

        It is symmetric, and each of its rows sums to 0. The diagonal is ``p_i (1 - p_i)``, with 1 - p_i from the other
        classes, so that it keeps its digits where a class is nearly certain. Every entry is within 2 ULP, with the same
        bits on every backend. Products with the Jacobian are ``vjp`` and ``jvp``, which need no array of this size.

        Parameters
        ----------
        x : array_like
            Where the derivative is taken.
        out : ndarray, optional
            Where it goes: of the result's shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of x's dtype and of x's shape without the class axis, followed by (C, C), whatever the class axis is.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.softmax.jacobian([0.0, 0.0], temperature=2.0)
        array([[ 0.125, -0.125],
               [-0.125,  0.125]])
        """
        settled = self._settle(options)
        rows, where, result, n_threads = _arguments.jacobian(x, settled, out)
        backends.load("numpy").jacobian(rows, where, settled["temperature"], n_threads, result)
        return result


class LogSumExp(RowFunction):
    """A function that makes one number of each row, over one axis or several."""

    shared: tuple[str, ...] = ("axis", "b", "keepdims", "where", "n_threads")
    special: ClassVar = {"axis": _arguments.SEVERAL_AXES}
    texts: ClassVar = {
        "axis": ("int, tuple of int or None, default -1", "The axis, or axes, to sum over; None is all of them."),
        "out": RESULT_BUFFER,
    }

    @method(needs="sign")
    def with_sign(self, x: Any, /, *, out: Any = None, **options: Any) -> tuple[Any, Any]:
        """The logarithm of the absolute value of the sum, and the sign of the sum (with ``b``, it may be negative).

        Parameters
        ----------
        out : ndarray, optional
            Where the value goes.

        Returns
        -------
        value, sign : ndarray
            The sign is 1, 0 or -1 (NaN where the value is), of the value's dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> value, sign = lf.logsumexp.with_sign([0.0, 0.0, 0.0], b=[1.0, -3.0, 1.0])
        >>> float(value), float(sign)
        (0.0, -1.0)
        """
        buffers = None if out is None else {"lse": out}
        return self._run(("lse", "sign"), x, None, options, buffers)

    @method(needs="proba")
    def grad(self, x: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The gradient of each row's value: its softmax, weighted by ``b``.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: of x's shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of x's shape and dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.logsumexp.grad([0.0, 0.0])
        array([0.5, 0.5])
        """
        return self._run(("proba",), x, None, options, None if out is None else {"proba": out})[0]


class EntryFunction(_Entrywise, LogSumExp):
    """A sum over the entries of a row, of one array alone."""

    shared = ("axis", "keepdims", "where", "n_threads")

    @method(needs="vjp")
    def grad(self, x: Any, /, *, out: Any = None, **options: Any) -> Any:
        """The gradient of each row's value.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: of the argument's shape, of any floating dtype.

        Returns
        -------
        ndarray
            Of the argument's shape and dtype.

        Examples
        --------
        >>> import lossfast as lf
        >>> lf.entropy.grad([0.5, 0.5], base=2)
        array([-0.44269504, -0.44269504])
        """
        return self._run(("grad",), x, None, options, None if out is None else {"grad": out})[0]


@functools.cache
def _evaluation(names: tuple[str, ...], title: str = "Evaluation", doc: str = "What was wanted.") -> Any:
    """The class of `Loss.evaluate`'s results with these names, or of another named tuple."""
    base = namedtuple(title, names)  # type: ignore[misc]
    others = () if title == "Evaluation" else (title, doc)  # as it was asked for, or the class would be another one
    reduce = {
        "__slots__": (),
        "__doc__": doc,
        "__reduce__": lambda self: (_evaluated, (names, tuple(self), *others)),
    }
    return type(title, (base,), reduce)


def _evaluated(names: tuple[str, ...], values: tuple[Any, ...], *others: str) -> Any:
    return _evaluation(names, *others)(*values)


# ----------------------------------------------------------------------------------------------------- registry

REGISTRY: dict[str, Any] = {}
#: Other names of losses, which `get_loss` and the package know too.
ALIASES: dict[str, Any] = {}
Decorator = Callable[[Callable[..., Any]], Any]


def losses() -> tuple[str, ...]:
    """The names of all losses and functions, in alphabetical order.

    Examples
    --------
    >>> import lossfast as lf
    >>> "huber_loss" in lf.losses()
    True
    """
    return tuple(sorted(REGISTRY))


def looped() -> dict[str, Any]:
    """What goes through the backends' loops and has calls of the common forms, by name.

    All but the losses between embeddings and those with derivatives in two arguments.
    """
    return {name: loss for name, loss in REGISTRY.items() if not loss.differentiable}


def get_loss(name: str) -> Any:
    """The loss or function of that name.

    Raises
    ------
    ValueError
        There is none; the message lists those there are.

    Examples
    --------
    >>> import lossfast as lf
    >>> lf.get_loss("huber_loss")
    lossfast.huber_loss
    """
    try:
        return REGISTRY[name] if name in REGISTRY else ALIASES[name]
    except (KeyError, TypeError):
        raise ValueError(f"there is no loss {name!r}; there are {', '.join(losses())}") from None


def inside(loss: Loss, name: str, numbers: Any) -> np.ndarray:
    """Numbers for the argument of that name: those in its domain, and NaN, stay; the others are brought to it."""
    a, domain = np.asarray(numbers), loss.domains.get(name)
    if domain is None:
        return a
    with np.errstate(invalid="ignore"):
        return np.where(ELEMENTS[domain](a) | (a != a), a, _BROUGHT[domain](a).astype(a.dtype))


def _restore(name: str, fixed: dict[str, Any]) -> Any:
    return get_loss(name).bind(**fixed)


def _declare(kind: type, parameters: Mapping[str, Parameter | Choice] | None, **traits: Any) -> Decorator:
    def declare(twin: Callable[..., Any]) -> Any:
        loss = REGISTRY[twin.__name__] = kind(twin, parameters or {}, **traits)
        return loss

    return declare


def pointwise_loss(
    *,
    parameters: Mapping[str, Parameter | Choice] | None = None,
    extra: str | None = None,
    ulp: Any,
    hess: bool = True,
    group: str = "regression",
    domains: Mapping[str, str] | None = None,
    terms: Callable[..., Any] | None = None,
    operands: tuple[str, str, str] | None = None,
    differentiable: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> Decorator:
    """Make the decorated Python twin ``f(x, t, q, *parameters) -> (value, grad, hess)`` a public pointwise loss.

    ``extra`` names the element-wise parameter handed over as ``q``; ``hess=False`` says that there is no Hessian;
    ``group`` is the documentation's, one of `GROUPS`; ``domains`` has a key of `ELEMENTS` for each argument
    (``"pred"``, ``"target"`` or the extra) whose elements are to be checked; ``terms``, given what the twin is, gives
    the sums of the sizes of the terms that value, gradient and Hessian are differences of, 0 where nothing cancels;
    ``aliases`` are other names of the object.

    A loss with derivatives in two arguments names its three ``operands``, handed over as ``x``, ``t`` and ``q``, and
    the two that are ``differentiable``; the first is one of them. Its twin gives ``(value, grad, hess, grad, hess)``,
    and so do its terms.
    """
    outputs = ("grad", "hess", "hvp") if hess else ("grad",)
    traits = {"ulp": ulp, "extra": extra, "outputs": outputs, "group": group, "domains": domains}
    kind: type = PointwiseLoss
    if operands is not None:
        kind, traits = PointwiseLossOfTwo, {**traits, "operands": operands, "differentiable": differentiable}
        traits["outputs"] = ("grad", "hess")
    declare = _declare(kind, parameters, terms=terms, **traits)

    def declare_all(twin: Callable[..., Any]) -> Any:
        loss = declare(twin)
        ALIASES.update(dict.fromkeys(aliases, loss))
        return loss

    return declare_all


def pointwise_function(
    *,
    parameters: Mapping[str, Parameter | Choice] | None = None,
    ulp: Any,
    group: str = "classification",
    takes: tuple[str, ...] = (),
) -> Decorator:
    """Make the decorated twin (of a loss's signature; ``t`` and ``q`` unused) a function of one argument."""
    return _declare(PointwiseFunction, parameters, ulp=ulp, outputs=("vjp", "jvp"), group=group, takes=takes)


def row_loss(
    *,
    parameters: Mapping[str, Parameter | Choice] | None = None,
    ulp: Any,
    soft: bool = True,
    outputs: tuple[str, ...] = (),
    of: str = "classes",
) -> Decorator:
    """Make the decorated twin a public loss over a class axis.

    ``parameters`` are its own and those of `ROW_PARAMETERS` that it takes; weights, masks, ``ignore_index``, ``axis``
    and ``check`` every row loss has. ``soft`` says whether soft labels are accepted. ``outputs`` are the names a job
    for it may ask for besides ``loss`` and ``grad``. ``of`` is what its twin is a function of: the state of every class
    (``"classes"``), the true class's alone (``"truth"``), or margins to the others (``"violations"``); see `rowwise`.
    """
    return _declare(RowLoss, parameters, ulp=ulp, soft=soft, outputs=("grad", *outputs), of=of)


def row_comparison(
    *, parameters: Mapping[str, Parameter] | None = None, ulp: Any, outputs: tuple[str, ...] = ()
) -> Decorator:
    """Make the decorated twin a public loss between two arrays of logits, `row_loss` in all else."""
    return _declare(RowComparison, parameters, ulp=ulp, outputs=("grad", *outputs))


def entry_loss(
    *,
    operands: tuple[str, str],
    takes: tuple[str, str],
    parameters: Mapping[str, Parameter | Choice] | None = None,
    ulp: Any,
    labelled: bool = False,
    outputs: tuple[str, ...] = ("hess", "hvp", "grad_target"),
    **traits: Any,
) -> Decorator:
    """Make the decorated twin ``f(x, t, *parameters) -> (value, grad, hess, grad_target)`` of one entry a public loss.

    It is the sum of the values over the class axis. ``operands`` are its arguments' names and ``takes`` what they hold;
    ``labelled`` says that targets are labels or soft labels, otherwise they are entries like the first argument's.
    ``class_weight`` says that one is taken where there are no labels, ``average`` that the sum is divided by the number
    of classes; ``of="pairs"`` that the twin compares a row's entries with each other, and is given whole rows, in which
    a masked entry is -inf; ``group`` is the documentation's; ``terms``, given what the twin is, gives the sizes of the
    terms that its results are differences of, 0 where nothing cancels. Those of the sum itself need not be said.
    """
    traits.update({"operands": operands, "takes": takes, "ulp": ulp, "outputs": ("grad", *outputs), "soft": labelled})
    return _declare(EntryLoss if labelled else EntryComparison, parameters, **traits)


def entry_function(
    *, takes: str, operand: str, parameters: Mapping[str, Parameter | Choice] | None = None, ulp: Any, **traits: Any
) -> Decorator:
    """Make the decorated twin, one of `entry_loss` without a target, a public function over a class axis."""

    def declare(twin: Callable[..., Any]) -> Any:
        outputs = (twin.__name__, "vjp", "row_jvp", "grad")
        of = {"operands": (operand,), "takes": (takes,), "outputs": outputs, **traits}
        return _declare(EntryFunction, parameters, ulp=ulp, **of)(twin)

    return declare


def row_function(*, parameters: Mapping[str, Parameter] | None = None, ulp: Any, outputs: tuple[str, ...]) -> Decorator:
    """Make the decorated twin a function over a class axis; the first of ``outputs`` is its result.

    ``softmax``: ``("proba", "vjp", "jvp")``; ``log_softmax``: ``("log_proba", "vjp", "jvp")``; ``logsumexp``:
    ``("lse", "sign", "proba", "vjp", "row_jvp")``.
    """
    kinds = {"proba": Softmax, "lse": LogSumExp}
    return _declare(kinds.get(outputs[0], RowFunction), parameters, ulp=ulp, outputs=outputs)
