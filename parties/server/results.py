"""What a session leaves at this party: sealed while it runs, usable once it has completed, destroyed otherwise.

The only place that hands an output share to anybody: `hand_out` asks the release gate and uses up the permission to open first.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from governance.audit.entries import EntryKind
from governance.commitments import NONCE_BYTES, CommittedShare, commitment_of
from governance.release import Withheld, openings, withheld, withheld_before_vote
from parties.model_registry import Holder
from parties.server.canary_audits import note_canary_audit
from parties.server.gate import evidence_of, note_withheld, settlement_of
from parties.server.noise_tests import note_noise_test
from parties.server.party import Party
from parties.server.releases import note_release, warm_release
from parties.storage.checkpoints import CheckpointRecord, checkpoint_object_id
from parties.storage.database import Tables
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.outputs import OpeningRecord, OutputRecord, output_object_id
from parties.storage.sealed import Purpose
from parties.worker.channel import Parcel
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output
from protocols.plan.plan import Plan

KEPT_CHECKPOINTS = 2  # of a job: should a party have failed while it kept the last one, all hold the one before
CHECKPOINT_RETENTION = timedelta(days=7)


@dataclass(frozen=True)
class HandedOut:
    """An output share on its way to its recipient; `share` is little-endian int64 bytes, `nonce` opens its commitment; secret."""

    output: OutputRecord
    nonce: bytes = field(repr=False)
    share: bytes = field(repr=False)


@dataclass(frozen=True)
class Sealed:
    """What this party says of the results that it has sealed; public.

    Attributes:
        commitments: to its shares of the outputs, by name, 64 hexadecimal digits each; empty if it computes nothing.
        withheld: every reason of its release gate for which nothing may be opened; empty if it may.
    """

    commitments: Mapping[str, str]
    withheld: tuple[Withheld, ...]


def seal_results(party: Party, job: Job, plan: Plan, parcel: Parcel) -> Sealed:
    """Seals what the worker made, and asks the release gate whether it may ever be opened; nothing of it is usable yet.

    Raises:
        ConfideError: as the stores and sealed files; INTERNAL (ours) if the worker of a computing party lacks an output.
    """
    records: list[ModelRecord | OutputRecord] = []
    try:
        _seal_results(party, job, plan, parcel, records)
        warm_release(party, job)
        holder = Holder.of(party.member, party.directory)
        with party.database.transaction() as tables:
            note_noise_test(tables, job, parcel.header.get("noise_test"), party=party.id, now=party.now())
            note_canary_audit(tables, holder, job, parcel.header.get("canary_audit"), now=party.now())
            return _keep(party, tables, job, records)
    except BaseException:  # whatever it was, no file stays that no table names
        _delete(party, (record.sealed_name for record in records))
        raise


def _keep(party: Party, tables: Tables, job: Job, records: Iterable[ModelRecord | OutputRecord]) -> Sealed:
    commitments, now = {}, party.now()
    for record in records:
        if isinstance(record, ModelRecord):
            tables.models.add(record)
            continue
        tables.outputs.add(record)
        commitments[record.name] = record.commitment
        facts = {"job": job.job_id, "output": record.name, "commitment": record.commitment}
        tables.audit.append(EntryKind.OUTPUT_COMMITTED, facts, now=now)
    reasons = withheld_before_vote(job, evidence_of(party, tables, job, now)) if job.closing_outputs else ()
    if reasons:
        note_withheld(tables, job, reasons, now=now)
    return Sealed(commitments, reasons)


def _seal_results(party: Party, job: Job, plan: Plan, parcel: Parcel, records: list[ModelRecord | OutputRecord]) -> None:
    produced, share = job.produced_model, parcel.blobs.get("model_share")
    if produced is not None and share is not None:
        records.append(
            ModelRecord(
                ref=produced,
                job_id=job.job_id,
                plan_digest=plan.digest,
                model_document=canonical_bytes(job.model.to_document()),
                schema_document=canonical_bytes(job.schema),
                sealed_name=party.sealed.write(Purpose.MODEL_SHARE, model_object_id(produced), share),
                commitments={f"{d.party}/{d.name}/{d.version}": d.commitment for d in job.datasets},
                created=party.now(),
                usable=False,
                steps=_steps(job),
            )
        )
    if party.id in job.computing_parties:
        records.extend(_seal_output(party, job, plan, parcel, output) for output in job.closing_outputs)


def _seal_output(party: Party, job: Job, plan: Plan, parcel: Parcel, output: Output) -> OutputRecord:
    share = parcel.blobs.get(f"output/{output.name}")
    if share is None:
        raise ConfideError(ErrorCode.INTERNAL, f"the worker made no share of output {output.name}")
    opened = CommittedShare(
        session=job.job_id,
        attempt=job.attempt,
        output=output.name,
        party=party.id,
        shape=tuple(parcel.header["shapes"][output.name]),
        scale_bits=next(planned.scale_bits for planned in plan.outputs if planned.name == output.name),
        share=share,
        nonce=secrets.token_bytes(NONCE_BYTES),
    )
    object_id = output_object_id(job.job_id, output.name)
    return OutputRecord(
        job_id=job.job_id,
        name=output.name,
        recipient=output.recipient,
        sealed_name=party.sealed.write(Purpose.OUTPUT_SHARE, object_id, opened.nonce + share),
        scale_bits=opened.scale_bits,
        shape=opened.shape,
        commitment=commitment_of(opened),
    )


def publish(party: Party, job: Job) -> None:
    """Makes the results of a completed session usable: the model, and the outputs if the release gate permits it. Idempotent."""
    now = party.now()
    warm_release(party, job)
    with party.database.transaction() as tables:
        for ref in tables.models.publish(job.job_id):
            tables.audit.append(EntryKind.MODEL_KEPT, {"model": ref.label, "job": job.job_id}, now=now)
        if not tables.outputs.of_job(job.job_id) or tables.outputs.withheld(job.job_id):
            return
        evidence, settlement = evidence_of(party, tables, job, now), settlement_of(party, tables, job)
        reasons = withheld(job, evidence, settlement)
        if reasons:
            note_withheld(tables, job, reasons, now=now)
            return
        note_release(party, tables, job, now)
        for grant in openings(job, evidence, settlement):
            if tables.openings.find(job.job_id, grant.output) is None:
                tables.openings.make(OpeningRecord(grant.opening_id, grant.job_id, grant.output, grant.recipient, made=now))


def discard(party: Party, job: Job) -> None:
    """Destroys the results of a session that did not complete. Idempotent."""
    with party.database.transaction() as tables:
        names = tables.models.discard(job.job_id) + tables.outputs.discard(job.job_id)
    _delete(party, names)


def hand_out(party: Party, *, job_id: str, output: str, recipient: str, request_id: str) -> HandedOut:
    """Uses the output's permission and returns this party's share for its recipient, if the release gate still permits it.

    Args:
        party: this party.
        job_id: the job.
        output: the output's name.
        recipient: the authenticated caller.
        request_id: chosen by the recipient; a repeated call with the same one is the same use.

    Raises:
        ConfideError: NO_GRANT, GRANT_USED or UNKNOWN_JOB (the caller's fault); RELEASE_WITHHELD (nobody's):
            a rule of the gate, which the error names, is not kept.
    """
    with party.database.transaction() as tables:
        job = Job.from_bytes(tables.jobs.get(job_id).document)
        known = (record for record in tables.outputs.of_job(job_id) if (record.name, record.recipient) == (output, recipient))
        record = next(known, None)
        if record is None:
            raise ConfideError(ErrorCode.NO_GRANT, f"{recipient} has no grant for output {output[:63]} of job {job_id[:32]}")
        reason = _open(party, tables, job, record, request_id=request_id)
    if reason:
        raise ConfideError(ErrorCode.RELEASE_WITHHELD, reason, party=party.id)
    kept = party.sealed.read(Purpose.OUTPUT_SHARE, record.object_id, record.sealed_name)
    return HandedOut(record, nonce=kept[:NONCE_BYTES], share=kept[NONCE_BYTES:])


def _open(party: Party, tables: Tables, job: Job, record: OutputRecord, *, request_id: str) -> str:
    """Uses up the permission; returns why it may not, if so: that is kept, and an error would undo it."""
    if record.withheld:
        return record.withheld
    now = party.now()
    reasons = withheld(job, evidence_of(party, tables, job, now), settlement_of(party, tables, job))
    if reasons:
        note_withheld(tables, job, reasons, now=now)
        return "; ".join(str(reason) for reason in reasons)
    known = tables.openings.find(job.job_id, record.name)
    used = tables.openings.use_once(job.job_id, record.name, recipient=record.recipient, request_id=request_id, now=now)
    if known is not None and known.used_at is None:
        facts = {"job": job.job_id, "output": record.name, "recipient": record.recipient, "opening": used.opening_id}
        tables.audit.append(EntryKind.OUTPUT_RELEASED, facts, now=now)
    return ""


def kept_shares(party: Party, tables: Tables, job: Job) -> dict[str, bytes]:
    """Returns this party's kept shares that a job's worker needs, secret: `model_share`, or `training_state` to go on from.

    Raises:
        ConfideError: UNKNOWN_MODEL, CHECKPOINT_DIFFERS or STATE_DAMAGED (this party's fault): it no longer holds them.
    """
    if job.resumes is not None:
        where = job.resumes
        checkpoint = tables.checkpoints.find(where.job_id, run=where.run, head=where.head)
        if checkpoint is None:
            raise ConfideError(ErrorCode.CHECKPOINT_DIFFERS, "the checkpoint is no longer held here", party=party.id)
        return {"training_state": party.sealed.read(Purpose.CHECKPOINT, checkpoint.object_id, checkpoint.sealed_name)}
    if job.model_ref is None:
        return {}
    record = tables.models.get(job.model_ref)
    name = "training_state" if job.job_type is JobType.TRAIN else "model_share"
    return {name: party.sealed.read(Purpose.MODEL_SHARE, record.object_id, record.sealed_name)}


def seal_checkpoint(party: Party, job: Job, *, run: int, head: str, state: bytes) -> None:
    """Seals a checkpoint of a training under way and destroys the job's older ones but one.

    Args:
        party: this party.
        job: the training.
        run: runs of the plan's segments behind it.
        head: 64 hexadecimal digits.
        state: refreshed shares of parameters and optimiser state, secret.

    Raises:
        ConfideError: DISK_FULL (the operator's fault): nothing of it is kept then.
    """
    name = party.sealed.write(Purpose.CHECKPOINT, checkpoint_object_id(job.job_id, run, head), state)
    try:
        with party.database.transaction() as tables:
            record = CheckpointRecord(job.job_id, run, head, name, party.now())
            dropped = tables.checkpoints.add(record, keep=KEPT_CHECKPOINTS)
    except BaseException:  # whatever it was, no file stays that no table names
        party.sealed.delete(name)
        raise
    _delete(party, dropped)


def drop_checkpoints(party: Party, job: Job, *, completed: bool) -> None:
    """Destroys the checkpoints of a training that nobody will go on from; if it completed, those of its attempts before too.

    Idempotent.
    """
    names: list[str] = []
    with party.database.transaction() as tables:
        known: Job | None = job
        while known is not None:
            names += tables.checkpoints.discard(known.job_id)
            earlier = tables.jobs.find(known.resumes.job_id) if completed and known.resumes is not None else None
            known = None if earlier is None else Job.from_bytes(earlier.document)
    _delete(party, names)


def drop_old_checkpoints(party: Party) -> None:
    """Destroys checkpoints that are older than their retention."""
    with party.database.transaction() as tables:
        names = tables.checkpoints.discard_older(party.now() - CHECKPOINT_RETENTION)
    _delete(party, names)


def _delete(party: Party, names: Iterable[str]) -> None:
    for name in names:
        party.sealed.delete(name)


def _steps(job: Job) -> int:
    training = job.training
    if training is None:
        return 0
    # The epochs of a private training count its steps.
    per_epoch = 1 if training.privacy is not None else -(-job.num_rows // training.batch_size)
    return training.steps_before + training.epochs * per_epoch
