"""What a session leaves at this party: sealed while it runs, usable once it has completed, destroyed otherwise.

The only place that hands an output share to anybody: `hand_out` uses up the opening's grant first.
"""

from __future__ import annotations

from dataclasses import dataclass

from governance.release import grants
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.models import ModelRecord, model_object_id
from parties.storage.outputs import GrantRecord, OutputRecord, output_object_id
from parties.storage.sealed import Purpose
from parties.worker.channel import Parcel
from protocols.canonical import canonical_bytes
from protocols.job import Job
from protocols.plan.plan import Plan


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
    with party.database.transaction() as tables:
        for record in records:
            if isinstance(record, ModelRecord):
                tables.models.add(record)
            else:
                tables.outputs.add(record)


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
    for name in names:
        party.sealed.delete(name)


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


def model_share(party: Party, tables: Tables, job: Job) -> bytes | None:
    """Returns this party's share of the model that a job uses, or None if it uses none."""
    if job.model_ref is None:
        return None
    record = tables.models.get(job.model_ref)
    return party.sealed.read(Purpose.MODEL_SHARE, record.object_id, record.sealed_name)
