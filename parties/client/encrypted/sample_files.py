"""A researcher's samples from CSV, and answers into it; the files are hers alone (mode 0600), and no message quotes a value."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.client.encrypted.answers import EncryptedAnswers
from parties.client.encrypted.published import EncryptedModel
from parties.storage.files import read_public, write_secret
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_FILE_BYTES = 512 << 20
LARGEST = "largest"
_SHOWN = 20


@dataclass(frozen=True)
class SampleFile:
    """What a file holds.

    Attributes:
        values: `(rows, features) float64`; secret.
        ids: of the column that names rows; empty if none does.
    """

    values: NDArray[np.float64] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)


def require_place(path: Path) -> None:
    """Checks that answers can be written to a place, before anybody is asked: what cannot be written is debited all the same.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's to mend).
    """
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = f"{path} is a folder" if path.is_dir() else f"{folder} is no folder that you may write to"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name a file in a folder of yours.")


def read_samples(path: Path, model: EncryptedModel, *, id_column: str | None = None) -> SampleFile:
    """Reads a CSV file with a header: the model's columns in any order, and one that names the rows.

    Args:
        path: the file, UTF-8.
        model: whose columns are read; of one that takes arrays without names, all columns in the order of the file.
        id_column: the column that names rows; it stays here and stands in the answers' file.

    Raises:
        ConfideError: INVALID_DATA (the researcher's to mend), with what is wrong with the columns or with the first values.
    """
    try:
        text = read_public(path, max_bytes=MAX_FILE_BYTES).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{path} is no CSV file in UTF-8") from error
    if len(rows) < 2:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{path} has no samples", remedy="Write a header, then one line a sample.")
    header, body = rows[0], rows[1:]
    places, at = _places(path, header, model, id_column)
    ragged = [
        Problem(f"line {number}", f"{len(row)} values", f"{len(header)} are expected")
        for number, row in _numbered(body)
        if len(row) != len(header)
    ]
    _refuse(path, ragged)
    values, problems = np.empty((len(body), len(places))), []
    for number, row in _numbered(body):
        for column, place in enumerate(places):
            value = _number(row[place])
            if value is None:
                problems.append(
                    Problem(f"line {number}, {header[place]}", "is no finite number", "correct it, or leave the line out")
                )
            else:
                values[number - 2, column] = value
    _refuse(path, problems)
    return SampleFile(values, tuple(row[at] for row in body) if at is not None else ())


def write_answers(
    path: Path, answers: EncryptedAnswers, *, decimals: int, id_column: str | None = None, ids: Sequence[str] = ()
) -> None:
    """Writes answers as a CSV file: a column for each output, and for several the name of the largest.

    Args:
        path: the file; made with mode 0600, replaced if it is there.
        answers: as they were opened.
        decimals: of the model.
        id_column: heading of the column that names rows.
        ids: its values; empty for none.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    several = len(answers.outputs) > 1
    writer.writerow([*([id_column] if ids else []), *answers.outputs, *([LARGEST] if several else [])])
    for number, row in enumerate(answers.values):
        named = [answers.outputs[int(answers.largest[number])]] if several else []
        writer.writerow([*([ids[number]] if ids else []), *(f"{value:.{decimals}f}" for value in row), *named])
    write_secret(path, out.getvalue().encode())


def _places(path: Path, header: list[str], model: EncryptedModel, id_column: str | None) -> tuple[list[int], int | None]:
    """Returns where the model's columns stand, in its order, and where the names of rows do."""
    wanted = list(model.published.features)
    if id_column is not None and id_column not in header:
        raise ConfideError(ErrorCode.INVALID_DATA, f"{path} has no column {id_column[:80]!r}")
    times, known = Counter(header), {*wanted, id_column}
    problems = [Problem(name, "stands in the header twice", "rename one") for name in sorted(times) if times[name] > 1]
    if wanted:
        problems += [Problem(name, "is missing", "add the column") for name in wanted if name not in times]
        extra = [name for name in header if name not in known]
        problems += [Problem(name, "is none of the model's columns", "remove it, or name it with --id") for name in extra]
    _refuse(path, problems)
    stands = {name: place for place, name in enumerate(header)}
    at = None if id_column is None else stands[id_column]
    places = [stands[name] for name in wanted] if wanted else [place for place in range(len(header)) if place != at]
    return places, at


def _numbered(body: list[list[str]]) -> list[tuple[int, list[str]]]:
    return list(enumerate(body, start=2))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _refuse(path: Path, problems: list[Problem]) -> None:
    if problems:
        what = f"{len(problems)} problem(s) in {path}"
        raise ConfideError(ErrorCode.INVALID_DATA, what, problems=problems[:_SHOWN])
