"""What a session leaves at this party: sealed while it runs, usable once it has completed, destroyed otherwise.

The only place that hands an output share to anybody: `hand_out` uses up the opening's grant first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from governance.release import grants
from parties.server.party import Party
from parties.storage.checkpoints import CheckpointRecord, checkpoint_object_id
from parties.storage.database import Tables
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.outputs import GrantRecord, OutputRecord, output_object_id
from parties.storage.sealed import Purpose
from parties.worker.channel import Parcel
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType
from protocols.plan.plan import Plan

KEPT_CHECKPOINTS = 2  # of a job: should a party have failed while it kept the last one, all hold the one before
CHECKPOINT_RETENTION = timedelta(days=7)


@dataclass(frozen=True)
class HandedOut:
    """An output share on its way to its recipient; `share` is little-endian int64 bytes and secret."""

    output: OutputRecord
    share: bytes


def seal_results(party: Party, job: Job, plan: Plan, parcel: Parcel) -> None:
    """Seals what the worker made; nothing of it is usable yet.

    Raises:
        ConfideError: as the stores and sealed files.
    """
    records: list[ModelRecord | OutputRecord] = []
    try:
        _seal_results(party, job, plan, parcel, records)
        with party.database.transaction() as tables:
            for record in records:
                if isinstance(record, ModelRecord):
                    tables.models.add(record)
                else:
                    tables.outputs.add(record)
    except BaseException:  # whatever it was, no file stays that no table names
        _delete(party, (record.sealed_name for record in records))
        raise


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
    for output in job.outputs:
        blob = parcel.blobs.get(f"output/{output.name}")
        if blob is None:
            continue
        records.append(
            OutputRecord(
                job_id=job.job_id,
                name=output.name,
                recipient=output.recipient,
                sealed_name=party.sealed.write(Purpose.OUTPUT_SHARE, output_object_id(job.job_id, output.name), blob),
                scale_bits=next(planned.scale_bits for planned in plan.outputs if planned.name == output.name),
                shape=tuple(parcel.header["shapes"][output.name]),
            )
        )


def publish(party: Party, job: Job) -> None:
    """Makes the results of a completed session usable: the model, and a grant for every output. Idempotent.

    Raises:
        ConfideError: NO_GRANT if the job was not countersigned by everybody with this plan.
    """
    with party.database.transaction() as tables:
        tables.models.publish(job.job_id)
        if not tables.outputs.of_job(job.job_id):
            return
        plan = tables.jobs.plan(job.job_id)
        signed = {record.party: record.plan_digest for record in tables.jobs.countersignatures(job.job_id)}
        for grant in grants(job, plan_digest=plan.digest if plan else "", countersignatures=signed):
            if tables.grants.find(job.job_id, grant.output) is None:
                tables.grants.make(
                    GrantRecord(grant.grant_id, grant.job_id, grant.output, grant.recipient, made=party.now(), used_at=None)
                )


def discard(party: Party, job: Job) -> None:
    """Destroys the results of a session that did not complete. Idempotent."""
    with party.database.transaction() as tables:
        names = tables.models.discard(job.job_id) + tables.outputs.discard(job.job_id)
    _delete(party, names)


def hand_out(party: Party, *, job_id: str, output: str, recipient: str, request_id: str) -> HandedOut:
    """Uses the output's grant and returns this party's share for its recipient.

    Args:
        party: this party.
        job_id: the job.
        output: the output's name.
        recipient: the authenticated caller.
        request_id: chosen by the recipient; a repeated call with the same one is the same use.

    Raises:
        ConfideError: NO_GRANT, GRANT_USED, NOT_READY, UNKNOWN_OUTPUT or UNKNOWN_JOB (the caller's fault).
    """
    with party.database.transaction() as tables:
        tables.jobs.get(job_id)
        tables.grants.use_once(job_id, output, recipient=recipient, request_id=request_id, now=party.now())
        record = tables.outputs.get(job_id, output)
    return HandedOut(record, party.sealed.read(Purpose.OUTPUT_SHARE, record.object_id, record.sealed_name))


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
    return 0 if training is None else training.steps_before + training.epochs * -(-job.num_rows // training.batch_size)
