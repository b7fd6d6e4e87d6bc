"""Labelled samples from an .npz or .csv file, and errors that say what is wrong with the file."""

import csv
import zipfile
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numba_linear.commands import UserError, counted
from numba_linear.commands.integers import permutation

#: The bundled handwritten digits; digits.txt beside them names source and licence.
DIGITS = Path(__file__).parents[1] / "data" / "digits.npz"

#: With fewer samples there would be nothing to train on or to test with.
MIN_SAMPLES = 8

#: Standardised features are clipped here, on both sides. Otherwise a pixel that is white in nearly
#: every image is up to 42 standard deviations off where it is not, and dominates that sample.
CUTOFF = 3

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Dataset:
    """Samples to train on and samples to test with, standardised, in float32.

    Attributes
    ----------
    x, x_test : array of float32, shape (samples, features)
        Each feature minus its mean, divided by its deviation, clipped to ±`CUTOFF`.
    y, y_test : array of int64, shape (samples,)
        The class of each sample, an index into `labels`.
    labels : array of int64
        The labels of the classes, ascending.
    mean, deviation : array of float64, shape (features,)
        Those of the training part; a constant feature has deviation 1.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    labels: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def load(path: Path) -> Dataset:
    """Read a file and split it, always in the same way, into three quarters and a quarter.

    Raises
    ------
    UserError
        With the file, the place in it, and what was expected there.
    """
    try:
        x, labels = _read(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    classes, y = np.unique(labels, return_inverse=True)
    order = permutation(0, len(x))
    test, train = np.split(order, [len(x) // 4])
    mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
    # Rounding may leave a constant column a tiny deviation, division by which would blow it up.
    deviation[deviation <= 1e-12 * np.abs(mean)] = 1
    x = ((x - mean) / deviation).clip(-CUTOFF, CUTOFF).astype(np.float32)
    return Dataset(x[train], y[train], x[test], y[test], classes, mean, deviation)


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The samples and labels of a file, each checked."""
    if path.is_dir():
        raise UserError(f"{path}: is a directory, expected an .npz or .csv file")
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a file whose name ends in .npz or .csv")
    x, y, place = readers[path.suffix.lower()](path)

    # The first wrong value, if there is one.
    for row, column in np.argwhere(~(np.abs(x) <= LARGEST)).tolist():
        raise UserError(
            f"{path}: {place(row, column)} is {x[row, column]}, expected a finite number "
            "in the range of float32"
        )
    for row in np.flatnonzero(~((y >= 0) & (y < 2**53) & (y == np.floor(y)))).tolist():
        raise UserError(
            f"{path}: {place(row, -1)} is {y[row]}, expected a label: an integer from 0"
        )
    if len(x) < MIN_SAMPLES:
        raise UserError(
            f"{path}: has {counted(len(x), 'sample')}, expected at least {MIN_SAMPLES}"
        )
    if (y == y[0]).all():
        raise UserError(f"{path}: every label is {y[0]:.0f}, expected at least two classes")
    return x, y.astype(np.int64)


#: The place in its file, in words, of a feature, or of the label if column is -1.
Place = Callable[[int, int], str]
Numbers = tuple[NDArray[np.float64], NDArray[np.float64], Place]


def _read_npz(path: Path) -> Numbers:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{path}: is not an .npz file, expected one written by numpy.savez")
    arrays = {}
    with np.load(path) as stored:
        for name, shape, axes in (("x", "(samples, features)", 2), ("y", "(samples,)", 1)):
            if name not in stored.files:
                found = ", ".join(repr(each) for each in stored.files) or "none"
                raise UserError(f"{path}: has no array {name!r}, found {found}")
            try:
                values = stored[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise UserError(f"{path}: array {name!r} cannot be read: {error}") from None
            if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
                raise UserError(f"{path}: array {name!r} does not hold numbers")
            if values.ndim != axes:
                raise UserError(
                    f"{path}: array {name!r} has shape {values.shape}, expected {shape}"
                )
            arrays[name] = values.astype(np.float64)
    x, y = arrays["x"], arrays["y"]
    if len(x) != len(y):
        raise UserError(
            f"{path}: 'x' holds {counted(len(x), 'sample')} and 'y' {counted(len(y), 'label')}, "
            "expected as many"
        )
    if x.shape[1] == 0:
        raise UserError(f"{path}: array 'x' has shape {x.shape}, expected at least one feature")

    def place(row: int, column: int) -> str:
        return f"y[{row}]" if column < 0 else f"x[{row}, {column}]"

    return x, y, place


def _read_csv(path: Path) -> Numbers:
    values, lines = array("d"), array("q")
    width = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if not cells:
                    continue
                if not width:
                    width = len(cells)
                    if width < 2:
                        raise UserError(
                            f"{path}, line {reader.line_num}: one column, expected features and "
                            "a label, separated by commas"
                        )
                    if all(_number(cell) is None for cell in cells):
                        continue
                if len(cells) != width:
                    raise UserError(
                        f"{path}, line {reader.line_num}: {counted(len(cells), 'column')}, "
                        f"expected {width} as in the first line"
                    )
                values.extend(_row(path, reader.line_num, cells))
                lines.append(reader.line_num)
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not a text file, expected UTF-8") from None
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    if not lines:
        raise UserError(f"{path}: holds no samples, expected one to a line")
    table = np.frombuffer(values).reshape(len(lines), width)

    def place(row: int, column: int) -> str:
        return f"line {lines[row]}, column {width if column < 0 else column + 1}"

    return table[:, :-1], table[:, -1], place


def _row(path: Path, line: int, cells: Sequence[str]) -> list[float]:
    numbers = []
    for column, cell in enumerate(cells, start=1):
        number = _number(cell)
        if number is None:
            raise UserError(
                f"{path}, line {line}, column {column}: {cell!r} is not a number "
                "(only the first line may hold names, and then in every column)"
            )
        numbers.append(number)
    return numbers


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
