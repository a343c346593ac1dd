"""What a sweep has made so far, a row for each private model, and the researcher's file of it, from which a sweep goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from parties.storage.files import make_folder, read_secret, write_secret
from privacy.figures import Figures, figures_document, read_figures
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job_fields import read_object, read_text, read_whole

FORMAT = "confide.sweep/1"
_MAX_BYTES = 1 << 20
_TEXTS = ("name", "epsilon", "delta", "noise_multiplier", "norm_bound", "model")


class Step(Enum):
    """The jobs of a row, in their order."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    ASSESS = "assess"


@dataclass(frozen=True)
class SweepRow:
    """One private model of a sweep; the researcher's.

    Attributes:
        name: of the model; says which setting it is.
        epsilon: that its training claims and is charged, a decimal.
        delta: likewise.
        noise_multiplier: of its terms, a decimal.
        norm_bound: likewise.
        jobs: ids of its jobs that were submitted, by step; of one that ended badly none.
        done: steps that have completed.
        begun: how many trainings were submitted; each may have been charged, whatever became of it.
        model: `name@version` once it is trained.
        figures: what its evaluation and its assessment gave; what was withheld is absent.
    """

    name: str
    epsilon: str
    delta: str
    noise_multiplier: str
    norm_bound: str
    jobs: Mapping[Step, str] = field(default_factory=dict)
    done: tuple[Step, ...] = ()
    begun: int = 0
    model: str = ""
    figures: Figures = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Returns the row as a document."""
        return {
            **{name: getattr(self, name) for name in _TEXTS},
            "begun": self.begun,
            "jobs": {step.value: job for step, job in self.jobs.items()},
            "done": [step.value for step in self.done],
            "figures": figures_document(self.figures),
        }


@dataclass(frozen=True)
class SweepFile:
    """A file, mode 0600, of one sweep.

    Attributes:
        path: where it lies, or will.
        digest: of what is asked of every row; a file of other questions is not gone on from.
    """

    path: Path
    digest: str

    def read(self) -> list[SweepRow]:
        """Returns what was made so far; empty without a file.

        Raises:
            ConfideError: STATE_DAMAGED (the researcher's to mend): it is no such file, or one of another sweep; FILE_MODE.
        """
        if not self.path.exists():
            return []
        data = read_secret(self.path, max_bytes=_MAX_BYTES)
        try:
            document = read_object(parse_canonical(data))
            is_ours = document.get("format") == FORMAT and document.get("sweep") == self.digest
            rows = [_read_row(row) for row in document["rows"]] if is_ours else None
        except (ConfideError, ValueError, KeyError, TypeError) as error:
            raise self._damaged() from error
        if rows is None:
            raise self._damaged()
        return rows

    def write(self, rows: Sequence[SweepRow]) -> None:
        """Keeps what was made so far.

        Raises:
            ConfideError: DISK_FULL or INVALID_ARGUMENT (the researcher's): it cannot be written there.
        """
        make_folder(self.path.parent)
        document = {"format": FORMAT, "sweep": self.digest, "rows": [row.to_document() for row in rows]}
        write_secret(self.path, canonical_bytes(document))

    def _damaged(self) -> ConfideError:
        what = f"{self.path} does not hold what this sweep has made"
        return ConfideError(ErrorCode.STATE_DAMAGED, what, remedy="Move the file away to begin anew; all is charged again.")


def _read_row(entry: Any) -> SweepRow:
    row = read_object(entry)
    if set(row) != {*_TEXTS, "begun", "jobs", "done", "figures"}:
        raise ValueError("a row has other fields")
    return SweepRow(
        **{name: read_text(row[name]) for name in _TEXTS},
        begun=read_whole(row["begun"]),
        jobs={Step(step): read_text(job) for step, job in read_object(row["jobs"]).items()},
        done=tuple(Step(step) for step in row["done"]),
        figures=read_figures(row["figures"]),
    )
