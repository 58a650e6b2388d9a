"""The command ``lossfast``: losses of files of any size, and what this installation is and can do."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import lossfast as lf

from ._reduction import Reduction

if TYPE_CHECKING:  # imported when a command needs it: --help imports nothing but the package itself
    from .io import NpyWriter, Table

OK, FAILED, BAD_USAGE, INTERRUPTED, TERMINATED, BROKEN_PIPE = 0, 1, 2, 130, 143, 141

#: Bytes of logits in a chunk, unless --chunk-rows says otherwise.
CHUNK_BYTES = 1 << 24

KINDS = {
    "rowwise": "loss over a class axis",
    "row_function": "function over a class axis",
    "pointwise": "pointwise loss",
    "pointwise_of_two": "pointwise loss with two gradients (not for files)",
    "function": "pointwise function",
    "embedding": "loss between embeddings",
}

EVAL_EXAMPLES = """\
files:
  x.npy  x.npz:array  x.csv  x.csv:column  x.csv:0-9  -  (standard input, a .npy)
  x.safetensors:tensor  x.parquet:column  x.arrow:column  (pip install 'lossfast[io]')
  Rows run along the first axis. A column may hold numbers, or lists of one length; several columns stand side by side.

examples:
  lossfast eval cross_entropy logits.npy labels.npy
  lossfast eval cross_entropy run.npz:logits run.npz:labels --label-smoothing 0.1 --out losses.npy
  lossfast eval huber_loss table.csv:predicted table.csv:measured --delta 0.5 --sample-weight weights.npy
  lossfast eval binary_cross_entropy_with_logits scores.parquet:score scores.parquet:hit --fail-above 0.3
  cat logits.npy | lossfast eval cross_entropy - labels.npy --grad-out gradient.npy

