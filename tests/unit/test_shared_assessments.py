"""One assessment for all owners that have ordered the same: who asks, who waits, and how the others come to state it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from governance.documents import DocumentKind
from governance.evidence.standing import due_at, patience, tried_again_after
from governance.opened_assessment import OpenedAssessment, committed_shares, opened_assessment, read_opened_assessment
from governance.risk_report import read_risk_report
from parties import harness
from parties.risk_statements import unsigned_risk
from parties.server.handing_over import STAGGER, adopt, is_same, waits_for_another
from privacy.risk.joint import risk_of
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.states import State
from tests.support.assessing import DUE, Served
from tests.support.evidence_holder import PARTIES
from tests.support.members import NOW
from tests.support.opened_counts import shares_of
from tests.support.orders import an_order
from tests.support.standing import MEMBERS, OTHERS, UNTOLD, an_assessment, enrol_assessor

OF_B = "assessor-of-b"
BOTH = [f"{party}/{name}" for party in ("hospital-a", "hospital-b") for name in (MEMBERS, OTHERS)]
REQUEST: dict[str, Any] = {"datasets": BOTH, "members": [BOTH[0], BOTH[2]]}
HANDS = ("--for-owners",)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    harness.make_consortium(folder, PARTIES)
    enrol_assessor(folder, "hospital-a", PARTIES)
    enrol_assessor(folder, "hospital-b", PARTIES, name=OF_B)
    return folder


@pytest.fixture
def served(consortium: Path, tmp_path: Path) -> Iterator[Served]:
    made = Served(shutil.copytree(consortium, tmp_path / "consortium"))
    made.release()
    yield made
    made.party.database.close()


def job_of_b(served: Served, *, nonce: str = "b0" * 16) -> Job:
    """Hospital B's repetition of what hospital A has ordered too."""
    with served.party.database.transaction() as tables:
        order = tables.assessments.all()[0].order
    return an_assessment(order, created=served.party.now(), nonce=nonce, querier=OF_B)


def opened_by_b(served: Served, job: Job) -> OpenedAssessment:
    found = unsigned_risk(job, risk_of(job, UNTOLD), now=served.party.now())
    return opened_assessment(found, shares_of(job, UNTOLD))


def as_bytes(opened: OpenedAssessment) -> bytes:
    return canonical_bytes(opened.to_document())


def stated(served: Served) -> int:
    with served.party.database.transaction() as tables:
        return len(tables.statements.own(DocumentKind.RISK_REPORT, party="hospital-a"))


def test_owner_waits_while_another_one_assesses_the_same_and_states_what_that_one_opened(served: Served) -> None:
    served.order(**REQUEST)
    served.party.clock[0] = served.begun + timedelta(days=DUE)
    job = job_of_b(served)
    served.network.submit(job)
    served.network.submitted.clear()
    assert served.look_after(days=DUE, minutes=1) == []
    served.network.end(job)
    assert served.look_after(days=DUE, minutes=2) == []  # it may still be handed over
    assert adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, job)))
    assert adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, job)))  # again changes nothing
    assert (served.states(), stated(served)) == (["done"], 1)
    assert served.look_after(days=DUE, minutes=30) == ["done"]
    assert served.network.submitted == []
    with served.party.database.transaction() as tables:
        (said,) = tables.statements.own(DocumentKind.RISK_REPORT, party="hospital-a")
        bundle = tables.evidence.latest(served.ref)
    assert said.to_bytes().decode() in bundle.signed.document["risk_reports"]
    report = read_risk_report(said.document)
    assert (report.owner, report.made) == ("hospital-a", served.begun + timedelta(days=DUE, minutes=1))
    (assessed,) = served.entries(EntryKind.RISK_ASSESSED)
    assert assessed["job"] == job.job_id
    assert served.entries(EntryKind.STANDING_ASSESSMENT)[-1]["what"] == "asked for by hospital-b"
    # The counts stay between the owners.
    secrets = [opening.share.hex() for opening in opened_by_b(served, job).openings.values()]
    assert not any(text in said.body.decode() or text in str(assessed) for text in secrets)


def test_owner_that_is_handed_nothing_asks_for_a_job_of_its_own(served: Served) -> None:
    served.order(**REQUEST)
    served.party.clock[0] = served.begun + timedelta(days=DUE)
    job = job_of_b(served)
    served.network.submit(job)
    served.network.end(job)
    assert served.look_after(days=DUE, minutes=10) == []
    assert served.look_after(days=DUE, minutes=16) == ["under-way"]


