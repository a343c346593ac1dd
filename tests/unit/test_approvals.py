"""Approvals at a party: what waits, who answers, what a changed job or policy does, what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind, read_entry
from governance.identity.keys import SigningKey
from governance.people.person import Person
from governance.people.roles import PersonRole
from governance.policy.approval import MAX_COMMENT, Answer
from governance.policy.rules import Kind
from governance.preview import Preview
from governance.preview_flows import flows_by_peer
from parties.approving import answer, pending, policy_decision, show_job
from parties.cli.main import app
from parties.people import make_person
from parties.policy_file import person_line
from parties.server.approvals import note_standing, standing
from parties.server.board import Measured
from parties.server.explaining import approvals_needed, explain
from parties.server.reasons import reasons
from parties.storage.acceptances import AcceptanceRecord
from parties.storage.state import MemberFolder
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.session import events as ev
from protocols.session.states import State
from tests.support.witness_world import WitnessWorld, a_witness_world, plan_of

LEAD, SECOND = "hospital-a", "hospital-b"
ROLES = {
    "nora": PersonRole.PRIVACY_OFFICER,
    "emil": PersonRole.PRIVACY_OFFICER,
    "ida": PersonRole.PRIVACY_OFFICER,
    "sven": PersonRole.DATA_STEWARD,
    "olaf": PersonRole.OPERATOR,
    "anna": PersonRole.AUDITOR,
}
RULES = """rules:
  - name: {name}
    match: {{job_types: [train], guarantees: [none, zero-out]}}
    decision: {{approve: {{needed: {needed}, of: [privacy-officers]}}}}
    reason: a training leaves a model behind