The result is one JSON object on standard output. Numbers that JSON has no word for are the strings "NaN", "Infinity"
and "-Infinity"; null is the value where --reduction none leaves none.
Exit codes: 0 all is well, 1 the value is above --fail-above (or NaN), 2 wrong usage or input.
"""


#: What --check may be, as the losses take it.
CHECKS = {"true": True, "false": False, "distribution": "distribution"}

#: What `lossfast eval` takes that is not an option of the loss.
HOW = frozenset(
    ("run", "loss", "logits", "targets", "out", "grad_out", "fail_above", "dtype", "threads", "backend", "isa")
    + ("chunk_rows", "csv_header", "no_progress")
)


class CommandError(Exception):
    """What the user has to put right; printed as one line."""


class Parser(argparse.ArgumentParser):
    """argparse, but saying what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} ({self.prog} --help says more)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = lambda message, *_: print(f"lossfast: warning: {message}", file=sys.stderr)
        try:
            args = _parser().parse_args(argv)
            code: int = args.run(args)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # whoever read our output has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except KeyboardInterrupt:
            print("lossfast: interrupted", file=sys.stderr)
            return INTERRUPTED
        except (CommandError, ValueError, TypeError, IndexError, ImportError, OSError, MemoryError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            print(f"lossfast: error: {text}", file=sys.stderr)
            return BAD_USAGE


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """A request to terminate unwinds as an exit does, so that no half-written file stays behind."""

    def leave(*_: Any) -> NoReturn:
        raise SystemExit(TERMINATED)

    try:
        old = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread: signals are someone else's affair
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


# --------------------------------------------------------------------------------------------------- arguments


def _parser() -> Parser:
    parser = Parser(
        prog="lossfast",
        description="Loss functions on the CPU: fast, accurate, safe.",
        epilog="lossfast COMMAND --help says more. Example: lossfast eval cross_entropy logits.npy labels.npy",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lossfast {lf.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str, **more: Any) -> Parser:
        sub: Parser = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )
        sub.set_defaults(run=run)
        return sub

    _eval_arguments(command("eval", run_eval, "a loss of logits and targets in files", epilog=EVAL_EXAMPLES))
    ls = command("ls", run_ls, "the losses and functions, their parameters and error bounds")
    info = command("info", run_info, "backends, instruction sets, threads and versions")
    for sub in (ls, info):
        sub.add_argument("--json", action="store_true", help="as JSON")
    check = command(
        "check", run_check, "measure the accuracy of every loss on this machine, and compare it with the bound"
    )
    check.add_argument("--backend", choices=lf.backends.NAMES, help="this one only (default: all there are)")
    check.add_argument("--json", action="store_true", help="as JSON")
    demo = command("demo", run_demo, "two costs on scikit-learn's handwritten digits: train, evaluate, compare, draw")
    demo.add_argument("--output-dir", default="demo-output", metavar="DIR", help="default: %(default)s")
    demo.add_argument("--json", action="store_true", help="the results as JSON instead of tables")
    return parser


def _eval_arguments(parser: Parser) -> None:
    names = [name for name in lf.losses() if lf.get_loss(name).kind in ("pointwise", "rowwise")]
    parser.add_argument("loss", metavar="LOSS", choices=names, help="one of " + ", ".join(names))
    parser.add_argument("logits", metavar="LOGITS", help="logits, or predictions")
    parser.add_argument(
        "targets", metavar="TARGETS", help="integer labels, soft labels, other logits, or what was to be predicted"
    )

    group = parser.add_argument_group(
        "options of the loss (one that is not given keeps its default, see `lossfast ls`)"
    )
    option = functools.partial(group.add_argument, default=argparse.SUPPRESS)
    for name, (reader, said) in _parameters(names).items():
        option(_flag(name), type=reader, metavar="X", help=said)
    for name in sorted({extra for loss in names if (extra := lf.get_loss(loss).extra)}):
        option(_flag(name), type=_numbers, metavar="W", help="a number, numbers with commas, or a file")
    option("--reduction", choices=("mean", "sum", "none", "batchmean"))
    option("--empty", choices=("nan", "zero", "raise"), help="the mean of nothing")
    option("--denominator", type=float, metavar="X", help="what the mean divides by instead of the weights")
    option("--axis", type=int, metavar="N", help="the class axis; not the first")
    option("--ignore-index", type=_integer_or_none, metavar="N", help="a label to pass over, or none")
    option("--class-weight", type=_numbers, metavar="W", help="numbers with commas, or a file")
    option("--sample-weight", metavar="FILE", help="one weight a row (or element)")
    option("--where", metavar="FILE", help="a mask: of the logits' shape, or of one row's")
    option(
        "--check",
        choices=tuple(CHECKS),
        help="whether labels are checked, or soft labels checked to be distributions too",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--out", metavar="FILE.npy", help="write every row's (element's) loss")
    how.add_argument("--grad-out", metavar="FILE.npy", help="write the gradient of the value")
    how.add_argument("--fail-above", type=float, metavar="X", help="exit with 1 unless the value is at most X")
    how.add_argument("--dtype", choices=("float64", "float32", "float16"), help="convert the logits first")
    how.add_argument("--threads", type=int, metavar="N")
    how.add_argument("--backend", choices=lf.backends.NAMES)
    how.add_argument("--isa", metavar="NAME", help="instruction set: one of those that `lossfast info` shows")
    how.add_argument(
        "--chunk-rows", type=int, metavar="N", help=f"rows read at a time (default: {CHUNK_BYTES >> 20} MiB)"
    )
    how.add_argument("--csv-header", action=argparse.BooleanOptionalAction, help="whether a .csv begins with names")
    how.add_argument("--no-progress", action="store_true", help="no progress bar, even on a terminal")


def _parameters(names: Sequence[str]) -> dict[str, tuple[Callable[[str], Any], str]]:
    """The parameters of these losses: what reads one, and what is said of it."""
    found: dict[str, dict[str, list[str]]] = {}
    readers: dict[str, Callable[[str], Any]] = {}
    for loss in names:
        for name, parameter in lf.get_loss(loss).parameters.items():
            found.setdefault(name, {}).setdefault(parameter.domain, []).append(loss)
            reader = float if isinstance(parameter.default, float) else _word
            readers[name] = reader if readers.get(name, reader) is reader else _word
    return {
        name: (readers[name], "; ".join(f"{domain}: {', '.join(of)}" for domain, of in domains.items()))
        for name, domains in found.items()
    }


def _word(text: str) -> Any:
    """A number, true, false or none, or a name."""
    known = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _integer_or_none(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


# -------------------------------------------------------------------------------------------------------- eval


def run_eval(args: argparse.Namespace) -> int:
    """``lossfast eval``."""
    if args.backend:
        lf.use_backend(args.backend)
    if args.isa:
        lf.use_isa(args.isa)
    if args.threads is not None:
        lf.set_num_threads(args.threads)
    started = time.perf_counter()
    evaluation = _Evaluation(args)
    value, total = evaluation.run()
    seconds = time.perf_counter() - started
    backend = lf.get_backend()
    report = {
        "loss": args.loss,
        "value": value,
        "reduction": evaluation.reduction,
        "n": evaluation.count,
        "counted": total.count,
        "sum": total.sum,
        "weight_sum": total.weight,
        "nan_rows": evaluation.nan_rows,
        "inf_rows": evaluation.inf_rows,
        "dtype": str(evaluation.dtype.newbyteorder("=")),
        "backend": backend,
        "isa": lf.get_isa() if backend == "compiled" else None,
        "threads": lf.get_num_threads(),
        "seconds": seconds,
        "rows_per_second": evaluation.count / seconds,
        "version": lf.__version__,
        "inputs": {
            role: {"file": table.name, "shape": list(table.shape), "dtype": str(table.dtype)}
            for role, table in evaluation.tables.items()
        },
    }
    print(to_json(report))
    return FAILED if args.fail_above is not None and not value <= args.fail_above else OK


class _Evaluation:
    """The files, the loss with its options, and one pass over them (two where a gradient needs the denominator)."""

    def __init__(self, args: argparse.Namespace) -> None:
        from . import io

        self.args = args
        loss = lf.get_loss(args.loss)
        self.rowwise, self.labelled = loss.kind == "rowwise", loss.labelled
        self.loss = loss.bind(**self._options(loss))
        self.reduction = getattr(args, "reduction", "mean")
        if self.reduction == "none" and not (args.out or args.grad_out):
            raise CommandError("--reduction none has no value to print: it needs --out or --grad-out")
        if self.reduction == "none" and args.fail_above is not None:
            raise CommandError("--fail-above needs a value, which --reduction none does not give")
        roles = ("logits", "targets", "sample_weight", "where")
        files = {role: getattr(args, role) for role in roles if hasattr(args, role)}
        if list(files.values()).count("-") > 1:
            raise CommandError("standard input can be only one of the files")
        self.two_passes = bool(args.grad_out) and self.reduction == "mean" and not hasattr(args, "denominator")
        self.tables: dict[str, Table] = {
            role: io.open(
                file,
                header=args.csv_header,
                integer=self.labelled and role == "targets",
                again=self.two_passes and role != "logits",
            )
            for role, file in files.items()
        }
        self._check_shapes()
        self._check_outputs()
        logits = self.tables["logits"]
        self.dtype = np.dtype(args.dtype) if args.dtype else logits.dtype
        self.rows = max(1, CHUNK_BYTES // io.row_bytes(logits)) if args.chunk_rows is None else args.chunk_rows
        if self.rows < 1:
            raise CommandError(f"--chunk-rows must be at least 1, got {self.rows}")
        mask = self.tables.get("where")
        self.mask = None  # a mask of one row's shape serves all rows; one of the logits' shape is read along with them
        if mask is not None and len(mask.shape) < len(logits.shape):
            self.mask = mask.array() != 0
        self.nan_rows = self.inf_rows = 0

    def _options(self, loss: Any) -> dict[str, Any]:
        """The options given, as the loss takes them; what is read along with the logits is left out."""
        given = {name: value for name, value in vars(self.args).items() if name not in HOW}
        takes = loss.__signature__.parameters
        for name in given:
            if name not in takes:
                raise CommandError(f"{loss.name} has no option {_flag(name)}")
        if "check" in given:
            given["check"] = CHECKS[given["check"]]
        return {name: value for name, value in given.items() if name not in ("sample_weight", "where")}

    def _check_shapes(self) -> None:
        logits = self.tables["logits"]
        shape = logits.shape
        self.result_shape = shape
        self.axis = -1
        if self.rowwise:
            self.axis = getattr(self.args, "axis", -1)
            if len(shape) < 2:
                raise CommandError(f"{logits.name}: logits of shape {shape} are no rows of classes")
            if not -len(shape) <= self.axis < len(shape):
                raise CommandError(f"--axis {self.axis} is out of range for logits of shape {shape}")
            if self.axis % len(shape) == 0:
                raise CommandError("--axis must not be the first: rows are read along it (save the logits transposed)")
            axis = self.axis % len(shape)
            self.result_shape = shape[:axis] + shape[axis + 1 :]
        self.count = math.prod(self.result_shape)
        for role, table in self.tables.items():
            along = role != "where" or len(table.shape) == len(shape)
            if along and table.shape[0] != shape[0]:
                raise CommandError(f"{table.name} has {table.shape[0]} rows, but {logits.name} has {shape[0]}")

    def _check_outputs(self) -> None:
        written = [os.path.realpath(path) for path in (self.args.out, self.args.grad_out) if path]
        names = [table.name for table in self.tables.values()]
        read = {os.path.realpath(name if os.path.exists(name) else name.rpartition(":")[0]) for name in names}
        if len(set(written)) < len(written):
            raise CommandError("--out and --grad-out are the same file")
        for path in written:
            if path in read:
                raise CommandError(f"{path} would be written over while it is read")

    def run(self) -> tuple[float | None, Reduction]:
        """The value (None without a reduction), and the sums."""
        from .io import NpyWriter

        args = self.args
        total: Reduction | None = None
        with contextlib.ExitStack() as stack:

            def writer(path: str | None, shape: tuple[int, ...], dtype: Any) -> NpyWriter | None:
                return stack.enter_context(NpyWriter(path, shape, dtype)) if path else None

            # A chunk of no rows tells the dtypes of the results, and whether the options fit the files.
            none = self._results_of_nothing()
            losses = writer(args.out, self.result_shape, none[0].dtype)
            gradient = writer(args.grad_out, self.tables["logits"].shape, none[1].dtype)
            scaled = self._scaled(self._weight() if self.two_passes else None)
            bar = stack.enter_context(progress(self.tables["logits"].shape[0], args.no_progress))
            for start, chunk in self._chunks("logits", "targets", "sample_weight", "where"):
                logits, targets = chunk.pop("logits"), chunk.pop("targets")
                with self._rows_counted(start):
                    part = self.loss.reduce(logits, targets, **chunk)
                total = part if total is None else total + part
                odd = not math.isfinite(part.sum)
                if losses is not None or odd:
                    each = self.loss(logits, targets, reduction="none", denominator=None, **chunk)
                    if odd:
                        self.nan_rows += int(np.isnan(each).sum())
                        self.inf_rows += int(np.isinf(each).sum())
                    if losses is not None:
                        losses.write(each)
                if gradient is not None:
                    gradient.write(self.loss.grad(logits, targets, **scaled, **chunk))
                bar(len(logits))
            assert total is not None  # even an empty file is one chunk
            value = self._value(total)  # may find that the mean of nothing is an error: no file is moved in place then
        return value, total

    def _value(self, total: Reduction) -> float | None:
        if self.reduction == "none":
            return None
        if self.reduction == "sum":
            return total.sum
        if self.reduction == "batchmean":
            total = dataclasses.replace(total, denominator=float(self._batch()))
        return total.mean

    def _batch(self) -> int:
        return self.count if self.rowwise else self.result_shape[0]

    def _scaled(self, weight: float | None) -> dict[str, Any]:
        """The reduction under which a chunk's gradient is that of the whole file's value."""
        if self.reduction in ("sum", "none"):
            return {"reduction": self.reduction, "denominator": None}
        if self.reduction == "batchmean":
            return {"reduction": "mean", "denominator": float(self._batch())}
        return {"reduction": "mean"} if weight is None else {"reduction": "mean", "denominator": weight}

    def _chunks(self, *roles: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The first row's number and the arrays of each chunk, by role; a mask of one row's shape goes with all."""
        fixed = {} if self.mask is None else {"where": self.mask}
        streams = {
            role: table.chunks(self.rows) for role, table in self.tables.items() if role in roles and role not in fixed
        }
        start = 0
        for arrays in zip(*streams.values(), strict=True):
            chunk = dict(zip(streams, arrays, strict=True))
            if "logits" in chunk:
                chunk["logits"] = chunk["logits"].astype(self.dtype, copy=False)
            if "where" in chunk:
                chunk["where"] = chunk["where"] != 0
            yield start, chunk | fixed
            start += len(arrays[0])

    def _weight(self) -> float:
        """What the mean divides by, from everything but the logits."""
        rest = self.tables["logits"].shape[1:]
        total: Reduction | None = None
        for start, chunk in self._chunks("targets", "sample_weight", "where"):
            targets = chunk.pop("targets")
            logits = np.broadcast_to(np.zeros((), self.dtype), (len(targets), *rest))  # not looked at
            with self._rows_counted(start):
                part = self.loss.weigh(logits, targets, **chunk)
            total = part if total is None else total + part
        assert total is not None  # even an empty file is one chunk
        return total.weight

    @contextlib.contextmanager
    def _rows_counted(self, start: int) -> Iterator[None]:
        """A label out of range is reported with its row in the file, and how many there are in all of it."""
        try:
            yield
        except IndexError as error:
            from .io import FileError

            try:
                raise CommandError(self._bad_labels()) from error
            except FileError:  # standard input cannot be read again
                raise CommandError(f"counting rows from {start}: {error}") from error

    def _bad_labels(self) -> str:
        table, axis = self.tables["targets"], self.axis
        classes = self.tables["logits"].shape[axis]
        ignored = self.loss.__signature__.parameters["ignore_index"].default
        start = count = 0
        message = ""
        for labels in table.chunks(self.rows):
            bad = (labels < 0) | (labels >= classes)
            if ignored is not None:
                bad &= labels != ignored
            if not count and bad.any():
                first = np.unravel_index(int(bad.argmax()), bad.shape)
                row = (start + int(first[0]), *map(int, first[1:]))
                place = row[0] if len(row) == 1 else row
                message = f"{table.name}: target {labels[first]} at row {place} is out of bounds for {classes} classes"
            start += len(labels)
            count += int(bad.sum())
        return f"{message} ({count} such {'row' if count == 1 else 'rows'})"

    def _results_of_nothing(self) -> tuple[np.ndarray, np.ndarray]:
        shape = self.tables["logits"].shape
        logits = np.empty((0, *shape[1:]), self.dtype)
        targets = np.empty((0, *self.tables["targets"].shape[1:]), self.tables["targets"].dtype)
        along = {} if self.mask is None else {"where": self.mask}
        losses, gradient = self.loss.value_and_grad(logits, targets, reduction="none", denominator=None, **along)
        return losses, gradient


def _numbers(text: str) -> Any:
    """A number, an array of the numbers between commas, or the array in a file."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        from .io import FileError, open

        try:
            return open(text).array()
        except FileError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return np.array(numbers) if len(numbers) > 1 else numbers[0]


@contextlib.contextmanager
def progress(total: int, off: bool = False) -> Iterator[Callable[[int], None]]:
    """A function to be told of every few rows done; on a terminal, a bar on standard error."""
    if off or not sys.stderr.isatty():
        yield lambda rows: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        done, shown = 0, 0.0

        def update(rows: int) -> None:
            nonlocal done, shown
            done += rows
            now = time.monotonic()
            if now - shown > 0.1 or done == total:
                shown = now
                share = done / total if total else 1.0
                print(
                    f"\r{share:4.0%} [{'#' * int(40 * share):<40}] {done:,} rows", end="", file=sys.stderr, flush=True
                )

        try:
            yield update
        finally:
            print("\r" + " " * 79 + "\r", end="", file=sys.stderr, flush=True)
    else:
        with tqdm(total=total, unit="row", unit_scale=True, leave=False, file=sys.stderr) as bar:
            yield bar.update


def to_json(value: Any, indent: int = 0) -> str:
    """JSON with 17 significant digits, so that a double is read back exactly; what JSON has no word for is a string."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        items = [f"{pad}  {json.dumps(key)}: {to_json(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{pad}}}"
    if isinstance(value, (list, tuple)):
        texts = [to_json(item, indent + 1) for item in value]
        if not any(isinstance(item, dict) for item in value):
            return f"[{', '.join(texts)}]"
        return "[\n" + ",\n".join(f"{pad}  {text}" for text in texts) + f"\n{pad}]"
    if not isinstance(value, float):
        return json.dumps(value)
    if not math.isfinite(value):
        return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'
    digits = f"{value:.17g}"
    return digits if set(digits) & set(".e") else digits + ".0"


# --------------------------------------------------------------------------------------------------- ls and info


def run_ls(args: argparse.Namespace) -> int:
    """``lossfast ls``."""
    entries = []
    for name in lf.losses():
        loss = lf.get_loss(name)
        entries.append(
            {
                "name": name,
                "kind": loss.kind,
                "summary": (loss.__doc__ or "").strip().partition("\n")[0],
                "parameters": {
                    key: {"default": parameter.default, "domain": parameter.domain}
                    for key, parameter in loss.parameters.items()
                },
                "options": [
                    key for key, option in loss.__signature__.parameters.items() if option.kind == option.KEYWORD_ONLY
                ],
                "outputs": list(loss.outputs),
                "ulp": loss.ulp,
            }
        )
    if args.json:
        print(to_json({"losses": entries}))
        return OK
    for kind, title in KINDS.items():
        group = [entry for entry in entries if entry["kind"] == kind]
        print(f"{title} (worst error in ULP)")
        for entry in group:
            print(f"  {entry['name']:<34} {entry['ulp']:>3}  {entry['summary']}")
            for key, parameter in entry["parameters"].items():
                print(f"      {_flag(key)} {parameter['default']} ({parameter['domain']})")
    return OK


def run_info(args: argparse.Namespace) -> int:
    """``lossfast info``."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    backend = lf.get_backend()
    there: dict[str, Any] = {}
    for name in lf.backends.NAMES:
        try:
            lf.backends.load(name)
            there[name] = "available"
        except ImportError as error:
            there[name] = str(error)
    optional = ("numba", "scikit-learn", "pyarrow", "tqdm", "matplotlib", "dask", "ml_dtypes", "threadpoolctl")
    facts = {
        "version": lf.__version__,
        "backend": backend,
        "backends": there,
        "isa": lf.get_isa() if there["compiled"] == "available" else None,
        "isas": list(lf.isas()) if there["compiled"] == "available" else [],
        "threads": lf.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "optional": {package: installed(package) for package in optional},
    }
    if args.json:
        print(to_json(facts))
        return OK
    for key, value in facts.items():
        if isinstance(value, dict):
            for name, text in value.items():
                print(f"{key + ' ' + name:<24} {text or 'not installed'}")
        else:
            print(f"{key:<24} {', '.join(value) if isinstance(value, list) else value}")
    return OK


# ------------------------------------------------------------------------------------------------ check and demo


def run_check(args: argparse.Namespace) -> int:
    """``lossfast check``."""
    from .selftest import check

    return check(backends=[args.backend] if args.backend else None, as_json=args.json)


def run_demo(args: argparse.Namespace) -> int:
    """``lossfast demo``."""
    from .demo import demo

    return demo(args.output_dir, as_json=args.json)
