"""Risk reports at an owner: what a researcher's assessment found is stated and signed by each party whose rows took part.

The researcher opens the counts and writes the figures into a file; an owner reads them, compares them with what its party knows
of the assessment, and signs. The gate of every holder reads what owners signed (`parties.evidence`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.people.roles import Action
from governance.risk_report import StatedRisk, read_risk_report, sign_risk_report
from parties.agreements import load_member
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.storage.database import one_transaction
from parties.storage.files import read_public
from privacy.risk.report import RiskReport
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef

MAX_FILE_BYTES = 1 << 20


def unsigned_risk(job: Job, report: RiskReport, *, now: datetime) -> StatedRisk:
    """Returns what a researcher hands to the owners: a report in the name of the first of them, which each signs in its own.

    Args:
        job: the assessment.
        report: what it found (`parties.client.risk.risk_of`).
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the job assesses no model.
    """
    if job.model_ref is None or job.assessment is None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"job {job.job_id} assesses no model")
    datasets = sorted(f"{each.party}/{each.name}/{each.version}" for each in job.datasets)
    ref = ModelRef(job.model_ref.name, job.model_ref.version)
    owner = datasets[0].partition("/")[0]
    return StatedRisk(job.consortium, owner, ref, now.replace(microsecond=0), tuple(datasets), report)


def state_risk(config: PartyConfig, person_folder: Path, file: Path, *, now: datetime) -> SignedDocument:
    """Has a person of a party state what an assessment with its rows found; signed by the party and logged.

    Args:
        config: the party's.
        person_folder: of a data steward or privacy officer.
        file: as `confide job result --report` wrote it.
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault): the file is no risk report; INVALID_ARGUMENT (the person's): it is of
            another consortium, later than now, or none of the party's data sets took part; UNKNOWN_DATASET: one of them is not
            registered here; NOT_AUTHORISED.
    """
    now = now.replace(microsecond=0)
    member = load_member(config, now)
    found = read_risk_report(parse_canonical(read_public(file, max_bytes=MAX_FILE_BYTES)))
    if found.consortium != member.directory.consortium or found.made > now:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{file.name} is of another consortium, or of a time that is yet to come")
    own = [name for name in found.datasets if name.startswith(f"{config.party}/")]
    if not own:
        what = f"no data set of {config.party} took part in it"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="State what was found with rows of your own.")
    with one_transaction(config.folder.database_file) as tables:
        for name in own:
            _, dataset, version = name.split("/")
            tables.datasets.get(dataset, int(version))
    stated = replace(found, owner=config.party)
    authorisation = authorise(config, person_folder, Action.MAKE_EVIDENCE, stated.digest, now)
    signed = sign_risk_report(stated, member.signing_key)
    with one_transaction(config.folder.database_file) as tables:
        facts: dict[str, Fact] = {
            "model": found.ref.label,
            "report": stated.digest,
            "method": found.report.method,
            "figures": [f"{name} {each.to_document()[0]}" for name, each in sorted(found.figures.items())],
            "authorisation": keep_authorisation(tables, authorisation, now=now),
        }
        tables.audit.append(EntryKind.RISK_ASSESSED, facts, now=now)
    return signed
