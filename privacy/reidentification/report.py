"""The re-identification report of a table: whom it gives away, and by which columns.

Everything is computed at the owner from batches of rows; memory grows with the rows by a few bytes a column. The report holds no
cell, but it says which columns together single people out: it is for the owner's eyes, apart from the part that its document
marks as shareable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from privacy.preparation.data_contract import DataContract, DataRole
from privacy.preparation.recipes.step import Columns
from privacy.reidentification.classes import ClassSizes, class_numbers, class_sizes
from privacy.reidentification.coding import CodedColumn, Reader, code_columns
from privacy.reidentification.combinations import Contribution, UniqueSet, contributions, smallest_sets
from privacy.reidentification.dependence import Dependence, dependence
from privacy.reidentification.direct_identifiers import Detector, Finding, examine
from privacy.reidentification.diversity import Diversity, diversity
from privacy.reidentification.sample import RowSample
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

MAX_IDENTIFIERS = 5  # against which the other columns are held
_KEPT_BYTES = 384 << 20
_NEARLY_UNIQUE = 0.9
_NO_CANDIDATES = (DataRole.DIRECT_IDENTIFIER, DataRole.LINKAGE_KEY)


@dataclass(frozen=True)
class ColumnFigures:
    """One column in numbers; for the owner's eyes.

    Attributes:
        name: the column.
        role: as in the contract; None if the contract does not have it: of a raw file such a column is dropped at ingest.
        distinct: different values, a missing one among them.
        unique: rows whose value stands in no other row.
        missing: rows where nothing stands.
        entropy_bits: of its values.
    """

    name: str
    role: DataRole | None
    distinct: int
    unique: int
    missing: int
    entropy_bits: float


@dataclass(frozen=True)
class ReidentificationReport:
    """The report; for the owner's eyes, see `privacy.reidentification.report_document` for what may be shown.

    Attributes:
        num_rows: rows of the table.
        columns: each of its columns, in their order.
        findings: columns that seem to name people, and why.
        quasi_identifiers: the columns that make the classes: those of the contract, else those proposed; may be empty.
        declared: whether the contract named them.
        classes: the classes' sizes.
        diversities: of each sensitive column within the classes.
        smallest_sets: the smallest sets of columns that make many rows unique.
        contributions: what each of the quasi-identifiers adds to uniqueness.
        proposed_contributions: likewise of the columns of the smallest sets together.
        dependences: what columns say about identifiers.
        sampled: rows of the sample on which cells were examined and dependences measured.
    """

    num_rows: int
    columns: tuple[ColumnFigures, ...]
    findings: tuple[Finding, ...]
    quasi_identifiers: tuple[str, ...]
    declared: bool
    classes: ClassSizes
    diversities: tuple[Diversity, ...]
    smallest_sets: tuple[UniqueSet, ...]
    contributions: tuple[Contribution, ...]
    proposed_contributions: tuple[Contribution, ...]
    dependences: tuple[Dependence, ...]
    sampled: int

    @property
    def proposed(self) -> tuple[str, ...]:
        """The proposed quasi-identifiers: the columns of the smallest sets together, by name."""
        return tuple(sorted({name for one in self.smallest_sets for name in one.columns}))

    @property
    def flagged(self) -> tuple[str, ...]:
        """Columns that are to be treated as identifiers, by their order in the table."""
        flagged = {finding.column for finding in self.findings if finding.flagged}
        return tuple(column.name for column in self.columns if column.name in flagged)


def report_on(
    read: Reader, columns: Columns, contract: DataContract, *, seed: SecretBytes, detect: Detector
) -> ReidentificationReport:
    """Makes the report of a table.

    Args:
        read: reads columns of the table, the same rows every time; secret. It is read once as a whole and then once for as many
            columns as fit into the buffers.
        columns: all columns that it has.
        contract: the roles of columns; columns that it does not have are examined too.
        seed: 32 random bytes, for this run alone; secret. They key the digests, draw the sample and shuffle it.
        detect: finds entities in free text, as `privacy.reidentification.entities.find_entities`.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): the table has no rows or cannot be read; SETUP_INCOMPLETE (the
        operator's):
            there is free text and no detector.
    """
    sample = RowSample(seed, columns)
    for rows in read(list(columns)):
        sample.see(rows)
    if not sample.num_rows:
        raise ConfideError(ErrorCode.INVALID_DATA, "the table holds no rows", remedy="Check that the right file was named.")
    texts = sample.texts()
    survey = _Survey(contract, sample.num_rows, texts, detect)
    for name, column in code_columns(read, list(columns), sample.num_rows, seed):
        survey.see(name, column)
    sets = smallest_sets(survey.candidates)
    proposed = {name: survey.candidates[name] for one in sets for name in one.columns}
    declared = survey.quasi_identifiers
    is_declared = bool(declared)
    making = declared or proposed
    quasi_identifiers = tuple(making)
    added = contributions(making) if making else ()
    proposed_added = contributions(proposed) if proposed and is_declared else ()
    classes = class_numbers(list(making.values())) if making else np.zeros(sample.num_rows, np.int64)
    # A long table's columns are as large as what the classes need next, so they go first.
    for kept in (proposed, declared, survey.candidates):
        kept.clear()
    diversities = tuple(diversity(name, classes, survey.sensitive.pop(name)) for name in list(survey.sensitive))
    generator = np.random.default_rng(int.from_bytes(seed.reveal(), "big"))
    return ReidentificationReport(
        num_rows=sample.num_rows,
        columns=tuple(survey.figures),
        findings=tuple(survey.findings),
        quasi_identifiers=quasi_identifiers,
        declared=is_declared,
        classes=class_sizes(classes),
        diversities=diversities,
        smallest_sets=sets,
        contributions=added,
        proposed_contributions=proposed_added,
        dependences=_dependences(survey.identifiers, texts, generator),
        sampled=len(next(iter(texts.values()))),
    )


@dataclass
class _Survey:
    """What is kept while the columns come one by one."""

    contract: DataContract
    num_rows: int
    texts: Mapping[str, pa.Array]
    detect: Detector
    figures: list[ColumnFigures] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    quasi_identifiers: dict[str, CodedColumn] = field(default_factory=dict)
    sensitive: dict[str, CodedColumn] = field(default_factory=dict)
    candidates: dict[str, CodedColumn] = field(default_factory=dict)

    def see(self, name: str, column: CodedColumn) -> None:
        """Measures a column, and keeps it if the classes may need it."""
        role = next((known.role for known in self.contract.columns if known.name == name), None)
        figures = _figures(name, role, column)
        self.figures.append(figures)
        present = self.num_rows - column.missing
        distinct = len(column.digests) - bool(column.missing)
        share = distinct / present if present else 0.0
        found = examine(name, self.texts[name], distinct_share=share, num_rows=present, detect=self.detect)
        self.findings += found
        # The contract's roles hold whatever was found: without such a column k would look better than it is.
        if role is DataRole.QUASI_IDENTIFIER:
            self.quasi_identifiers[name] = column
        if role is DataRole.SENSITIVE:
            self.sensitive[name] = column
        if role in _NO_CANDIDATES or any(finding.flagged for finding in found):
            self.identifiers.append(name)
            return
        # What stands in nearly every row only once is no matter of combinations: its own figures say everything.
        if figures.unique < _NEARLY_UNIQUE * self.num_rows and distinct > 1:
            self.candidates[name] = column
            self._drop_beyond_the_buffer()

    def _drop_beyond_the_buffer(self) -> None:
        """Of a table with many rows and columns, leaves out the candidates that tell least."""
        entropy = {figures.name: figures.entropy_bits for figures in self.figures}
        while sum(column.num_bytes for column in self.candidates.values()) > _KEPT_BYTES and len(self.candidates) > 1:
            del self.candidates[min(self.candidates, key=lambda name: entropy[name])]


def _figures(name: str, role: DataRole | None, column: CodedColumn) -> ColumnFigures:
    shares = column.counts / max(1, int(column.counts.sum()))
    return ColumnFigures(
        name=name,
        role=role,
        distinct=len(column.digests),
        unique=int(np.count_nonzero(column.counts == 1)),
        missing=column.missing,
        entropy_bits=float(max(0.0, -(shares * np.log2(shares)).sum())),
    )


def _dependences(
    identifiers: Sequence[str], texts: Mapping[str, pa.Array], generator: np.random.Generator
) -> tuple[Dependence, ...]:
    against = [name for name in identifiers if _values(texts[name]) > 1][:MAX_IDENTIFIERS]
    others = [name for name in texts if name not in identifiers and _values(texts[name]) > 1]
    measured = [dependence(key, texts[key], name, texts[name], generator) for key in against for name in others]
    return tuple(sorted(measured, key=lambda one: (-one.share, one.identifier, one.column)))


def _values(texts: pa.Array) -> int:
    return len(texts.unique())
