"""Files of numbers, read and written a chunk of rows at a time, so that their size does not matter.

`open` takes what the command line takes: a path, with the array's or column's name after a colon where the format holds
several. It checks the header against the file's size before anything is allocated, and never unpickles anything.

=========================  ==============================================================================
``x.npy``                  versions 1 to 3, C or Fortran order, either byte order
``-``                      the same from standard input
``x.npz:key``              stored or deflated
``x.csv``, ``x.csv:a,b``   numbers with commas between them, with or without a line of names
``x.safetensors:tensor``   bfloat16 comes as float32, which is exact
``x.parquet:column``       numbers, or lists of one length; several columns side by side: ``:a,b`` (needs pyarrow)
``x.arrow:column``         the same, from an IPC file or stream
=========================  ==============================================================================
"""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

__all__ = ["FileError", "NpyWriter", "Table", "open"]

#: No line of a .csv may be longer, so that a file without line ends is refused rather than read whole.
LINE_BYTES = 1 << 26
#: No header of a .npy may be longer, and none of a .safetensors.
HEADER_BYTES = {"npy": 1 << 16, "safetensors": 100_000_000}

Opener = Callable[[], contextlib.AbstractContextManager[BinaryIO]]


class FileError(ValueError):
    """A file that cannot be read or written as asked; the message is one line and names the file."""


@dataclass(frozen=True)
class Table:
    """An array in a file, to be read in chunks of rows (its first axis).

    Attributes
    ----------
    name : str
        The file as the caller wrote it.
    shape : tuple of int
    dtype : numpy.dtype
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int], Iterator[np.ndarray]]

    def chunks(self, rows: int) -> Iterator[np.ndarray]:
        """Consecutive arrays of ``rows`` rows, the last with what remains; one empty array if there are no rows.

        An array's memory may be used again for the next one. Each call starts from the beginning.

        Raises
        ------
        FileError
            The file ends too soon, or holds what is not a number.
        """
        seen = 0
        with _one_line(self.name):
            if self.shape[0] == 0:
                yield np.empty(self.shape, self.dtype)
                return
            for chunk in self.read(rows):
                seen += len(chunk)
                yield chunk
            if seen != self.shape[0]:
                raise FileError(f"{self.name}: ends after {seen} of {self.shape[0]} rows")

    def array(self) -> np.ndarray:
        """All of it, in memory."""
        whole = np.empty(self.shape, self.dtype)
        done = 0
        for chunk in self.chunks(max(1, (1 << 24) // row_bytes(self))):
            whole[done : done + len(chunk)] = chunk
            done += len(chunk)
        return whole


def row_bytes(table: Table) -> int:
    """The size of one row, at least 1."""
    return max(1, math.prod(table.shape[1:]) * table.dtype.itemsize)


def open(
    spec: str | os.PathLike[str], *, header: bool | None = None, integer: bool = False, again: bool = False
) -> Table:
    """Open an array in a file for reading in chunks.

    Parameters
    ----------
    spec : str or path
        The file, in one of the forms of this module's table.
    header : bool, optional
        Whether the first line of a .csv has names. By default it has if any of its fields is not a number.
    integer : bool, default False
        Read a single column of a .csv as integers (labels) rather than floats.
    again : bool, default False
        Whether standard input is to be read more than once; it is then kept in a temporary file.

    Returns
    -------
    Table

    Raises
    ------
    FileError
        The file cannot be read, is of no known kind, is truncated, or has no such array or column.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from lossfast import io
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npz")
    >>> np.savez(path, logits=np.zeros((5, 3), "f4"))
    >>> table = io.open(path + ":logits")
    >>> table.shape, table.dtype
    ((5, 3), dtype('float32'))
    >>> [len(chunk) for chunk in table.chunks(2)]
    [2, 2, 1]
    """
    name = os.fspath(spec)
    with _one_line(name):
        if name == "-":
            return _npy_stream("standard input", sys.stdin.buffer, again)
        path, kind, key = _split(name)
        if kind == "npy" and key:
            raise FileError(f"{name}: a .npy holds one array, so nothing can follow the colon")
        if kind == "npy":
            return _open_npy(name, path, again)
        if kind == "npz":
            return _open_npz(name, path, key)
        if kind == "safetensors":
            return _open_safetensors(name, path, key)
        if kind == "csv":
            return _open_csv(name, path, key, header, integer)
        return (_open_parquet if kind == "parquet" else _open_arrow)(name, path, key)


_SPEC = re.compile(
    r"(?P<path>.*?\.(?P<kind>npy|npz|csv|safetensors|parquet|arrow|feather))(?::(?P<key>.*))?", re.I | re.S
)


def _split(spec: str) -> tuple[Path, str, str | None]:
    whole = (
        _SPEC.fullmatch(spec) if not os.path.exists(spec) else re.fullmatch(r"(?P<path>.*\.(?P<kind>\w+))", spec, re.S)
    )
    kind = whole["kind"].lower() if whole else ""
    if whole is None or kind not in ("npy", "npz", "csv", "safetensors", "parquet", "arrow", "feather"):
        raise FileError(f"{spec}: not a .npy, .npz, .csv, .safetensors, .parquet or .arrow file (- is standard input)")
    path = Path(whole["path"])
    if path.is_dir():
        raise FileError(f"{path}: is a directory")
    return path, kind, whole.groupdict().get("key") or None


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Whatever goes wrong in a file, as a FileError of one line."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise FileError(f"{error.filename or name}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _need(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise FileError(f"{name}: needs {package} ({error}): pip install 'lossfast[io]'") from None


# ------------------------------------------------------------------------------------------------- raw numbers


@dataclass(frozen=True)
class _Raw:
    """Where an array's bytes are: from ``offset`` on in what ``opener`` opens."""

    name: str
    opener: Opener
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    def read(self, rows: int) -> Iterator[np.ndarray]:
        with self.opener() as file:
            if self.fortran and len(self.shape) > 1:
                yield from self._columns(file, rows)
                return
            if self.offset:
                file.seek(self.offset)
            width = math.prod(self.shape[1:]) * self.dtype.itemsize
            buffer = np.empty(min(rows, self.shape[0]) * width, np.uint8)
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                self._fill(file, buffer[: count * width])
                yield buffer[: count * width].view(self.dtype).reshape(count, *self.shape[1:])

    def _columns(self, file: BinaryIO, rows: int) -> Iterator[np.ndarray]:
        # In Fortran order each position within a row has its column of all rows; a chunk takes a stretch of each.
        n, rest, size = self.shape[0], self.shape[1:], self.dtype.itemsize
        buffer = np.empty((math.prod(rest), min(rows, n) * size), np.uint8)
        for start in range(0, n, rows):
            count = min(rows, n - start)
            for column, stretch in enumerate(buffer):
                file.seek(self.offset + (column * n + start) * size)
                self._fill(file, stretch[: count * size])
            yield buffer[:, : count * size].view(self.dtype).reshape(*rest[::-1], count).T

    def _fill(self, file: Any, buffer: np.ndarray) -> None:
        view = buffer.data
        while len(view):
            count = file.readinto(view)
            if not count:
                raise FileError(f"{self.name}: truncated: it ends before its last row")
            view = view[count:]


