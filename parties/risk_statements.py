"""Risk reports at an owner: what a researcher's assessment found is stated and signed by each party whose rows took part.

The researcher opens the counts and writes the figures into a file, with the shares of the counts; an owner's party opens the
counts again by what it knows of the assessment (`parties.assessed_jobs`), makes the figures itself, and signs them if the report
says the same. The gate of every holder reads what owners signed (`parties.evidence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.opened_assessment import FORMAT as OPENED_FORMAT
from governance.opened_assessment import WRITE_AGAIN, OpenedAssessment, read_opened_assessment
from governance.people.roles import Action
from governance.risk_report import StatedRisk, read_risk_report, sign_risk_report
from parties.agreements import load_member
from parties.assessed_jobs import open_assessed
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.storage.database import Tables, one_transaction
from parties.storage.files import read_public
from parties.storage.state import Member
from privacy.risk.joint import risk_of
from privacy.risk.report import ATTACKED_IN_SHARES, ATTACKED_IN_THE_CLEAR, RiskReport
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, ModelRef

MAX_FILE_BYTES = 1 << 20


def unsigned_risk(job: Job, report: RiskReport, *, now: datetime) -> StatedRisk:
    """Returns what a researcher hands to the owners: a report in the name of the first of them, which each signs in its own.

    Args:
        job: the assessment.
        report: what it found (`privacy.risk.joint.risk_of`).
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


def state_risk(config: PartyConfig, person_folder: Path, file: Path, *, method: str, now: datetime) -> SignedDocument:
    """Has a person of a party state what an assessment with its rows found; signed by the party and logged.

    Of an assessment in shares the party opens the counts itself and makes the figures of them: what it signs is its own finding,
    at the time at which the assessment ended. The counts and their shares go nowhere else.

    Args:
        config: the party's.
        person_folder: of a data steward or privacy officer.
        file: as `confide job result --report` wrote it; of an attack in the clear, a report as the owner itself wrote it.
        method: which of the two it is by the person's word (`privacy.risk.report`): nobody but the owner can check figures of an
            attack in the clear, so no file alone may say that it is of one.
        now: the time, UTC.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault): the file is no risk report, lacks the openings of an assessment in
            shares, is of the other method, or says anything else than the counts that they open; INVALID_ARGUMENT (the
            person's): it is of another consortium, later than now, none of the party's data sets took part, or, in the clear,
            others' did; UNKNOWN_DATASET: one of them is not registered here; UNKNOWN_JOB: no such assessment in shares has
            completed here; NOT_AUTHORISED.
    """
    now = now.replace(microsecond=0)
    member = load_member(config, now)
    said = parse_canonical(read_public(file, max_bytes=MAX_FILE_BYTES))
    opened = read_opened_assessment(said) if said.get("format") == OPENED_FORMAT else None
    found = read_risk_report(said) if opened is None else opened.report
    if found.consortium != member.directory.consortium or found.made > now:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{file.name} is of another consortium, or of a time that is yet to come")
    own = [name for name in found.datasets if name.startswith(f"{config.party}/")]
    if not own:
        what = f"no data set of {config.party} took part in it"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="State what was found with rows of your own.")
    _require_method(method, opened, found, party=config.party)
    if opened is None and len(own) < len(found.datasets):
        what = f"{config.party} alone cannot have attacked the model with rows of others in the clear"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="State what was found with rows of your own.")
    with one_transaction(config.folder.database_file) as tables:
        for name in own:
            _, dataset, version = name.split("/")
            tables.datasets.get(dataset, int(version))
        here = None if opened is None else open_assessed(tables, opened, party=config.party)
        log_size = tables.audit.size()
    if here is not None:
        found = _as_found_here(found, unsigned_risk(here.job, risk_of(here.job, here.counts), now=min(here.ended, now)))
    stated = replace(found, owner=config.party, log_size=log_size)
    authorisation = authorise(config, person_folder, Action.MAKE_EVIDENCE, stated.digest, now)
    with one_transaction(config.folder.database_file) as tables:
        facts: dict[str, Fact] = {"authorisation": keep_authorisation(tables, authorisation, now=now)}
        return keep_statement(tables, stated, member, facts, now=now)


def _require_method(method: str, opened: OpenedAssessment | None, found: StatedRisk, *, party: str) -> None:
    if method == ATTACKED_IN_SHARES and opened is None:
        what = f"the report lacks the openings of the counts, without which {party} cannot make its figures again"
        remedy = f"{WRITE_AGAIN} What {party} itself has found in the clear is stated with --in-the-clear."
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, remedy=remedy)
    if method == ATTACKED_IN_THE_CLEAR and (opened is not None or found.report.method != method):
        what = "the report is of an assessment in shares"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, remedy="Leave out --in-the-clear.")


def _as_found_here(said: StatedRisk, found: StatedRisk) -> StatedRisk:
    """Returns what the counts say, if the report says the same; whose name, time and log it has does not matter."""
    told, right = (replace(each, owner="", made=found.made, log_size=0).to_document() for each in (said, found))
    figures, computed = told.pop("figures"), right.pop("figures")
    told |= {f"figures.{name}": entry for name, entry in figures.items()}
    right |= {f"figures.{name}": entry for name, entry in computed.items()}
    problems = [
        Problem(name, f"it says {_in_words(told.get(name))}, the assessment {_in_words(right.get(name))}", "")
        for name in sorted({*told, *right})
        if told.get(name) != right.get(name)
    ]
    if problems:
        what = "the report is not what the openings beside it show"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, problems=problems, remedy=WRITE_AGAIN)
    return found


def _in_words(value: object) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def keep_statement(
    tables: Tables, found: StatedRisk, member: Member, facts: Mapping[str, Fact], *, now: datetime
) -> SignedDocument:
    """Signs what an assessment found in a party's own name, logs it, and tells it to the others.

    Args:
        tables: of the transaction.
        found: the report, in whoever's name; one without the size of a log has not been stated yet, and gets it now.
        member: the party.
        facts: by whose authorisation, and what else the entry of the log says.
        now: the time, UTC.
    """
    stated = replace(found, owner=member.identity.id, log_size=found.log_size or tables.audit.size())
    signed = sign_risk_report(stated, member.signing_key)
    said: dict[str, Fact] = {
        "model": found.ref.label,
        "report": stated.digest,
        "method": found.report.method,
        "figures": [f"{name} {each.to_document()[0]}" for name, each in sorted(found.figures.items())],
    }
    tables.audit.append(EntryKind.RISK_ASSESSED, said | dict(facts), now=now)
    tables.statements.say(signed, now=now)
    return signed
