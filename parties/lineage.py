"""What this party's database says about models: the trainings behind them, withdrawals, uses, receipts, aliases.

Reads only; everything in one transaction of the caller's, so that what is shown belongs together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from governance.audit.entries import read_entry
from governance.audit.manifest import Manifest, ManifestProof
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument
from governance.lineage.alias import AliasName, AliasStatement
from governance.lineage.blast import BlastRadius, HolderAlias, OpenEnquiry, OpenJob
from governance.lineage.blast import blast_radius as radius_of
from governance.lineage.card import LogReference, ModelCard, card_of
from governance.lineage.graph import ModelRecords, PreparedBy
from governance.lineage.receipt import DeletionReceipt
from governance.lineage.standing import Basis, End, TrainingFacts, Withdrawal, ends, training_of, trainings_behind
from governance.prepared_with import preparations_in_words
from governance.privacy_claims import claim_of, claims_in_words, claims_of
from parties.storage.database import Tables
from parties.storage.grants import GrantRecord
from parties.storage.jobs import JobRecord
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, ModelRef
from protocols.session.messages import Countersignature, SessionMessage
from protocols.session.states import State


def bases_of(tables: Tables, job_id: str) -> tuple[Basis, ...]:
    """Returns the grants of all parties that a job uses, as their countersignatures name them.

    The countersignatures were verified when they arrived; one without a manifest names no grant.

    Raises:
        ConfideError: INVALID_DOCUMENT: a manifest that was not checked before it was kept (a defect of Confide).
    """
    found: list[Basis] = []
    for record in tables.jobs.countersignatures(job_id):
        body = SessionMessage.from_document(parse_canonical(record.document)).body
        if isinstance(body, Countersignature) and body.manifest:
            proof = ManifestProof.from_text(body.manifest)
            manifest = Manifest.from_facts(read_entry(proof.entry).facts)
            found += [Basis(record.party, use.grant_id, use.derived_until, job_id, use.covers_until) for use in manifest.grants]
    return tuple(found)


def training_facts(tables: Tables, record: JobRecord, job: Job) -> TrainingFacts:
    """Returns what this party knows of a training."""
    return TrainingFacts(job, bases_of(tables, job.job_id), record.state)


def trainings_behind_job(tables: Tables, job_id: str) -> dict[str, TrainingFacts]:
    """Returns a training and all trainings behind it that are known here, by job id; reads no other job."""
    found: dict[str, TrainingFacts] = {}
    waiting = [job_id]
    while waiting:
        record = tables.jobs.find(waiting.pop())
        if record is None or record.job_id in found:
            continue
        job = Job.from_bytes(record.document)
        found[job.job_id] = training_facts(tables, record, job)
        if job.resumes is not None:
            waiting.append(job.resumes.job_id)
        if job.model_ref is not None:
            waiting += [each.job_id for each in tables.jobs.starting_with(job.model_ref.version)]
    return found


def all_trainings(tables: Tables) -> dict[str, TrainingFacts]:
    """Returns all trainings that are known here, by job id."""
    found = {}
    for record in tables.jobs.all():
        job = Job.from_bytes(record.document)
        if job.job_type is JobType.TRAIN:
            found[job.job_id] = training_facts(tables, record, job)
    return found


def withdrawals(tables: Tables) -> tuple[Withdrawal, ...]:
    """Returns all revocations that have arrived here, this party's own among them."""
    found = (record.revocation for record in tables.revocations.all())
    return tuple(Withdrawal(each.issuer, each.subject, each.effect is Effect.DELETE, each.time) for each in found)


def receipts_of(tables: Tables, ref: ModelRef, *, party: str) -> tuple[DeletionReceipt, ...]:
    """Returns the deletion receipts of a model, this party's own among them."""
    return tuple(receipt for receipt in _receipts(tables, party=party) if receipt.ref == ref)


def aliases_everywhere(tables: Tables, *, party: str) -> tuple[HolderAlias, ...]:
    """Returns what every alias stands for, at this party and, by the last word that has arrived, at the other holders."""
    own = [HolderAlias(party, alias, ModelRef(name, version)) for (name, alias), version in tables.registry.aliases().items()]
    heard: dict[tuple[str, str, AliasName], AliasStatement] = {}
    for signed in tables.statements.heard(DocumentKind.ALIAS):
        said = AliasStatement.from_bytes(signed.body)
        key = (said.issuer, said.model, said.alias)
        if key not in heard or heard[key].time <= said.time:
            heard[key] = said
    others = [
        HolderAlias(said.issuer, said.alias, ModelRef(said.model, said.version))
        for said in heard.values()
        if said.version is not None
    ]
    return tuple(sorted([*own, *others], key=lambda each: (each.ref.name, each.alias.value, each.holder)))


