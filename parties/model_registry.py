"""What a party decides about the models it holds: marks, deletions, aliases; each with its entry in the audit log.

Used by the commands of its people and by the serving process alike: whatever is decided is in the shared database, and holds
from the transaction on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from governance.admission import Finding
from governance.audit.entries import EntryKind, Fact
from governance.evidence.gate import Decision, Verdict
from governance.identity.directory import Directory
from governance.identity.keys import SigningKey
from governance.lineage.alias import AliasHistory, AliasName, AliasStatement, Move, MoveKind, sign_alias
from governance.lineage.receipt import DeletionReceipt, sign_receipt
from parties.storage.database import Database, Tables
from parties.storage.models import ModelRecord
from parties.storage.registry import DeletionRecord, MarkRecord
from parties.storage.sealed import SealedFiles
from parties.storage.state import Member
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, ModelRef


@dataclass(frozen=True)
class Holder:
    """Who decides: a party, its consortium, and the key under which it says so."""

    party: str
    consortium: str
    key: SigningKey

    @staticmethod
    def of(member: Member, directory: Directory) -> Holder:
        """Returns the holder that a party is."""
        return Holder(member.identity.id, directory.consortium, member.signing_key)


def holders_of(tables: Tables, record: ModelRecord) -> tuple[str, ...]:
    """Returns who holds shares of a model: the computing parties of its training, in order."""
    return Job.from_bytes(tables.jobs.get(record.job_id).document).computing_parties


def mark_model(tables: Tables, holder: Holder, record: MarkRecord, *, authorisation: str | None = None) -> bool:
    """Marks a version as not to be used any more, and takes its aliases away from it.

    Args:
        tables: of the transaction.
        holder: this party.
        record: which version, and why.
        authorisation: digest of the person's, if one decided; None if a consent ended.

    Returns:
        Whether that is new.
    """
    if not tables.registry.mark(record):
        return False
    facts: dict[str, Fact] = {
        "model": record.ref.label,
        "issuer": record.issuer,
        "subject": record.subject,
        "code": record.code.name,
        "effect": "delete" if record.delete else "stop",
        "authorisation": authorisation,
    }
    tables.audit.append(EntryKind.MODEL_MARKED, facts, now=record.marked)
    fall = Move(MoveKind.FALL, record.ref.version, holder.party, record.marked)
    for alias in AliasName:
        history = tables.registry.alias_history(record.ref.name, alias)
        if history.current == record.ref.version:
            _move(tables, holder, record.ref.name, alias, fall)
        elif history.holds(record.ref.version):  # a move back must not lead to it
            tables.registry.move_alias(record.ref.name, alias, fall)
    return True


def destroy_marked(database: Database, sealed: SealedFiles, holder: Holder, *, now: datetime) -> tuple[ModelRef, ...]:
    """Destroys this party's shares of every version that is marked for deletion, and signs receipts. Idempotent.

    The decision is durable before the key is overwritten, and the receipt says that it was only when it was: a crash in between
    is made up for by the next call.

    Returns:
        The versions of which shares were destroyed by this call.

    Raises:
        ConfideError: DISK_FULL (the operator's fault): to be called again.
    """
    with database.transaction() as tables:
        marked = dict.fromkeys(mark.ref for mark in tables.registry.all_marks() if mark.delete)
        names = {ref: tables.models.sealed_name(ref) for ref in marked if tables.registry.deletion(ref) is None}
    digests = {ref: sealed.digest(name) if name else "" for ref, name in names.items()}  # of files of up to a gigabyte
    with database.transaction() as tables:
        for ref, digest in digests.items():
            tables.registry.begin_deletion(DeletionRecord(ref, digest, now, None))
        begun = [(record, tables.models.sealed_name(record.ref)) for record in tables.registry.unfinished_deletions()]
    for _, name in begun:
        if name:
            sealed.delete(name)
    with database.transaction() as tables:
        # The command and the serving process both come here after a decision; whoever is second has nothing left to say.
        left = {record.ref for record in tables.registry.unfinished_deletions()}
        ended = [record for record, _ in begun if record.ref in left]
        for record in ended:
            tables.registry.end_deletion(record.ref, now=now)
            facts = {"model": record.ref.label, "sealed_sha256": record.sealed_sha256}
            tables.audit.append(EntryKind.MODEL_DELETED, facts, now=now)
        _say_receipts(tables, holder, now=now)
    return tuple(record.ref for record in ended)


def set_alias(
    tables: Tables,
    holder: Holder,
    ref: ModelRef,
    alias: AliasName,
    *,
    authorisation: str,
    now: datetime,
    passed: Decision | None = None,
) -> AliasStatement:
    """Moves an alias forward at this party, and tells the other holders that it did.

    Args:
        tables: of the transaction.
        holder: this party.
        ref: the version.
        alias: which alias.
        authorisation: digest of the person's.
        now: the time, UTC.
        passed: what the gate on evidence said in this transaction; `released` is set with a pass about this version alone.

    Raises:
        ConfideError: UNKNOWN_MODEL: no share of it is held here; MODEL_REVOKED: it is not used any more; EVIDENCE_MISSING:
            `released`, and the gate did not pass this version.
    """
    require_usable(tables, ref, party=holder.party)
    _require_passed(holder, ref, alias, passed)
    history = tables.registry.alias_history(ref.name, alias)
    if history.current == ref.version:
        return _statement(holder, ref.name, alias, MoveKind.SET, history, history, now)
    move = Move(MoveKind.SET, ref.version, holder.party, now)
    return _move(tables, holder, ref.name, alias, move, authorisation=authorisation)


def roll_back_alias(
    tables: Tables,
    holder: Holder,
    model: str,
    alias: AliasName,
    *,
    authorisation: str,
    now: datetime,
    passed: Decision | None = None,
) -> AliasStatement:
    """Moves an alias back to the version that it stood for before, here at once and at the other holders when they hear of it.

    Args:
        tables: of the transaction.
        holder: this party.
        model: the model's name.
        alias: which alias.
        authorisation: digest of the person's.
        now: the time, UTC.
        passed: what the gate on evidence said in this transaction; `released` moves with a pass about the version before alone.

    Raises:
        ConfideError: UNKNOWN_MODEL: it stood for nothing before; MODEL_REVOKED: what it stood for is not used any more;
            EVIDENCE_MISSING: `released`, and the gate did not pass what it stood for.
    """
    history = tables.registry.alias_history(model, alias)
    if history.before is None:
        what = f"{model[:63]}@{alias.value} stood for no other version before at {holder.party}"
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, what, remedy="Set it to a version.", party=holder.party)
    ref = ModelRef(model, history.before)
    require_usable(tables, ref, party=holder.party)
    _require_passed(holder, ref, alias, passed)
    move = Move(MoveKind.ROLL_BACK, history.current or "", holder.party, now)
    return _move(tables, holder, model, alias, move, authorisation=authorisation)


def follow_alias(tables: Tables, holder: Holder, said: AliasStatement, *, now: datetime) -> bool:
    """Follows another holder's move back, if it leads to what this party had itself put behind the alias before.

    Whoever follows one of `released` has the gate judge what it leads to: `parties.standing_releases.review_release`.

    Returns:
        Whether this party's alias moved.
    """
    history = tables.registry.alias_history(said.model, said.alias)
    if said.version is None or not history.may_follow(said):
        return False
    ref = ModelRef(said.model, said.version)
    try:
        require_usable(tables, ref, party=holder.party)
    except ConfideError:
        return False  # it stands for different versions then, and so for none, until people decide
    if said.issuer not in holders_of(tables, tables.models.get(ref)):
        return False
    _move(tables, holder, said.model, said.alias, Move(MoveKind.ROLL_BACK, history.current or "", said.issuer, now))
    return True


def fall_from_release(tables: Tables, holder: Holder, ref: ModelRef, *, now: datetime) -> bool:
    """Takes `released` away from a version that the gate on evidence blocks; returns whether it stood for it or would again."""
    history = tables.registry.alias_history(ref.name, AliasName.RELEASED)
    fall = Move(MoveKind.FALL, ref.version, holder.party, now)
    if history.current == ref.version:
        _move(tables, holder, ref.name, AliasName.RELEASED, fall)
    elif history.holds(ref.version):  # a move back must not lead to it
        tables.registry.move_alias(ref.name, AliasName.RELEASED, fall)
    return history.holds(ref.version)


def require_usable(tables: Tables, ref: ModelRef, *, party: str) -> ModelRecord:
    """Returns a model that this party holds and that may be used.

    Raises:
        ConfideError: UNKNOWN_MODEL; MODEL_REVOKED, with every reason.
    """
    record = tables.models.get(ref)
    marks = tables.registry.marks(ref)
    if marks:
        raise ConfideError(ErrorCode.MODEL_REVOKED, f"{ref.label} is not used any more: {why_marked(marks[0])}", party=party)
    return record


def model_findings(tables: Tables, job: Job) -> tuple[Finding, ...]:
    """Returns every reason for which the model that a job uses is not used any more here; others' consents are among them."""
    if job.model_ref is None:
        return ()
    remedy = "use another version, or train again without that owner's rows"
    return tuple(
        Finding(ErrorCode.MODEL_REVOKED, Problem("model_ref", f"{job.model_ref.label}: {why_marked(mark)}", remedy))
        for mark in tables.registry.marks(job.model_ref)
    )


def why_marked(mark: MarkRecord) -> str:
    """Returns why a version is not used any more, in a few words."""
    if mark.code is ErrorCode.MODEL_REVOKED:
        return f"{mark.issuer} has withdrawn it" + (" and destroyed its share" if mark.delete else "")
    if mark.code is ErrorCode.GRANT_EXPIRED:
        return f"{mark.issuer}'s grant {mark.subject} permits the use of derived models no longer"
    if mark.code is ErrorCode.NO_AGREEMENT:
        return f"{mark.issuer} has revoked the agreement {mark.subject[:12]}"
    return f"{mark.issuer} has revoked its grant {mark.subject}"


def _require_passed(holder: Holder, ref: ModelRef, alias: AliasName, passed: Decision | None) -> None:
    if alias is AliasName.RELEASED and (passed is None or passed.verdict is not Verdict.PASS or passed.ref != ref):
        what = f"the gate on evidence has not passed {ref.label}"
        raise ConfideError(ErrorCode.EVIDENCE_MISSING, what, party=holder.party)


def _say_receipts(tables: Tables, holder: Holder, *, now: datetime) -> None:
    for mark in tables.registry.all_marks():
        deletion = tables.registry.deletion(mark.ref) if mark.delete else None
        if deletion is None or deletion.done is None:
            continue
        receipt = DeletionReceipt(
            consortium=holder.consortium,
            holder=holder.party,
            ref=mark.ref,
            issuer=mark.issuer,
            subject=mark.subject,
            sealed_sha256=deletion.sealed_sha256,
            time=deletion.done.replace(microsecond=0),
        )
        tables.statements.say(sign_receipt(receipt, holder.key), now=now)


def _move(
    tables: Tables, holder: Holder, model: str, alias: AliasName, move: Move, *, authorisation: str | None = None
) -> AliasStatement:
    before = tables.registry.alias_history(model, alias)
    tables.registry.move_alias(model, alias, move)
    after = AliasHistory((*before.moves, move))
    said = _statement(holder, model, alias, move.kind, before, after, move.time)
    tables.statements.say(sign_alias(said, holder.key), now=move.time)
    facts: dict[str, Fact] = {
        "alias": said.label,
        "move": move.kind.value,
        "version": said.version,
        "before": said.before,
        "origin": move.origin,
        "authorisation": authorisation,
    }
    tables.audit.append(EntryKind.ALIAS, facts, now=move.time)
    return said


def _statement(
    holder: Holder, model: str, alias: AliasName, kind: MoveKind, before: AliasHistory, after: AliasHistory, now: datetime
) -> AliasStatement:
    return AliasStatement(
        consortium=holder.consortium,
        issuer=holder.party,
        model=model,
        alias=alias,
        move=kind,
        version=after.current,
        before=before.current,
        time=now.replace(microsecond=0),
    )