def test_what_was_opened_is_handed_to_the_other_owners_if_the_order_says_so(served: Served) -> None:
    served.order(**REQUEST, options=HANDS)
    served.network.unreached = ConfideError(ErrorCode.UNKNOWN_JOB, "hospital-b has not heard of the ending")
    assert served.repeat(days=DUE, minutes=1) == ["done"]
    assert served.network.handed == []
    served.network.unreached = None
    served.look_after(days=DUE, minutes=2)
    ((owner, body),) = served.network.handed
    opened = read_opened_assessment(parse_canonical(body))
    assert (owner, opened.job_id) == ("hospital-b", served.network.submitted[0].job_id)
    assert committed_shares(opened, served.network.submitted[0]) == shares_of(served.network.submitted[0], UNTOLD)
    noted = served.entries(EntryKind.STANDING_ASSESSMENT)[-1]  # who learned the counts
    assert (noted["step"], noted["what"], noted["job"]) == ("handed-over", "to hospital-b", opened.job_id)
    served.look_after(days=DUE, minutes=3)
    assert len(served.network.handed) == 1


def test_what_cannot_be_handed_over_is_given_up(served: Served) -> None:
    served.order(**REQUEST, options=HANDS)
    served.network.unreached = ConfideError(ErrorCode.PARTY_UNREACHABLE, "hospital-b cannot be reached")
    served.repeat(days=DUE, minutes=1)
    served.look_after(days=DUE, minutes=20)
    served.network.unreached = None
    served.look_after(days=DUE, minutes=21)
    assert served.network.handed == []


def test_counts_go_to_nobody_unless_the_order_says_so(served: Served) -> None:
    served.order(**REQUEST)
    assert served.repeat(days=DUE, minutes=1) == ["done"]
    assert served.network.handed == []


def completed_by_b(served: Served) -> Job:
    served.party.clock[0] = served.begun + timedelta(days=DUE)
    job = job_of_b(served)
    served.network.submit(job)
    served.network.end(job)
    return job


def test_openings_are_taken_only_from_the_institution_that_asked(served: Served) -> None:
    served.order(**REQUEST)
    job = completed_by_b(served)
    with pytest.raises(ConfideError) as caught:
        adopt(served.party, "hospital-c", as_bytes(opened_by_b(served, job)))
    assert (caught.value.code, stated(served)) == (ErrorCode.NOT_AUTHORISED, 0)


def test_altered_share_and_unknown_job_state_nothing(served: Served) -> None:
    served.order(**REQUEST)
    job = completed_by_b(served)
    opened = opened_by_b(served, job)
    party, opening = next(iter(opened.openings.items()))
    altered = replace(opening, share=bytes([opening.share[0] ^ 1]) + opening.share[1:])
    unknown = replace(opened, job_id="ab" * 16)
    for body, code in (
        (replace(opened, openings=dict(opened.openings) | {party: altered}), ErrorCode.INVALID_DOCUMENT),
        (unknown, ErrorCode.UNKNOWN_JOB),
    ):
        with pytest.raises(ConfideError) as caught:
            adopt(served.party, "hospital-b", as_bytes(body))
        assert caught.value.code is code
    assert (served.states(), stated(served)) == ([], 0)


def test_job_that_has_not_completed_here_is_not_taken(served: Served) -> None:
    served.order(**REQUEST)
    served.party.clock[0] = served.begun + timedelta(days=DUE)
    job = job_of_b(served)
    served.network.submit(job)
    served.network.end(job, State.ABORTED, code="PEER_SILENT", cause="hospital-c fell silent")
    with pytest.raises(ConfideError) as caught:
        adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, job)))
    assert caught.value.code is ErrorCode.UNKNOWN_JOB


def test_of_several_jobs_only_the_first_is_taken_so_that_nobody_chooses_what_another_states(served: Served) -> None:
    served.order(**REQUEST)
    first = completed_by_b(served)
    served.party.clock[0] += timedelta(minutes=1)
    second = job_of_b(served, nonce="b1" * 16)
    served.network.submit(second)
    served.network.end(second)
    assert not adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, second)))
    assert (served.states(), stated(served)) == ([], 0)
    assert adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, first)))
    assert (served.states(), stated(served)) == (["done"], 1)


