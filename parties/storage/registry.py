"""The model registry: why versions are not used any more, which are destroyed, and what their aliases stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from governance.lineage.alias import AliasHistory, AliasName, Move, MoveKind
from parties.storage.registry_tables import AliasMoveRow, DeletionRow, ModelMarkRow
from protocols.errors import ErrorCode
from protocols.job import ModelRef


@dataclass(frozen=True)
class MarkRecord:
    """One reason for which a model version is not used any more; public in the consortium.

    Attributes:
        ref: the version.
        issuer: the party that withdrew, or whose consent has ended; this party itself for its own decision.
        subject: id of the grant or digest of the agreement that ended; the model's label for a party's own decision.
        code: GRANT_REVOKED, GRANT_EXPIRED or MODEL_REVOKED.
        delete: whether every holder destroys its share.
        marked: when this party marked it, UTC.
    """

    ref: ModelRef
    issuer: str
    subject: str
    code: ErrorCode
    delete: bool
    marked: datetime


@dataclass(frozen=True)
class DeletionRecord:
    """A deletion at this party.

    Attributes:
        ref: the version.
        sealed_sha256: digest of the sealed file as it was, 64 hexadecimal digits; empty if there was none any more.
        begun: when it was decided, UTC; from then on nothing is read of the file.
        done: when key and file were gone, UTC; None until then.
    """

    ref: ModelRef
    sealed_sha256: str
    begun: datetime
    done: datetime | None


class RegistryStore:
    """Marks, deletions and aliases in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def mark(self, record: MarkRecord) -> bool:
        """Marks a version; a mark never goes away, but a later one for the same reason may add the deletion.

        Returns:
            Whether anything changed.
        """
        row = self._session.get(ModelMarkRow, (record.ref.name, record.ref.version, record.issuer, record.subject))
        if row is not None and (row.delete or not record.delete):
            return False
        if row is not None:
            row.delete, row.marked, row.code = True, record.marked, record.code.name
        else:
            self._session.add(
                ModelMarkRow(
                    name=record.ref.name,
                    version=record.ref.version,
                    issuer=record.issuer,
                    subject=record.subject,
                    code=record.code.name,
                    delete=record.delete,
                    marked=record.marked,
                )
            )
        self._session.flush()
        return True

    def marks(self, ref: ModelRef) -> tuple[MarkRecord, ...]:
        """Returns every reason for which a version is not used, the first first; empty if it may be used."""
        same = (ModelMarkRow.name == ref.name) & (ModelMarkRow.version == ref.version)
        return self._marks(select(ModelMarkRow).where(same))

    def all_marks(self) -> tuple[MarkRecord, ...]:
        """Returns all marks, the first first."""
        return self._marks(select(ModelMarkRow))

    def begin_deletion(self, record: DeletionRecord) -> bool:
        """Notes that a version's share is being destroyed.

        Returns:
            Whether that is new.
        """
        if self._session.get(DeletionRow, (record.ref.name, record.ref.version)) is not None:
            return False
        row = DeletionRow(
            name=record.ref.name, version=record.ref.version, sealed_sha256=record.sealed_sha256, begun=record.begun, done=None
        )
        self._session.add(row)
        self._session.flush()
        return True

    def end_deletion(self, ref: ModelRef, *, now: datetime) -> None:
        """Notes that key and file are gone."""
        row = self._session.get(DeletionRow, (ref.name, ref.version))
        if row is not None:
            row.done = now
            self._session.flush()

    def deletion(self, ref: ModelRef) -> DeletionRecord | None:
        """Returns the deletion of a version at this party, or None."""
        row = self._session.get(DeletionRow, (ref.name, ref.version))
        return None if row is None else _deletion(row)

    def unfinished_deletions(self) -> tuple[DeletionRecord, ...]:
        """Returns the deletions that were begun and are not done, for example because the process ended."""
        rows = self._session.scalars(select(DeletionRow).where(DeletionRow.done.is_(None)).order_by(DeletionRow.begun))
        return tuple(_deletion(row) for row in rows)

    def move_alias(self, model: str, alias: AliasName, move: Move) -> None:
        """Adds a move to an alias's history at this party."""
        self._session.add(
            AliasMoveRow(
                model=model, alias=alias.value, move=move.kind.value, version=move.version, origin=move.origin, moved=move.time
            )
        )
        self._session.flush()

    def alias_history(self, model: str, alias: AliasName) -> AliasHistory:
        """Returns an alias's history at this party."""
        same = (AliasMoveRow.model == model) & (AliasMoveRow.alias == alias.value)
        return AliasHistory(_moves(self._session.scalars(select(AliasMoveRow).where(same).order_by(AliasMoveRow.number))))

    def aliases(self) -> dict[tuple[str, AliasName], str]:
        """Returns the version that each alias stands for at this party, by model name and alias; without those for none."""
        histories: dict[tuple[str, AliasName], list[AliasMoveRow]] = {}
        for row in self._session.scalars(select(AliasMoveRow).order_by(AliasMoveRow.number)):
            histories.setdefault((row.model, AliasName(row.alias)), []).append(row)
        found = {key: AliasHistory(_moves(rows)).current for key, rows in histories.items()}
        return {key: version for key, version in found.items() if version is not None}

    def aliases_of(self, ref: ModelRef) -> tuple[AliasName, ...]:
        """Returns the aliases that stand for a version at this party."""
        return tuple(alias for (model, alias), version in self.aliases().items() if ModelRef(model, version) == ref)

    def _marks(self, query: object) -> tuple[MarkRecord, ...]:
        ordered = query.order_by(ModelMarkRow.marked, ModelMarkRow.issuer, ModelMarkRow.subject)  # type: ignore[attr-defined]
        return tuple(
            MarkRecord(ModelRef(row.name, row.version), row.issuer, row.subject, ErrorCode[row.code], row.delete, row.marked)
            for row in self._session.scalars(ordered)
        )


def _moves(rows: Iterable[AliasMoveRow]) -> tuple[Move, ...]:
    return tuple(Move(MoveKind(row.move), row.version, row.origin, row.moved) for row in rows)


def _deletion(row: DeletionRow) -> DeletionRecord:
    return DeletionRecord(ModelRef(row.name, row.version), row.sealed_sha256, row.begun, row.done)
