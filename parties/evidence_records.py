"""Bundles of evidence as a holder's records make them: the trainings behind a version, and what is known of each.

Reads the database, and signs and keeps what follows from it; what the gate says to a bundle is asked in `parties.evidence`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from math import prod

from governance.audit.entries import EntryKind, Fact, read_entry
from governance.documents import SignedDocument
from governance.evidence.answered import Told, unanswered
from governance.evidence.bundle import EvidenceBundle, sign_evidence, verify_evidence, with_changes
from governance.evidence.facts import NoiseTest, TrainingEvidence
from governance.evidence.overtaken import Overtaken, Questions, overtaken_of, questions_of
from governance.identity.directory import Directory
from governance.lineage.standing import TrainingFacts, trainings_behind
from governance.policy.rules import Policy
from parties.lineage import find_training, model_records
from parties.model_registry import Holder
from parties.storage.database import Tables
from parties.storage.evidence import EvidenceRecord
from parties.told_audits import told_audits
from parties.told_reports import ToldReport, told_reports
from privacy.accounting.statement import statement_of
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import Job, ModelRef
from protocols.mpc.noisy_sums_design import canaries_of, is_noisy_sums
from protocols.private_job_checks import contributors


def keep_evidence(
    tables: Tables,
    holder: Holder,
    ref: ModelRef,
    *,
    directory: Directory,
    policy: Policy,
    risk_reports: tuple[SignedDocument, ...],
    utility: tuple[SignedDocument, ...],
    left_out: Collection[bytes],
    authorisation: str,
    now: datetime,
) -> EvidenceRecord:
    """Makes, signs and keeps a bundle of a holder's records and of these reports; the same bundle again changes nothing.

    What the owners have told about the version and these reports replace is carried on in it until people decide.

    Args:
        tables: of the transaction.
        holder: this party.
        ref: the version.
        directory: whose keys are believed.
        policy: in force; what it limits is carried on.
        risk_reports: verified ones.
        utility: verified ones, on evaluations that are known here.
        left_out: bodies of what owners have told that a later bundle will have.
        authorisation: digest of the person's, who had it made, or ordered that it be made by itself.
        now: the time, UTC, whole seconds.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of it is known here; TOO_LARGE: more was found than a bundle holds.
    """
    bundle = _bundle(tables, holder, ref, risk_reports, utility, now)
    bundle = replace(bundle, overtaken=_overtaken(tables, bundle, policy, left_out, now=now))
    before = _decided_before(tables, directory, bundle.ref.name)
    bundle = replace(bundle, previous=None if before is None else before.digest, changes=with_changes(bundle, before))
    record = EvidenceRecord(
        bundle.digest,
        ref,
        sign_evidence(bundle, holder.key),
        now,
        said=tables.statements.last_number(),
        heard=tables.statements.last_heard(),
    )
    if tables.evidence.add(record):
        facts: dict[str, Fact] = {
            "model": ref.label,
            "evidence": record.digest,
            "previous": bundle.previous,
            "risk_reports": [sha256_hex(report.body) for report in risk_reports],
            "authorisation": authorisation,
        }
        tables.audit.append(EntryKind.EVIDENCE_SIGNED, facts, now=now)
    return record


def behind(tables: Tables, ref: ModelRef, *, party: str, now: datetime) -> tuple[TrainingFacts, ...]:
    """Returns all trainings behind a version, the latest first.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of it is known here.
    """
    records = model_records(tables, party=party, now=now)
    return trainings_behind(find_training(records, ref).job.job_id, records.trainings)


def data_sets_behind(tables: Tables, ref: ModelRef, *, party: str, now: datetime) -> tuple[str, ...]:
    """Returns `party/name/version` of every data set whose rows went into a version, sorted.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of it is known here.
    """
    found = behind(tables, ref, party=party, now=now)
    return tuple(sorted({f"{d.party}/{d.name}/{d.version}" for facts in found for d in facts.job.datasets}))


def trainings_of(tables: Tables, found: Iterable[TrainingFacts], *, party: str) -> tuple[TrainingEvidence, ...]:
    """Returns what a holder's records say of trainings now, by the accountant of today.

    Raises:
        ConfideError: INVALID_JOB: the accountant gives more than one of them claims.
    """
    return tuple(
        TrainingEvidence(
            job=facts.job.job_id,
            datasets=tuple(sorted({f"{d.party}/{d.name}/{d.version}" for d in facts.job.datasets})),
            guarantee=statement_of(facts.job),
            noise_test=_noise_test(tables, facts.job.job_id),
            audits=told_audits(tables, facts.job, party=party),
            canaries=_canaries(facts.job),
        )
        for facts in found
    )


def questions_here(tables: Tables, ref: ModelRef, policy: Policy) -> Questions:
    """Returns which figures of risk the gate asks about at this party, of bundles about a version."""
    found = (tables.evidence.last_decided(ref.name), tables.evidence.last_decided(ref.name, version=ref.version))
    decided = [EvidenceBundle.from_bytes(each.signed.body) for each in found if each is not None]
    return questions_of(policy.release, decided)


def still_asked(
    told: Iterable[ToldReport], kept: Iterable[EvidenceRecord], questions: Questions, *, party: str
) -> tuple[SignedDocument, ...]:
    """Returns which reports have something that people have not decided on since they reached this party.

    Args:
        told: about a version.
        kept: all bundles of this party about it, as they were made.
        questions: of the gate.
        party: this party.
    """
    decided = [record for record in kept if record.decided is not None]
    found = [Told(each.signed, each.stated, _made_before(each, decided, party=party)) for each in told]
    return unanswered(found, [EvidenceBundle.from_bytes(each.signed.body) for each in decided], questions)


def must_carry_more(tables: Tables, last: EvidenceBundle, policy: Policy, left_out: Collection[bytes], *, now: datetime) -> bool:
    """Returns whether a bundle with the same reports would carry on a report now that the last one does not.

    One that reached this party after a later one of its owner is such a report: it takes the place of none.

    Args:
        tables: of the transaction; nothing is written.
        last: the last bundle of this party about a version.
        policy: in force.
        left_out: bodies of what owners have told that a later bundle will have.
        now: the time, UTC.
    """
    carried = _overtaken(tables, last, policy, left_out, now=now)
    return not {each.body for each in carried.risk_reports} <= {each.body for each in last.overtaken.risk_reports}


def _bundle(
    tables: Tables,
    holder: Holder,
    ref: ModelRef,
    reports: tuple[SignedDocument, ...],
    utility: tuple[SignedDocument, ...],
    now: datetime,
) -> EvidenceBundle:
    found = behind(tables, ref, party=holder.party, now=now)
    spec = found[0].job.model
    records = model_records(tables, party=holder.party, now=now)
    trainings = trainings_of(tables, found, party=holder.party)
    used = {name for training in trainings for name in training.datasets}
    return EvidenceBundle(
        consortium=holder.consortium,
        issuer=holder.party,
        ref=ref,
        time=now,
        previous=None,
        trainings=trainings,
        architecture=sha256_hex(canonical_bytes(spec.to_document())),
        parameters=sum(prod(parameter.shape) for parameter in spec.parameters),
        preparations={name: by.statement for name, by in sorted(records.preparations.items()) if name in used},
        risk_reports=reports,
        utility=utility,
    )


def _overtaken(
    tables: Tables, bundle: EvidenceBundle, policy: Policy, left_out: Collection[bytes], *, now: datetime
) -> Overtaken:
    ref, questions = bundle.ref, questions_here(tables, bundle.ref, policy)
    kept = [record for record in tables.evidence.of_model(ref.name) if record.ref == ref]
    decided = tables.evidence.last_decided(ref.name, version=ref.version)
    told = told_reports(tables, ref, party=bundle.issuer, used=bundle.datasets, now=now)
    open_ones = still_asked(told, kept, questions, party=bundle.issuer)
    return overtaken_of(
        bundle,
        last=EvidenceBundle.from_bytes(kept[-1].signed.body) if kept else None,
        told=[signed for signed in open_ones if signed.body not in left_out],
        decided=None if decided is None else EvidenceBundle.from_bytes(decided.signed.body),
        questions=questions,
    )


def _made_before(report: ToldReport, records: Iterable[EvidenceRecord], *, party: str) -> int:
    """How many bundles were made before a report was stated here, or reached this party."""
    is_own = report.signed.signer == party
    return sum((record.said if is_own else record.heard) < report.number for record in records)


def _decided_before(tables: Tables, directory: Directory, name: str) -> EvidenceBundle | None:
    before = tables.evidence.last_decided(name)
    return None if before is None else verify_evidence(before.signed, directory)


def _noise_test(tables: Tables, job_id: str) -> NoiseTest | None:
    """The last test of the noise of a job that this party's log tells of."""
    for logged in reversed(tables.audit.naming({job_id})):
        entry = read_entry(logged.body)
        if entry.kind is EntryKind.NOISE_TESTED and entry.facts.get("job") == job_id:
            return NoiseTest(entry.index, str(entry.facts.get("result", "")))
    return None


def _canaries(job: Job) -> dict[str, int]:
    """How many canaries each owner has by the job, of those that have some."""
    if not is_noisy_sums(job):
        return {}
    return {owner: count for owner in contributors(job) if (count := len(canaries_of(job, owner)))}