otherwise: {{decision: automatic}}
"""


class Approving:
    """A world in which hospital A's policy asks its people about trainings; `emil` is the querier's own."""

    def __init__(self, world: WitnessWorld, folder: Path) -> None:
        self.world = world
        self.folders = {person: folder / "people" / person for person in ROLES}
        alice = world.alice.signing
        self.people = [
            make_person(self.folders[person], person, [role], member="alice" if person == "emil" else None)
            for person, role in ROLES.items()
        ]
        self.set_policy()
        (folder / "party.yaml").write_text(
            f"api_version: confide.party/1\nparty: {LEAD}\nlisten: localhost:1\nstate: {LEAD}\npolicy: {LEAD}/policy.yaml\n"
        )
        self.config_file = folder / "party.yaml"
        self.config = world[LEAD].party.config
        self.alice: SigningKey = alice

    def set_policy(self, *, name: str = "trainings", needed: int = 2, people: list[Person] | None = None) -> None:
        lines = "\n".join(f"  - {person_line(person)}" for person in people or self.people)
        text = f"api_version: confide.policy/1\npeople:\n{lines}\n" + RULES.format(name=name, needed=needed)
        path = self.world[LEAD].party.config.policy
        (new := path.with_suffix(".new")).write_text(text)
        new.replace(path)

    def arrive(self, **changes: object) -> Job:
        """A training that everybody permits, kept everywhere and asked about at hospital A."""
        job = self.world.arrive(**changes)
        self.decide(job)
        return job

    def decide(self, job: Job) -> bool:
        """What the acceptance does in its transaction; returns whether the job may go on."""
        hospital = self.world[LEAD]
        with hospital.tables() as tables:
            plan = tables.jobs.plan(job.job_id)
            assert plan is not None
            found = standing(hospital.party, tables, job, plan.document)
            note_standing(hospital.party, tables, job, plan.document, found, now=hospital.party.now())
            self.waiting_for = found.waiting_for
            self.codes = [finding.code for finding in found.findings]
            self.approvals = found.approvals
        return found.may_go_on

    def answer(self, person: str, job: Job, said: Answer = Answer.APPROVE, *, comment: str = "") -> None:
        answer(self.config, self.folders[person], job.job_id[:12], said, comment=comment, now=self.world.now)

    def refused(self, person: str, job: Job, said: Answer = Answer.APPROVE) -> ErrorCode:
        with pytest.raises(ConfideError) as caught:
            self.answer(person, job, said)
        return caught.value.code

    def entries(self, kind: EntryKind) -> list[dict[str, object]]:
        with self.world[LEAD].tables() as tables:
            found = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
        return [dict(entry.facts) for entry in found if entry.kind is kind]


@pytest.fixture
def approving(tmp_path: Path) -> Iterator[Approving]:
    with a_witness_world(tmp_path) as world:
        world.consent()
        yield Approving(world, tmp_path)


def test_job_waits_until_two_different_officers_have_approved(approving: Approving) -> None:
    job = approving.arrive()
    assert approving.waiting_for == "2 more of 2 approvers (rule trainings: a training leaves a model behind)"
    assert [(entry.job.job_id, entry.request.approvers) for entry in pending(approving.config)] == [(job.job_id, ("nora", "ida"))]
    approving.answer("nora", job)
    assert not approving.decide(job)
    approving.answer("nora", job, comment="once more")
    assert not approving.decide(job)
    approving.answer("ida", job)
    assert approving.decide(job)
    assert len(approving.approvals) == 2
    assert pending(approving.config) == ()


def test_answer_of_somebody_who_may_not_is_refused_and_not_kept(approving: Approving) -> None:
    job = approving.arrive()
    for person in ("olaf", "anna", "sven", "emil"):  # an operator, an auditor, a role that is not named, the author
        assert approving.refused(person, job) is ErrorCode.NOT_AUTHORISED, person
        assert approving.refused(person, job, Answer.DENY) is ErrorCode.NOT_AUTHORISED, person
    with approving.world[LEAD].tables() as tables:
        assert tables.approvals.of_job(job.job_id) == ()
    assert approving.entries(EntryKind.APPROVAL) == []


def test_answer_with_a_key_that_the_policy_does_not_list_is_refused(approving: Approving, tmp_path: Path) -> None:
    job = approving.arrive()
    make_person(tmp_path / "impostor", "nora", [PersonRole.PRIVACY_OFFICER])
    approving.folders["nora"] = tmp_path / "impostor"
    assert approving.refused("nora", job) is ErrorCode.NOT_AUTHORISED


def test_denial_refuses_the_job_with_the_reason_and_without_the_person(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("ida", job, Answer.DENY, comment="the purpose is too wide")
    assert not approving.decide(job)
    assert approving.codes == [ErrorCode.APPROVAL_DENIED]
    with approving.world[LEAD].tables() as tables:
        plan = tables.jobs.plan(job.job_id)
        assert plan is not None
        found = reasons(approving.world[LEAD].party, tables, job, plan=plan.document, now=approving.world.now)
    assert [finding.problem.what for finding in found] == ["an approver denied it: the purpose is too wide"]
    assert pending(approving.config) == ()


def test_answers_stand_in_the_audit_log_by_digest_and_without_the_comment(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("nora", job, comment="private thoughts")
    approving.decide(job)
    (facts,) = approving.entries(EntryKind.APPROVAL)
    assert (facts["job"], facts["person"], facts["answer"], facts["rule"]) == (job.job_id, "nora", "approve", "trainings")
    assert facts["approval"] == approving.approvals[0]
    assert "private thoughts" not in json.dumps(facts)


def test_changed_job_waits_anew_and_earlier_approvals_count_nothing(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("nora", job)
    approving.answer("ida", job)
    changed = approving.arrive(purpose="quality")
    with approving.world[LEAD].tables() as tables:
        again = [
            tables.approvals.add(changed.job_id, old, now=approving.world.now) for old in tables.approvals.of_job(job.job_id)
        ]
    assert again == [False, False]
    assert not approving.decide(changed)
    assert approving.approvals == ()
    assert approving.decide(job)


def test_approvals_of_one_party_count_nothing_at_another(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("nora", job)
    approving.answer("ida", job)
    world, other = approving.world, approving.world[SECOND]
    other.party.config.policy.write_text(world[LEAD].party.config.policy.read_text())
    with world[LEAD].tables() as tables:
        signed = tables.approvals.of_job(job.job_id)
    with other.tables() as tables:
        for approval in signed:
            tables.approvals.add(job.job_id, approval, now=world.now)
        plan = tables.jobs.plan(job.job_id)
        assert plan is not None
        found = standing(other.party, tables, job, plan.document)
    assert other.party.policy.digest == world[LEAD].party.policy.digest
    assert (found.may_go_on, found.tally.approved) == (False, ())
    assert all("another party" in reason for reason in found.tally.ignored)


def test_policy_changed_before_the_decision_asks_anew(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("nora", job)
    approving.set_policy(needed=1)
    assert pending(approving.config) == ()
    assert approving.refused("nora", job) is ErrorCode.NOT_READY
    assert not approving.decide(job)
    approving.answer("nora", job)
    assert approving.decide(job)
    assert len(approving.entries(EntryKind.POLICY)) == 2


def test_job_that_does_not_wait_any_more_is_not_answered(approving: Approving) -> None:
    job = approving.arrive()
    with approving.world[LEAD].tables() as tables:
        tables.jobs.save_snapshot(job.job_id, snapshot="{}", state=State.REJECTED.value, now=approving.world.now)
    assert pending(approving.config) == ()
    assert approving.refused("nora", job) is ErrorCode.UNKNOWN_DOCUMENT


def test_denial_after_the_countersignature_is_refused_and_not_kept(approving: Approving) -> None:
    job = approving.arrive()
    approving.answer("nora", job)
    approving.answer("ida", job)
    with approving.world[LEAD].tables() as tables:
        plan = tables.jobs.plan(job.job_id)
        assert plan is not None
        tables.acceptances.put(AcceptanceRecord(job.job_id, plan.digest, entry_index=5))
    assert approving.refused("ida", job, Answer.DENY) is ErrorCode.UNKNOWN_DOCUMENT
    assert len(approving.entries(EntryKind.APPROVAL)) == 2


def test_answer_about_an_unknown_job_or_with_a_long_comment_is_refused(approving: Approving) -> None:
    job = approving.arrive()
    for job_id in ("ffffffff", job.job_id[:2], ""):
        with pytest.raises(ConfideError) as caught:
            answer(approving.config, approving.folders["nora"], job_id, Answer.APPROVE, now=approving.world.now)
        assert caught.value.code is ErrorCode.UNKNOWN_DOCUMENT
    with pytest.raises(ConfideError) as caught:
        approving.answer("nora", job, comment="x" * (MAX_COMMENT + 1))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_acceptance_waits_for_people_and_goes_on_when_they_have_signed(approving: Approving) -> None:
    world = approving.world
    for hospital in world.hospitals.values():
        hospital.start()
    job = world.arrive(agree_by=world.now + timedelta(hours=1), expires=world.now + timedelta(hours=2))
    for hospital in world.hospitals.values():
        hospital.pursue(job)
    assert isinstance(world[SECOND].answer(job), ev.JobAccepted)
    assert world[LEAD].answers[job.job_id] == []
    approving.answer("nora", job)
    approving.answer("ida", job)
    world[LEAD].acceptance.wake()
    accepted = world[LEAD].answer(job)
    assert isinstance(accepted, ev.JobAccepted)
    with world[LEAD].tables() as tables:
        counted = tables.approvals.of_job(job.job_id)
    assert len(counted) == 2
    assert '\\"approvals\\":[\\"' in accepted.manifest


def test_acceptance_of_a_denied_job_is_a_refusal_with_the_code(approving: Approving) -> None:
    world = approving.world
    job = approving.arrive()
    world[LEAD].start()
    world[LEAD].pursue(job)
    approving.answer("nora", job, Answer.DENY, comment="no")
    world[LEAD].acceptance.wake()
    refused = world[LEAD].answer(job)
    assert isinstance(refused, ev.JobRefused)
    assert refused.report.code is ErrorCode.APPROVAL_DENIED


def test_explain_tells_all_reasons_of_a_job_that_nobody_submitted(approving: Approving) -> None:
    party = approving.world[LEAD].party
    job = approving.world.a_job()
    found = explain(party, job, plan_of)
    assert found.findings == ()
    assert found.standing is not None
    assert (found.standing.decision.kind, found.standing.waiting_for.split()[0]) == (Kind.APPROVAL, "2")
    assert found.preview is not None
    assert found.preview.agreement == "prognosis-2026"
    assert approvals_needed(party, job, plan_of(job)) == 2
    wrong = approving.world.a_job(purpose="marketing", querier="mallory")
    codes = {finding.code for finding in explain(party, wrong, plan_of).findings}
    assert codes >= {ErrorCode.NOT_ENROLLED, ErrorCode.NO_AGREEMENT, ErrorCode.NO_CONSENT}
    with approving.world[LEAD].tables() as tables:
        assert tables.jobs.find(job.job_id) is None
        assert tables.approvals.requests() == ()


def test_explain_plan_that_cannot_be_derived_is_a_reason_among_the_others(approving: Approving) -> None:
    def too_large(job: Job) -> bytes:
        raise ConfideError(ErrorCode.TOO_LARGE, "the plan is too large")

    found = explain(approving.world[LEAD].party, approving.world.a_job(purpose="marketing"), too_large)
    assert [finding.code for finding in found.findings][-1] is ErrorCode.TOO_LARGE
    assert ErrorCode.NO_AGREEMENT in {finding.code for finding in found.findings}
    assert found.preview is None


def test_explain_at_a_party_without_a_role_says_so(approving: Approving) -> None:
    job = approving.world.a_job()
    elsewhere = replace(job, computing_parties=("hospital-b", "hospital-c"), datasets=job.datasets[1:], dealer="hospital-d")
    assert [finding.code for finding in explain(approving.world[LEAD].party, elsewhere, plan_of).findings] == [
        ErrorCode.INVALID_JOB
    ]


def test_policy_decision_of_a_kept_job_is_that_of_the_party(approving: Approving) -> None:
    job = approving.arrive()
    decision = policy_decision(approving.config, job.job_id[:8])
    assert (decision.kind, decision.rule, decision.approvers) == (Kind.APPROVAL, "trainings", ("nora", "ida"))
    with pytest.raises(ConfideError) as caught:
        policy_decision(approving.config, "ffffffff")
    assert caught.value.code is ErrorCode.UNKNOWN_JOB


def test_policy_decision_of_a_job_whose_querier_has_left_is_still_explained(
    approving: Approving, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = approving.arrive()
    directory = replace(approving.world[LEAD].party.directory, researchers=())
    monkeypatch.setattr(MemberFolder, "load_directory", lambda _self: directory)
    assert policy_decision(approving.config, job.job_id[:12]).rule == "trainings"


def test_show_job_after_its_end_holds_planned_beside_measured(approving: Approving) -> None:
    job = approving.arrive()
    plan = Plan.from_document(parse_canonical(plan_of(job)))
    sent = {d.receiver: d.total_bytes for d in plan.directions if d.sender == LEAD}
    assert show_job(approving.config, job.job_id[:8]).measured is None
    measured = Measured(rounds=plan.rounds, sent_bytes=sent, elapsed_ms=1500)
    with approving.world[LEAD].tables() as tables:
        tables.jobs.put_ending(job.job_id, b"{}", measured=measured.to_text())
    shown = show_job(approving.config, job.job_id[:8])
    assert shown.measured == measured
    assert flows_by_peer(shown.preview.sends, querier="alice") == sent


def test_commands_pending_preview_approve_and_deny(approving: Approving) -> None:
    job, denied = approving.arrive(), approving.arrive(purpose="quality")
    common = ("--config", str(approving.config_file), "--format", "json")

    def run(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(app, ["job", *arguments, *common])
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout)["data"])

    listed = run("pending")["pending"]
    assert isinstance(listed, list)
    assert {entry["job"] for entry in listed} == {job.job_id, denied.job_id}
    shown = run("preview", job.job_id)["preview"]
    assert isinstance(shown, dict)
    assert Preview.from_bytes(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).job == job.job_id
    nora, ida = ("--person", str(approving.folders["nora"])), ("--person", str(approving.folders["ida"]))
    assert run("approve", job.job_id, *nora)["approved"] == ["nora"]
    assert run("deny", denied.job_id, *ida, "--reason", "too wide")["denied"] == ["ida"]
    text = CliRunner().invoke(app, ["job", "preview", job.job_id, "--config", str(approving.config_file)]).stdout
    assert "approved: 1 of 2; may approve: nora, ida" in text
    assert "leaves this site" in text
    operator = ["job", "approve", job.job_id, *common, "--person", str(approving.folders["olaf"])]
    refused = CliRunner().invoke(app, operator)
    assert (refused.exit_code, json.loads(refused.stdout)["error"]["code"]) == (5, "NOT_AUTHORISED")
