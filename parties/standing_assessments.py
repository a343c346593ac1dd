"""Standing assessments at a party: a person orders one, sees how it stands, and ends it; when one is due, and when it is not fit.

The commands work while the party serves: what they write is in the shared database, and the serving process looks there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from governance.audit.entries import EntryKind, Fact
from governance.consent.reading import time_text
from governance.evidence.standing import (
    StandingAssessment,
    due_at,
    least_age_days,
    limited_figures,
    patience,
    shadows_asked,
    sign_order,
    tried_again_after,
)
from governance.identity.directory import Directory
from governance.people.roles import Action
from governance.policy.release import OF_SHADOWS
from governance.policy.rules import Policy
from governance.risk_report import StatedRisk
from parties.agreements import find_agreement, load_member, standing_of
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig, load_researcher_config
from parties.evidence_records import data_sets_behind
from parties.policy_file import load_policy
from parties.renewal import last_stated
from parties.standing_releases import standing_releases
from parties.storage.assessments import OrderRecord, RunRecord, RunState
from parties.storage.database import Tables, one_transaction
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType, ModelRef

if TYPE_CHECKING:
    from parties.client.requests import AssessRequest

DEFAULT_AGREE_MINUTES = 60
_LEFT = 6  # of the age of a report, the part that is left for a job when nobody else's is waited for any longer


@dataclass(frozen=True)
class ByPeople:
    """A figure that the policy limits and that no repetition measures: people of the owner renew it.

    Attributes:
        figure: its name.
        until: when its last measurement is too old, UTC; None if there is none.
    """

    figure: str
    until: datetime | None


@dataclass(frozen=True)
class OrderStanding:
    """How a standing assessment stands at its party.

    Attributes:
        record: the order.
        runs: the oldest first.
        due: from when the next assessment is due, UTC; None if none will be.
        by_people: what the policy limits beside, and the assessment does not measure.
        unknown: why that cannot be said; empty if it can.
    """

    record: OrderRecord
    runs: tuple[RunRecord, ...]
    due: datetime | None
    by_people: tuple[ByPeople, ...] = ()
    unknown: str = ""

    @property
    def runs_left(self) -> int:
        """How many jobs may still run."""
        return self.record.order.max_runs - _counted(self.runs)


def order_assessment(
    config: PartyConfig,
    person_folder: Path,
    request: AssessRequest,
    *,
    every_days: int,
    until: datetime,
    max_runs: int,
    now: datetime,
    for_owners: bool = False,
) -> OrderRecord:
    """Orders that an assessment be repeated; signed by the party and logged.

    A holder without rows in it submits nothing: it renews its evidence by what the owners state.

    Args:
        config: the party's.
        person_folder: of a data steward or privacy officer.
        request: what is asked each time; it names the version, the agreement and the purpose.
        every_days: at most so many days lie between two assessments; less if the policy takes a shorter age.
        until: when it ends, UTC; at most with the agreement.
        max_runs: at most so many jobs run.
        now: the time, UTC.
        for_owners: whether what a job opened is handed to the other owners whose rows took part.

    Raises:
        ConfideError: INVALID_ARGUMENT (the person's fault), with all problems; INVALID_CONFIG (the operator's): the configuration
            names nobody who asks; UNKNOWN_MODEL, UNKNOWN_DOCUMENT; JOB_CONFLICT: one stands already; NOT_AUTHORISED.
    """
    now = now.replace(microsecond=0)
    member, policy = load_member(config, now), load_policy(config.policy)
    measures = any(each.startswith(f"{config.party}/") for each in request.datasets)
    querier = _querier(config, member.directory) if measures else None
    missing = [name for name in ("agreement", "purpose") if getattr(request, name) is None]
    if missing:
        problems = [Problem(name, "an assessment that is repeated names it", "add it to the request") for name in missing]
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the request does not say under what it is made", problems=problems)
    name, _, version = request.model.partition("@")
    with one_transaction(config.folder.database_file) as tables:
        agreement = find_agreement(tables, request.agreement or "")
        out_of_force = standing_of(tables, agreement, member.directory, now=now)
        order = StandingAssessment(
            consortium=member.directory.consortium,
            party=config.party,
            querier=querier,
            ref=ModelRef(name, version),
            agreement=agreement.digest,
            purpose=request.purpose or "",
            computing_parties=tuple(request.computing_parties),
            dealer=request.dealer,
            datasets=tuple(request.datasets),
            members=tuple(request.members),
            attack=request.attack,
            shadows=request.shadows,
            thresholds=tuple(request.thresholds or ()),
            min_cell=request.min_cell,
            for_owners=for_owners,
            agree_within_minutes=request.agree_within_minutes or min(DEFAULT_AGREE_MINUTES, request.expires_in_minutes),
            expires_in_minutes=request.expires_in_minutes,
            every_days=every_days,
            max_runs=max_runs,
            made=now,
            until=until,
        )
        problems = [*out_of_force]
        if order.until > agreement.agreement.expires:
            what = f"the agreement {agreement.agreement.name} ends at {time_text(agreement.agreement.expires)}"
            problems.append(Problem("until", what, "choose an earlier end"))
        if order.purpose not in agreement.agreement.purposes:
            what = f"not one of the agreement's: {', '.join(agreement.agreement.purposes)}"
            problems.append(Problem("purpose", what, "name it in the request"))
        if JobType.ASSESS not in agreement.agreement.job_types:
            what = f"the agreement {agreement.agreement.name} permits none"
            problems.append(Problem("agreement", what, "name another one"))
        unfit = unfit_for(tables, order, policy=policy, now=now)
        if unfit:
            problems.append(Problem("request", unfit, "assess it by hand, or change the request"))
        if not order.measures and all(record.ref != order.ref for record in tables.models.usable()):
            what = f"{order.party} has no rows in it and holds no share of {order.ref.label}: there is nothing to repeat or renew"
            problems.append(Problem("datasets", what, f"have it ordered by {' and '.join(order.owners)}, and by the holders"))
        if problems:
            what = f"the assessment cannot be ordered, for {len(problems)} reason(s)"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, problems=problems)
    signed = sign_order(order, member.signing_key)
    authorisation = authorise(config, person_folder, Action.ORDER_ASSESSMENT, order.digest, now)
    with one_transaction(config.folder.database_file) as tables:
        record = OrderRecord(signed, keep_authorisation(tables, authorisation, now=now), now)
        tables.assessments.add(record)
        facts: dict[str, Fact] = {
            "order": order.digest,
            "model": order.ref.label,
            "step": "ordered",
            "until": time_text(order.until),
            "authorisation": record.authorisation,
        }
        tables.audit.append(EntryKind.STANDING_ASSESSMENT, facts, now=now)
    return record


def end_assessment(config: PartyConfig, person_folder: Path, digest: str, *, now: datetime) -> OrderRecord:
    """Ends a standing assessment at once: nothing is submitted any more, and what is under way is cancelled and not used.

    Raises:
        ConfideError: UNKNOWN_DOCUMENT; JOB_CONFLICT: it has ended already; NOT_AUTHORISED (the person's fault).
    """
    with one_transaction(config.folder.database_file) as tables:
        record = tables.assessments.get(digest)
    order = record.order
    authorisation = authorise(config, person_folder, Action.END_ASSESSMENT, order.digest, now)
    with one_transaction(config.folder.database_file) as tables:
        if not tables.assessments.end(order.digest, why=f"ended by {authorisation.signer}", now=now):
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"standing assessment {order.digest[:12]} has ended already")
        facts: dict[str, Fact] = {
            "order": order.digest,
            "model": order.ref.label,
            "step": "ended",
            "authorisation": keep_authorisation(tables, authorisation, now=now),
        }
        tables.audit.append(EntryKind.STANDING_ASSESSMENT, facts, now=now)
        return tables.assessments.get(order.digest)


def standing_assessments(config: PartyConfig, *, now: datetime) -> tuple[OrderStanding, ...]:
    """Returns all standing assessments of a party, the oldest first, those that have ended among them.

    Args:
        config: the party's.
        now: the time, UTC.
    """
    policy = load_policy(config.policy)
    with one_transaction(config.folder.database_file) as tables:
        return tuple(_standing(tables, record, policy, now) for record in tables.assessments.all())


def _standing(tables: Tables, record: OrderRecord, policy: Policy, now: datetime) -> OrderStanding:
    order, runs = record.order, tables.assessments.runs(record.order.digest)
    if record.ended is not None:
        return OrderStanding(record, runs, None)
    try:
        due = next_due(tables, order, policy=policy, now=now)
        return OrderStanding(record, runs, due, _by_people(tables, order, policy, now))
    except ConfideError as error:  # of one version, and no reason to say nothing of the others
        return OrderStanding(record, runs, None, unknown=f"{error.code.name}: {error.what}")


def next_due(tables: Tables, order: StandingAssessment, *, policy: Policy, now: datetime) -> datetime | None:
    """Returns from when the next assessment by an order that stands is due, UTC.

    None if none is while things stand as they do: its party has no rows in it, its runs are used up, or this party holds the
    version and `released` does not stand for it here.

    Args:
        tables: of the transaction; nothing is written.
        order: the order.
        policy: in force.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of the version is known here.
    """
    runs = tables.assessments.runs(order.digest)
    if not order.measures or _counted(runs) >= order.max_runs or not _is_wanted(tables, order.ref, policy):
        return None
    behind, terms = data_sets_behind(tables, order.ref, party=order.party, now=now), policy.release
    limited = frozenset() if terms is None else limited_figures(terms, behind)
    last = _last_stated(tables, order, behind, limited & order.figures or order.figures, policy, now)
    age = None if terms is None else least_age_days(terms, behind)
    due = due_at(order, last=None if last is None else last.made, max_age_days=age)
    # What a clock that was ahead has dated later keeps nothing waiting.
    tried = max((when for run in runs if (when := run.ended or run.started) <= now), default=None)
    return due if tried is None else max(due, tried + tried_again_after(age))


def waits_at_most(tables: Tables, order: StandingAssessment, *, policy: Policy, now: datetime) -> timedelta:
    """Returns for how long from when it is due an order's party leaves an assessment to another owner.

    Args:
        tables: of the transaction; nothing is written.
        order: the order.
        policy: in force.
        now: the time, UTC.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of the version is known here.
    """
    behind, terms = data_sets_behind(tables, order.ref, party=order.party, now=now), policy.release
    return patience(None if terms is None else least_age_days(terms, behind))


def _by_people(tables: Tables, order: StandingAssessment, policy: Policy, now: datetime) -> tuple[ByPeople, ...]:
    if policy.release is None or not order.measures:
        return ()
    behind = data_sets_behind(tables, order.ref, party=order.party, now=now)
    age, found = least_age_days(policy.release, behind), []
    for name in sorted(limited_figures(policy.release, behind) - order.figures):
        last = _last_stated(tables, order, behind, frozenset({name}), policy, now)
        found.append(ByPeople(name, None if last is None or age is None else last.made + timedelta(days=age)))
    return tuple(found)


def _last_stated(
    tables: Tables,
    order: StandingAssessment,
    behind: tuple[str, ...],
    figures: frozenset[str],
    policy: Policy,
    now: datetime,
) -> StatedRisk | None:
    of_shadows = policy.release is not None and any(name.startswith(OF_SHADOWS) for name in figures)
    return last_stated(
        tables,
        order.ref,
        party=order.party,
        used=frozenset(name for name in behind if name.startswith(f"{order.party}/")),
        figures=figures,
        shadows=shadows_asked(policy.release, behind) if policy.release is not None and of_shadows else 0,
        now=now,
    )


def unfit_for(tables: Tables, order: StandingAssessment, *, policy: Policy, now: datetime, job: Job | None = None) -> str:
    """Returns why an order's assessment would be of no use to the gate now; empty if it would.

    Args:
        tables: of the transaction; nothing is written.
        order: the order.
        policy: in force.
        now: the time, UTC.
        job: what would be submitted, once it is known.

    Raises:
        ConfideError: UNKNOWN_MODEL: no training of the version is known here.
    """
    behind = data_sets_behind(tables, order.ref, party=order.party, now=now)
    if policy.release is None:
        return "the policy says nothing about releases"
    limited = limited_figures(policy.release, behind)
    if order.measures and limited and not limited & order.figures:
        return f"the policy limits {', '.join(sorted(limited))}, which it does not measure"
    asked = shadows_asked(policy.release, behind)
    if order.measures and order.shadows < asked:
        return f"it trains {order.shadows} shadow models, and the policy takes a report of {asked} or more"
    age = least_age_days(policy.release, behind)
    if age is not None and timedelta(minutes=order.expires_in_minutes) > (left := timedelta(days=age) / _LEFT):
        return f"its jobs may live {order.expires_in_minutes} minutes; reports count for {age} day(s), and {left} is left for one"
    trained = {label.rpartition("/")[0] for label in behind}
    strange = [name for name in order.members if name not in trained]
    if strange:
        return f"{', '.join(strange)} did not go into {order.ref.label}"
    left_out = sorted({name for name in trained if name.startswith(f"{order.party}/")} - set(order.members))
    if left_out:
        return f"{', '.join(left_out)} went into {order.ref.label}, and it leaves them out"
    if job is not None and job.assessment is not None:
        chosen = [job.datasets[place] for place in job.assessment.members]
        other = [f"{each.party}/{each.name}/{each.version}" for each in chosen]
        other = [label for label in other if label not in behind]
        if other:
            return f"{', '.join(other)} has come after what {order.ref.label} was trained on"
    return ""


def _is_wanted(tables: Tables, ref: ModelRef, policy: Policy) -> bool:
    """Whether a release can rest on the assessment: at a holder, `released` stands for it; elsewhere nobody can tell."""
    holds = any(record.ref == ref for record in tables.models.usable())
    return not holds or ref in {each.ref for each in standing_releases(tables, policy)}


def _counted(runs: tuple[RunRecord, ...]) -> int:
    """Runs that count: one that was refused has computed nothing and opened nothing."""
    return sum(run.state is not RunState.REFUSED for run in runs)


def _querier(config: PartyConfig, directory: Directory) -> str:
    if config.assessor is None:
        what = "the configuration names no researcher in whose name assessments are repeated"
        raise ConfideError(ErrorCode.INVALID_CONFIG, what, remedy="Enrol one, and set `assessor` in party.yaml.")
    querier = directory.researcher(load_researcher_config(config.assessor).researcher)
    if querier.institution != config.party:
        what = f"{querier.id} is no researcher of {config.party}"
        raise ConfideError(ErrorCode.INVALID_CONFIG, what, remedy="Enrol one with `--institution`.")
    return querier.id
