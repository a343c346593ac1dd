"""What a raw table is, whatever the format of its file: named columns that are read in batches, as often as needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from privacy.preparation.recipes.step import Columns, Rows
from protocols.errors import ConfideError, ErrorCode, Problem

MAX_REPORTED = 20
BATCH_BYTES = 4 << 20
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class RawIdentity:
    """What tells one state of a file from another; stays at the owner, since a bare digest of rows can be guessed.

    Attributes:
        digest: SHA-256 of all its bytes, 64 hexadecimal digits.
        num_bytes: its length.
    """

    digest: str
    num_bytes: int


class RawTable(ABC):
    """The table in an open file; secret, apart from the names of its columns.

    Attributes:
        file: what messages call the file.
        names: its columns in their order, as they are written; some may stand twice.
        identity: of the file when it was opened.
    """

    def __init__(self, file: str, names: Sequence[str], identity: RawIdentity) -> None:
        self.file = file
        self.names = tuple(names)
        self.identity = identity

    @abstractmethod
    def columns(self, wanted: Iterable[str]) -> Columns:
        """Returns the types in which columns are read, in the order asked for.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): every column that is missing, stands twice, or cannot be read.
        """

    @abstractmethod
    def batches(self, wanted: Iterable[str], *, batch_bytes: int = BATCH_BYTES) -> Iterator[Rows]:
        """Reads columns from the beginning, in order; whatever is not asked for is dropped here. Ends by checking the file.

        One reading at a time: a new one ends the one before.

        Args:
            wanted: names of columns, at least one.
            batch_bytes: about how many bytes of the file make a batch.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault): as for `columns`, and up to `MAX_REPORTED` rows of another width or
                with an open quote; FILE_CHANGED (the owner's fault): the file is not the one that was opened.
        """

    @abstractmethod
    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """Returns the line of the file on which rows, numbered from 1, begin; empty where rows have no line."""

    def refused(self, problems: Sequence[Problem]) -> ConfideError:
        """Returns the refusal of the file for these problems."""
        return refused(self.file, problems)

    def require(self, wanted: Sequence[str]) -> None:
        """Refuses a file that lacks one of these columns, or has one of them twice.

        Raises:
            ConfideError: INVALID_DATA (the owner's fault).
        """
        problems = [Problem(f"column {name}", "missing", self._missing_remedy(name)) for name in wanted if name not in self.names]
        counts = Counter(self.names)
        for name in dict.fromkeys(wanted):
            if counts[name] > 1:
                problems.append(Problem(f"column {name}", f"stands {counts[name]} times in the header", "keep one"))
        if wanted and not set(wanted) & set(self.names):
            # Without a header the first line is a row: its cells must not be repeated.
            problems = [Problem("header", "the first line names none of the contract's columns", "add the header line")]
        if problems:
            raise self.refused(problems[:MAX_REPORTED])

    def with_lines(self, problems: Sequence[Problem]) -> list[Problem]:
        """Returns problems of rows (`row 7, column age`) with the line of the file added: `row 7 (line 8), column age`."""
        numbered = [(problem, _row_of(problem.where)) for problem in problems]
        lines = self.lines_of([row for _, row in numbered if row is not None])
        return [
            problem
            if row is None or row not in lines
            else Problem(problem.where.replace(f"row {row}", f"row {row} (line {lines[row]})", 1), problem.what, problem.remedy)
            for problem, row in numbered
        ]

    def _missing_remedy(self, name: str) -> str:
        folded = name.casefold().replace(" ", "_")
        similar = [other for other in self.names if other.strip().casefold().replace(" ", "_") == folded]
        return f"rename {similar[0]!r}" if similar else "add it"


def refused(file: str, problems: Sequence[Problem]) -> ConfideError:
    """Returns the refusal of a file for these problems."""
    return ConfideError(ErrorCode.INVALID_DATA, f"{len(problems)} problem(s) in {file}", problems=problems)


def changed(file: str) -> ConfideError:
    """Returns the refusal of a file that changed while it was read."""
    return ConfideError(ErrorCode.FILE_CHANGED, f"{file} changed while it was read; nothing was kept of it")


def _row_of(where: str) -> int | None:
    head, _, rest = where.partition(" ")
    digits = rest.partition(",")[0]
    return int(digits) if head == "row" and digits.isdecimal() else None