def _table(raw: _Raw) -> Table:
    return Table(raw.name, raw.shape, raw.dtype, raw.read)


def _check_size(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], there: int) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if there < needed:
        raise FileError(f"{name}: truncated: {shape} of {dtype} takes {needed} bytes, but {there} are there")


def _exactly(file: Any, size: int, name: str) -> bytes:
    data = b""
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise FileError(f"{name}: truncated: it ends within its header")
        data += more
    return data


def _npy_header(file: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and order; the file is then at its data."""
    start = file.read(6)
    if start != b"\x93NUMPY":
        raise FileError(f"{name}: {'is empty' if not start else 'is not in .npy format'}")
    version = tuple(_exactly(file, 2, name))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FileError(f"{name}: unknown .npy version {version[0]}.{version[1]}")
    length = int.from_bytes(_exactly(file, 2 if version == (1, 0) else 4, name), "little")
    if length > HEADER_BYTES["npy"]:
        raise FileError(f"{name}: its header claims {length} bytes")
    text = _exactly(file, length, name).decode("utf-8" if version == (3, 0) else "latin-1")
    try:
        header = ast.literal_eval(text.strip())
        shape, order, descr = header["shape"], header["fortran_order"], header["descr"]
        dtype = np.dtype(descr)
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and type(order) is bool):
            raise ValueError(f"shape {shape!r}, fortran_order {order!r}")
    except (ValueError, TypeError, SyntaxError, KeyError, MemoryError, RecursionError) as error:
        raise FileError(f"{name}: its header cannot be read ({' '.join(str(error).split())})") from None
    if not shape:
        raise FileError(f"{name}: holds a single number, not rows")
    if dtype.kind not in "fiub":
        raise FileError(f"{name}: holds {dtype}, not plain numbers (objects are never unpickled)")
    return shape, dtype, order


def _open_npy(name: str, path: Path, again: bool) -> Table:
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a named pipe can be neither measured nor opened twice
            return _npy_stream(name, path.open("rb"), again)
        shape, dtype, fortran = _npy_header(file, name)
        offset = file.tell()
        _check_size(name, shape, dtype, os.fstat(file.fileno()).st_size - offset)
    return _table(_Raw(name, lambda: path.open("rb", buffering=0), offset, shape, dtype, fortran))


def _npy_stream(name: str, stream: BinaryIO, again: bool) -> Table:
    shape, dtype, fortran = _npy_header(stream, name)
    if again or fortran and len(shape) > 1:
        return _table(_Raw(name, _spool(name, stream, shape, dtype), 0, shape, dtype, fortran))
    unread = [stream]

    def once() -> contextlib.AbstractContextManager[BinaryIO]:
        if not unread:
            raise FileError(f"{name}: can be read only once")
        return contextlib.nullcontext(unread.pop())

    return _table(_Raw(name, once, 0, shape, dtype))


def _spool(name: str, stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Opener:
    """What remains of the stream as a temporary file: something that can be read in any order, and again."""
    file = tempfile.TemporaryFile()
    shutil.copyfileobj(stream, file, 1 << 20)
    _check_size(name, shape, dtype, file.tell())

    def rewound() -> contextlib.AbstractContextManager[Any]:
        file.seek(0)
        return contextlib.nullcontext(file)

    return rewound


def _open_npz(name: str, path: Path, key: str | None) -> Table:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        member = members[_choose(name, key, list(members), "array")]
        with archive.open(member) as file:
            shape, dtype, fortran = _npy_header(file, name)
            offset = file.tell()
            _check_size(name, shape, dtype, member.file_size - offset)
            if fortran and len(shape) > 1:
                return _table(_Raw(name, _spool(name, file, shape, dtype), 0, shape, dtype, True))

    @contextlib.contextmanager
    def opener() -> Iterator[Any]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file

    return _table(_Raw(name, opener, offset, shape, dtype))


_SAFETENSORS = {
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"{letter}{8 * size}": f"<{kind}{size}" for letter, kind in (("I", "i"), ("U", "u")) for size in (1, 2, 4, 8)},
    "BOOL": "?",
    "BF16": "<u2",
}


def _open_safetensors(name: str, path: Path, key: str | None) -> Table:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(_exactly(file, 8, name), "little")
        if length > min(size - 8, HEADER_BYTES["safetensors"]):
            raise FileError(f"{name}: is truncated, or not in safetensors format (its header claims {length} bytes)")
        try:
            tensors = json.loads(_exactly(file, length, name))
            tensors.pop("__metadata__", None)
            entry = tensors[_choose(name, key, list(tensors), "tensor")]
            kind, shape, (start, stop) = (
                entry["dtype"],
                tuple(map(int, entry["shape"])),
                map(int, entry["data_offsets"]),
            )
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FileError(f"{name}: its header cannot be read ({error})") from None
    if kind not in _SAFETENSORS:
        raise FileError(f"{name}: dtype {kind} is not supported")
    if not shape:
        raise FileError(f"{name}: holds a single number, not rows")
    dtype = np.dtype(_SAFETENSORS[kind])
    if min(shape) < 0 or start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
        raise FileError(f"{name}: its header contradicts itself: {shape} of {kind} between bytes {start} and {stop}")
    _check_size(name, shape, dtype, size - 8 - length - start)
    raw = _Raw(name, lambda: path.open("rb", buffering=0), 8 + length + start, shape, dtype)
    if kind == "BF16":
        return Table(name, shape, np.dtype(np.float32), lambda rows: map(_from_bfloat16, raw.read(rows)))
    return _table(raw)


def _from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _choose(name: str, key: str | None, there: Sequence[str], what: str) -> str:
    if key is None and len(there) == 1:
        return there[0]
    if key in there:
        return str(key)
    said = f"no {what} {key!r}" if key else f"name the {what} after a colon"
    raise FileError(f"{name}: {said}; there are {_listed(there)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"


def _columns(name: str, key: str | None, there: Sequence[str]) -> list[int]:
    """The places of the columns asked for, by names, places or ranges of places (``0-9``); all by default."""
    if key is None:
        return list(range(len(there)))
    if key in there:
        return [there.index(key)]
    chosen: list[int] = []
    for part in key.split(","):
        places = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part in there:
            chosen.append(there.index(part))
        elif places and int(places[2] or places[1]) < len(there):
            chosen.extend(range(int(places[1]), int(places[2] or places[1]) + 1))
        else:
            raise FileError(f"{name}: no column {part!r}; there are {_listed(there)}")
    if not chosen:
        raise FileError(f"{name}: no columns in {key!r}")
    return chosen


# --------------------------------------------------------------------------------------------------------- csv


def _open_csv(name: str, path: Path, key: str | None, header: bool | None, integer: bool) -> Table:
    filled = 0
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES):
            if len(line) == LINE_BYTES:
                raise FileError(f"{name}: a line is longer than {LINE_BYTES} bytes")
            filled += bool(line.strip())
    with _csv_lines(path) as lines:
        number, first = next(lines, (1, ""))
    fields = next(csv.reader([first]), [])
    if not fields:
        raise FileError(f"{name}: is empty")
    if header is None:
        header = not all(map(_is_number, fields))
    names = [field.strip() for field in fields] if header else [str(place) for place in range(len(fields))]
    places = _columns(name, key, names)
    dtype = np.dtype(np.int64 if integer and len(places) == 1 else np.float64)
    shape = (filled - header, len(places)) if len(places) > 1 else (filled - header,)

    def read(rows: int) -> Iterator[np.ndarray]:
        with _csv_lines(path) as lines:
            if header:
                next(lines)
            while batch := list(islice(lines, rows)):
                for number, line in batch:
                    if line.count(",") != len(fields) - 1 and (found := len(next(csv.reader([line])))) != len(fields):
                        raise FileError(f"{name}: line {number} has {found} fields, the first has {len(fields)}")
                texts = [line for _, line in batch]
                try:
                    chunk = np.loadtxt(texts, dtype, None, ",", usecols=places, ndmin=2, quotechar='"')
                except ValueError:
                    raise _bad_field(name, batch, places, names, dtype) from None
                yield chunk.reshape(-1, *shape[1:])

    return Table(name, shape, dtype, read)


@contextlib.contextmanager
def _csv_lines(path: Path) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines that are not blank, with their numbers."""
    with path.open(encoding="utf-8-sig") as file:
        yield ((number, line) for number, line in enumerate(file, 1) if not line.isspace())


def _is_number(text: str, kind: type = float) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return "_" not in text


def _bad_field(
    name: str, batch: Iterable[tuple[int, str]], places: Sequence[int], names: Sequence[str], dtype: np.dtype[Any]
) -> FileError:
    kind, what = (int, "an integer") if dtype.kind == "i" else (float, "a number")
    for number, line in batch:
        fields = next(csv.reader([line]))
        for place in places:
            if not _is_number(fields[place], kind):
                return FileError(f"{name}: line {number}: {fields[place]!r} in column {names[place]} is not {what}")
    return FileError(f"{name}: lines {min(batch)[0]} to {max(batch)[0]} cannot be read as numbers")


# ------------------------------------------------------------------------------------------- parquet and arrow


def _open_parquet(name: str, path: Path, key: str | None) -> Table:
    parquet = _need("pyarrow.parquet", name)
    with parquet.ParquetFile(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
    names = [schema.names[place] for place in _columns(name, key, schema.names)]

    def batches(rows: int) -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(rows, columns=names)

    return _arrow_table(name, schema, names, count, batches)


def _open_arrow(name: str, path: Path, key: str | None) -> Table:
    arrow = _need("pyarrow", name)
    with path.open("rb") as start:
        is_file = start.read(6) == b"ARROW1"

    def batches(rows: int, places: Sequence[int] | None = None) -> Iterator[Any]:
        options = arrow.ipc.IpcReadOptions(included_fields=places)
        # Memory-mapped, so that even a file of one batch is not read whole.
        with arrow.memory_map(os.fspath(path)) as source:
            with (arrow.ipc.open_file if is_file else arrow.ipc.open_stream)(source, options=options) as reader:
                whole = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
                for batch in whole:
                    for start in range(0, batch.num_rows, rows):
                        yield batch.slice(start, rows)

    with arrow.memory_map(os.fspath(path)) as source:
        with (arrow.ipc.open_file if is_file else arrow.ipc.open_stream)(source) as reader:
            schema = reader.schema
    places = _columns(name, key, schema.names)
    count = sum(batch.num_rows for batch in batches(1 << 62, places))
    return _arrow_table(
        name, schema, [schema.names[place] for place in places], count, lambda rows: batches(rows, places)
    )


def _arrow_table(
    name: str, schema: Any, names: Sequence[str], count: int, batches: Callable[[int], Iterator[Any]]
) -> Table:
    types = _need("pyarrow", name).types
    inner, width = [], 0  # the type of the numbers in each column; the length of lists, or 0
    for column in names:
        kind = _storage(schema.field(column).type)
        if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
            if len(names) > 1:
                raise FileError(f"{name}: column {column} holds lists, so it can only be read alone")
            width = kind.list_size if types.is_fixed_size_list(kind) else -1
            kind = kind.value_type
        letters = {"f": types.is_floating, "u": types.is_unsigned_integer, "i": types.is_signed_integer}
        letter = next((letter for letter, holds in letters.items() if holds(kind)), None)
        if letter is None and not types.is_boolean(kind):
            raise FileError(f"{name}: column {column} is of type {schema.field(column).type}, not of numbers")
        inner.append(np.dtype(f"{letter}{kind.bit_width // 8}" if letter else bool))
    dtype = np.result_type(*inner)
    if width < 0:  # the first row tells the length that all must have
        first = next((batch for batch in batches(1) if batch.num_rows), None)
        width = len(_storage_array(first.column(names[0]))[0] or ()) if first is not None else 0
        lists = True
    else:
        lists = width > 0
    shape = (count, width) if lists else (count, len(names)) if len(names) > 1 else (count,)

    def pieces(rows: int) -> Iterator[np.ndarray]:
        done = 0
        for batch in batches(rows):
            columns = [_numbers(name, batch.column(column), column, width if lists else None, done) for column in names]
            done += batch.num_rows
            yield np.stack(columns, -1).astype(dtype, copy=False) if len(columns) > 1 else columns[0]

    return Table(name, shape, dtype, lambda rows: _regroup(pieces(rows), rows))


def _storage(kind: Any) -> Any:
    return getattr(kind, "storage_type", kind)


def _storage_array(array: Any) -> Any:
    return getattr(array, "storage", array)


def _numbers(name: str, array: Any, column: str, width: int | None, start: int) -> np.ndarray:
    array = _storage_array(array)
    _refuse_nulls(name, array, column, start, 1)
    if width is None:
        return np.asarray(array.to_numpy(zero_copy_only=False))
    flat = array.flatten()
    if not hasattr(array.type, "list_size"):
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if (odd := lengths != width).any():
            row = int(odd.argmax())
            raise FileError(
                f"{name}: column {column} has {lengths[row]} entries at row {start + row}, but {width} at row 0"
            )
    _refuse_nulls(name, flat, column, start, max(1, width))
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, width)


def _refuse_nulls(name: str, array: Any, column: str, start: int, width: int) -> None:
    if array.null_count:
        row = start + int(array.is_null().to_numpy(zero_copy_only=False).argmax()) // width
        raise FileError(f"{name}: column {column} has a null at row {row}")


def _regroup(pieces: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows in arrays of ``rows``, whatever the pieces were."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        while count + len(piece) >= rows:
            held.append(piece[: rows - count])
            piece = piece[rows - count :]
            yield held[0] if len(held) == 1 else np.concatenate(held)
            held, count = [], 0
        if len(piece):
            held.append(piece)
            count += len(piece)
    if held:
        yield held[0] if len(held) == 1 else np.concatenate(held)


# ----------------------------------------------------------------------------------------------------- writing


class NpyWriter:
    """A .npy file written rows by rows: beside its place, and moved there once it is complete.

    Used in ``with``; an exception inside leaves nothing behind, and what was there before untouched.

    Parameters
    ----------
    path : str or path
    shape : tuple of int
        Of the whole array.
    dtype : dtype

    Raises
    ------
    FileError
        The file cannot be written, or got another number of rows than its shape says.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from lossfast import io
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> with io.NpyWriter(path, (3,), np.float64) as out:
    ...     out.write(np.array([1.0, 2.0]))
    ...     out.write(np.array([3.0]))
    >>> np.load(path)
    array([1., 2., 3.])
    """

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...], dtype: Any) -> None:
        self.path, self.shape, self.dtype = Path(path), shape, np.dtype(dtype)
        self._beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._rows = 0

    def __enter__(self) -> NpyWriter:
        with _one_line(str(self.path)):
            if self.path.is_dir():
                raise FileError(f"{self.path}: is a directory")
            try:
                self._file = self._beside.open("wb")
            except OSError as error:
                raise FileError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
            descr = np.lib.format.dtype_to_descr(self.dtype)
            header = {"descr": descr, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows."""
        with _one_line(str(self.path)):
            self._file.write(np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data)
        self._rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _one_line(str(self.path)):
                self._file.close()
                if kind is None:
                    if self._rows != self.shape[0]:
                        raise FileError(f"{self.path}: got {self._rows} rows instead of {self.shape[0]}")
                    os.replace(self._beside, self.path)
        finally:
            self._beside.unlink(missing_ok=True)
