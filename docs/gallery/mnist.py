"""MNIST's files: arrays of bytes in the IDX format, as they are distributed or unpacked."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from lossfast.io import FileError


def read_idx(path: str | Path) -> np.ndarray:
    """The array of bytes in an IDX file, gzipped or not.

    Two zero bytes, the code of the type (8: unsigned bytes), the number of dimensions; each dimension as a big-endian
    integer of four bytes; then the elements, the last dimension fastest.

    Raises
    ------
    FileError
        The file cannot be read, is not of this format, or is shorter or longer than its header says.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise FileError(f"{path}: not an IDX file, which begins with two bytes of 0")
    kind, dimensions = data[2], data[3]
    if kind != 8:
        raise FileError(f"{path}: holds elements of type 0x{kind:02x}, and only unsigned bytes (0x08) are read")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise FileError(f"{path}: ends within its header of {start} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - start != math.prod(shape):
        raise FileError(f"{path}: holds {len(data) - start} bytes, but shape {shape} has {math.prod(shape)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def load(folder: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, then those of the test, from a folder with MNIST's four files.

    Images are float32 rows with pixels between 0 and 1. Names may have a dot where they usually have their last hyphen
    but one (``train-images.idx3-ubyte``), and end in .gz or not.

    Raises
    ------
    FileError
        A file is missing or malformed, or images and labels do not go together.
    """
    found: list[np.ndarray] = []
    for part in ("train", "t10k"):
        images = read_idx(_find(Path(folder), f"{part}-images", "idx3-ubyte"))
        labels = read_idx(_find(Path(folder), f"{part}-labels", "idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise FileError(f"{folder}: the {part} images are of shape {images.shape}, the labels of {labels.shape}")
        if labels.size and labels.max() > 9:
            row = int((labels > 9).argmax())
            raise FileError(f"{folder}: the {part} label at row {row} is {labels[row]}, and not a digit")
        found += [images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32) / 255, labels]
    return found[0], found[1], found[2], found[3]


def _find(folder: Path, name: str, ending: str) -> Path:
    names = [f"{name}{joint}{ending}{packed}" for joint in "-." for packed in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileError(f"{folder}: has none of {', '.join(names)}")