def open_jobs(tables: Tables) -> tuple[OpenJob, ...]:
    """Returns the jobs that have not ended here, the oldest first."""
    return tuple(
        OpenJob(Job.from_bytes(record.document), State(record.state), tables.grants.used_by(record.job_id))
        for record in tables.jobs.without_ending()
    )


def blast_radius(tables: Tables, *, issuer: str, subject: str) -> BlastRadius:
    """Returns what would end, as far as this party knows, if it revoked one of its grants or an agreement.

    Args:
        tables: of one transaction.
        issuer: this party.
        subject: id of the grant (32 hexadecimal digits) or digest of the agreement (64).
    """
    return radius_of(
        issuer=issuer,
        subject=subject,
        trainings=all_trainings(tables),
        open_jobs=open_jobs(tables),
        aliases=aliases_everywhere(tables, party=issuer),
        enquiries=open_enquiries(tables),
    )


def open_enquiries(tables: Tables) -> tuple[OpenEnquiry, ...]:
    """Returns the enquiries that this party answers, the oldest first."""
    return tuple(
        OpenEnquiry(
            enquiry_id=record.enquiry.enquiry_id,
            querier=record.enquiry.querier,
            model=record.enquiry.ref.label,
            grant=record.grant_id,
            agreement=record.enquiry.agreement,
        )
        for record in tables.encrypted.open_enquiries()
    )


def model_records(tables: Tables, *, party: str, now: datetime) -> ModelRecords:
    """Returns what this party knows of all models, their trainings and uses."""
    trainings: dict[str, TrainingFacts] = {}
    uses: list[tuple[Job, str]] = []
    for record in tables.jobs.all():
        job = Job.from_bytes(record.document)
        if job.job_type is JobType.TRAIN:
            trainings[job.job_id] = training_facts(tables, record, job)
        else:
            uses.append((job, record.state))
    withdrawn, receipts = withdrawals(tables), _receipts(tables, party=party)
    found = {
        made: (*ends(trainings_behind(job_id, trainings), withdrawn, now=now), *_own_decisions(tables, facts, receipts, party))
        for job_id, facts in trainings.items()
        if (made := facts.job.produced_model) is not None
    }
    return ModelRecords(
        trainings=trainings,
        uses=uses,
        aliases=aliases_everywhere(tables, party=party),
        ends=found,
        receipts=receipts,
        preparations={
            f"{party}/{record.name}/{record.version}": _prepared_by(record.signed) for record in tables.preparations.all()
        },
    )


def _prepared_by(signed: SignedDocument) -> PreparedBy:
    made = signed.document
    contract, recipe = made["contract"], made["recipe"]
    return PreparedBy(
        (contract["name"], sha256_hex(canonical_bytes(contract))),
        (f"{recipe['name']} version {recipe['version']}", sha256_hex(canonical_bytes(recipe))),
        sha256_hex(signed.body),
    )


def _receipts(tables: Tables, *, party: str) -> tuple[DeletionReceipt, ...]:
    signed = [
        *tables.statements.own(DocumentKind.DELETION_RECEIPT, party=party),
        *tables.statements.heard(DocumentKind.DELETION_RECEIPT),
    ]
    return tuple(DeletionReceipt.from_bytes(each.body) for each in signed)


def _own_decisions(tables: Tables, facts: TrainingFacts, receipts: Iterable[DeletionReceipt], party: str) -> Iterator[End]:
    """Yields what holders have decided about a model by themselves: this party by its marks, the others by their receipts."""
    ref, code = facts.job.produced_model, ErrorCode.MODEL_REVOKED
    if ref is None:
        return
    for mark in tables.registry.marks(ref):
        if mark.code is code:
            yield End(mark.issuer, mark.subject, code, mark.delete, mark.marked, facts.job.job_id)
    for receipt in receipts:
        if (receipt.ref, receipt.subject) == (ref, ref.label) and receipt.holder in set(facts.job.computing_parties) - {party}:
            yield End(receipt.holder, receipt.subject, code, delete=True, since=receipt.time, job_id=facts.job.job_id)