@pytest.mark.parametrize("why", ["ended", "no-runs", "under-way", "person", "not-due"])
def test_order_that_permits_nothing_now_states_nothing(served: Served, why: str) -> None:
    told = served.order(**REQUEST, runs=1)
    job = completed_by_b(served)
    if why == "ended":
        served.commands.run("model", "assessment", "end", told["order"], person="steward")
    if why in ("under-way", "no-runs"):
        assert served.look_after(days=DUE, minutes=16) == ["under-way"]
    if why == "no-runs":
        served.network.end(served.network.submitted[-1])
        assert served.look_after(days=DUE, minutes=17) == ["done"]
    before, body = stated(served), as_bytes(opened_by_b(served, job))
    if why == "person":
        served.change_policy("roles: [data-steward]", "roles: [auditor]")
    if why == "not-due":
        served.party.clock[0] = served.begun + timedelta(days=DUE - 2)
    assert not adopt(served.party, "hospital-b", body)
    assert stated(served) == before


def test_party_without_the_same_order_opens_nothing(served: Served) -> None:
    served.order(**REQUEST)
    with served.party.database.transaction() as tables:
        order = tables.assessments.all()[0].order
    other = an_assessment(replace(order, min_cell=6), created=served.begun, nonce="b1" * 16, querier=OF_B)
    served.network.submit(other)
    served.network.end(other)
    assert not adopt(served.party, "hospital-b", as_bytes(opened_by_b(served, other)))


@pytest.mark.parametrize(
    "change",
    [
        {"attack": "rmia"},
        {"shadows": 32},
        {"min_cell": 6},
        {"thresholds": ("-1", "0")},
        {"thresholds": ()},
        {"datasets": tuple(BOTH[:2]), "members": (BOTH[0],)},
        {"members": (BOTH[0], BOTH[2], BOTH[3])},
        {"dealer": "hospital-d"},
        {"purpose": "advertising"},
        {"agreement": "b2" * 32},
    ],
)
def test_job_that_asks_something_else_serves_nobody(change: dict[str, Any]) -> None:
    order = an_order(datasets=tuple(BOTH), members=(BOTH[0], BOTH[2]))
    job = an_assessment(order, created=order.made, nonce="b0" * 16)
    assert is_same(order, job)
    assert not is_same(replace(order, **change), job)


@pytest.mark.parametrize(("days", "hours"), [(1, 4), (3, 12), (6, 24), (30, 24)])
def test_owner_waits_for_no_more_than_a_share_of_the_age_that_a_report_may_have(days: int, hours: int) -> None:
    """With reports of three days, two days after the last one a day of waiting would let the release end, by nobody's fault."""
    wait, again = patience(days), tried_again_after(days)
    assert wait == timedelta(hours=hours)
    begins = due_at(an_order(every_days=days), last=NOW, max_age_days=days) + wait
    assert begins + 3 * again < NOW + timedelta(days=days)  # a job of its own, and two more if the first are refused


def test_owner_whose_reports_age_fast_asks_by_itself_while_the_release_stands(served: Served) -> None:
    served.change_policy("max_age_days: 9", "max_age_days: 1")
    served.order(**REQUEST)
    served.party.clock[0] = served.begun + timedelta(hours=16)
    served.network.submit(job_of_b(served))  # under way for as long as its life, and then another one
    assert served.look_after(hours=16, minutes=10) == []
    assert served.look_after(hours=20, minutes=1) == ["under-way"]
    served.network.end(served.network.submitted[-1])
    assert served.look_after(hours=20, minutes=2) == ["done"]
    assert served.stands()


def test_order_whose_jobs_may_outlive_the_reports_is_refused(served: Served) -> None:
    served.change_policy("max_age_days: 9", "max_age_days: 1")
    found = served.order(**REQUEST, expires_in_minutes=241, code=2)
    assert "its jobs may live 241 minutes; reports count for 1 day(s), and 4:00:00 is left for one" in str(found)


def test_owners_take_turns_and_nobody_waits_for_ever(served: Served) -> None:
    order = an_order(party="hospital-b", datasets=tuple(BOTH), members=(BOTH[0], BOTH[2]))
    due, wait = served.begun, timedelta(hours=12)
    with served.party.database.transaction() as tables:
        alone = replace(order, datasets=tuple(BOTH[2:]), members=(BOTH[2],))
        assert not waits_for_another(tables, alone, due=due, at_most=wait, now=due)
        assert waits_for_another(tables, order, due=due, at_most=wait, now=due)
        assert not waits_for_another(tables, order, due=due, at_most=wait, now=due + STAGGER)
        first = replace(order, party="hospital-a")
        assert not waits_for_another(tables, first, due=due, at_most=wait, now=due)
    job = an_assessment(order, created=due + wait - timedelta(minutes=10), nonce="b0" * 16)
    served.network.submit(job)
    with served.party.database.transaction() as tables:
        assert waits_for_another(tables, order, due=due, at_most=wait, now=due + wait - timedelta(minutes=9))
        assert not waits_for_another(tables, order, due=due, at_most=wait, now=due + wait)