def find_training(records: ModelRecords, ref: ModelRef) -> TrainingFacts:
    """Returns the training that made a model.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault): this party knows no completed training of it.
    """
    made = training_of(ref, records.trainings)
    if made is None or made.state != State.COMPLETED.value:
        known = sorted(facts.job.produced_model.label for facts in records.trainings.values() if facts.job.produced_model)
        remedy = f"Choose among {', '.join(known[:10])}." if known else "Train one first."
        raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"no completed training of {ref.label} is known here", remedy=remedy)
    return made


def explain_model(tables: Tables, records: ModelRecords, ref: ModelRef, *, party: str, now: datetime) -> tuple[str, ...]:
    """Returns in sentences why a model may be used now, or why not, by which consents and until when.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """
    behind = trainings_behind(find_training(records, ref).job.job_id, records.trainings)
    ended = [end.sentence for end in records.ends.get(ref, ())]
    verdict = "may not be used" if ended else "may be used, as far as consent goes"
    said = [f"{ref.label} {verdict}, as {party} sees it at {now:%Y-%m-%d %H:%M:%S} UTC."]
    said += [f"Because {why}." for why in ended]
    said.append(f"Privacy: {claims_in_words(claims_of(facts.job for facts in behind))}.")
    for facts in behind:
        job = facts.job
        rows = ", ".join(f"{d.party}/{d.name}/{d.version}" for d in job.datasets)
        agreement = _agreement(tables, job.agreement, now)
        said.append(f"Job {job.job_id[:12]} trained it for {job.purpose} on {rows}, under agreement {agreement}.")
        said.append(f"That training: {claim_of(job).in_words}.")
        said += [f"It was prepared with {line}." for line in preparations_in_words(job)]
        said += [_consent(tables, basis, party=party) for basis in facts.bases]
        silent = sorted(facts.owners - {basis.party for basis in facts.bases})
        said += [f"No grant of {owner} is shown for that job." for owner in silent]
    return tuple(said)


def log_references(tables: Tables, refs: Iterable[ModelRef], job_ids: Iterable[str]) -> tuple[LogReference, ...]:
    """Returns the entries of this party's audit log about these models and jobs, in their order."""
    labels, jobs = {ref.label for ref in refs}, set(job_ids)
    found: list[LogReference] = []
    for logged in tables.audit.naming(labels | jobs):  # the party writes nothing meanwhile, so it must not take long
        entry = read_entry(logged.body)
        if entry.facts.get("model") in labels or entry.facts.get("job") in jobs:
            about = entry.facts.get("model") or entry.facts.get("job")
            found.append(LogReference(entry.index, entry.kind.value, str(about)))
    return tuple(found)


def model_card(tables: Tables, records: ModelRecords, ref: ModelRef, *, party: str, now: datetime) -> ModelCard:
    """Returns the card of a model from what this party knows.

    Raises:
        ConfideError: UNKNOWN_MODEL (the asker's fault).
    """
    made = find_training(records, ref)
    behind = trainings_behind(made.job.job_id, records.trainings)
    own = {basis.grant_id for facts in behind for basis in facts.bases if basis.party == party}
    restrictions = [_terms(record) for grant_id in sorted(own) if (record := tables.grants.find(grant_id)) is not None]
    jobs = [facts.job.job_id for facts in behind]
    log = log_references(tables, [ref], jobs)
    return card_of(ref, records, party=party, made_by=made, restrictions=restrictions, log=log, now=now)


def _agreement(tables: Tables, digest: str, now: datetime) -> str:
    signed = tables.agreements.find(digest)
    if signed is None:
        return f"{digest[:12]}, which is not known here"
    ended = " (expired)" if now >= signed.agreement.expires else ""
    return f"{signed.agreement.name} ({digest[:12]}){ended}"


def _consent(tables: Tables, basis: Basis, *, party: str) -> str:
    until = "without an end" if basis.until is None else f"until {basis.until:%Y-%m-%d %H:%M:%S} UTC"
    said = f"{basis.party} permitted that by grant {basis.grant_id}, and the use of models that come of it {until}."
    record = tables.grants.find(basis.grant_id) if basis.party == party else None
    return said if record is None else f"{said} {_terms(record)}"


def _terms(record: GrantRecord) -> str:
    grant = record.grant
    uses = ", ".join(kind.value for kind in grant.derived_job_types) or "nothing"
    opened = ", ".join(rule.kind.value for rule in grant.outputs) or "nothing"
    return (
        f"Grant {record.grant_id[:12]} of {grant.issuer}: derived models for {uses}, opening {opened}, for"
        f" {', '.join(grant.purposes)}, by {', '.join(grant.recipients)}; used {record.uses} of {grant.max_uses} times."
    )
