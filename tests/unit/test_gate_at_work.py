"""A party's release gate with a real database and sealed files: what it hands out, what it withholds, and what its log says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind
from governance.audit.manifest import GrantUse
from governance.budget.amounts import charges
from governance.commitments import CommittedShare, check_opening
from governance.consent.grant import sign_grant
from governance.consent.limits import OutputRule
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, sign
from governance.policy.budgets import Caps
from parties.server.party import Party
from parties.server.results import Sealed, hand_out, publish, seal_results
from parties.storage.jobs import PlanRecord
from parties.worker.channel import Parcel
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output, OutputKind
from protocols.plan.plan import Plan, PlannedResult
from protocols.session.states import State
from tests.support.consent import NOW, ConsentWorld, a_grant, under
from tests.support.holders import PLAN, HolderWorld
from tests.support.jobs import an_evaluation
from tests.support.opening_world import completed

PARTY = "hospital-a"
SHARES = {"correct": bytes(range(8)), "again": bytes(range(8, 16))}
KINDS = (OutputKind.CORRECT_COUNT, OutputKind.CONFUSION)
RULES = tuple(OutputRule(kind, min_cell=5) for kind in KINDS)
REQUEST = "ab" * 16
OWNER = "hospital-c"  # its rows are in the job, and it computes nothing
OWNERS_GRANT = GrantUse("c7" * 16, NOW + timedelta(days=9), NOW + timedelta(hours=9))


@dataclass
class GateWorld:
    """Hospital A at the end of an evaluation, with its consent, its reservation and its worker's shares."""

    world: HolderWorld
    job: Job
    grant_id: str

    @property
    def party(self) -> Party:
        return self.world.parties[PARTY]

    def seal(self, shares: Mapping[str, bytes] = SHARES, *, size: int = 1) -> Sealed:
        results = tuple(PlannedResult(output.name, (1,), 16, "alice") for output in self.job.outputs)
        plan = Plan(self.job.digest, self.job.computing_parties, self.job.dealer, (), (), (), results)
        with self.party.database.transaction() as tables:
            tables.jobs.add_plan(PlanRecord(self.job.job_id, canonical_bytes(plan.to_document()), PLAN, 0))
        header = {"shapes": {output.name: [size] for output in self.job.outputs}}
        return seal_results(self.party, self.job, plan, Parcel(header, {f"output/{name}": blob for name, blob in shares.items()}))

    def end(self, sealed: Sealed, *, debited: bool = True, others: bool = True) -> None:
        """The party has voted done and accepted a completed ending, and settles its outputs."""
        commitments = {PARTY: sealed.commitments}
        if others:
            commitments["hospital-b"] = {output.name: "b" * 64 for output in self.job.outputs}
        signed = sign(
            completed(self.job, commitments).to_document(),
            kind=DocumentKind.ENDING,
            signer=PARTY,
            key=self.party.member.signing_key,
        )
        with self.party.database.transaction() as tables:
            if debited:
                tables.ledger.commit(self.job.job_id, self.world.now)
            tables.jobs.put_ending(self.job.job_id, signed.to_bytes(), measured="{}")
        publish(self.party, self.job)
        publish(self.party, self.job)  # after a crash it is done again

    def revoke(self) -> None:
        with self.party.database.transaction() as tables:
            tables.revocations.add(self.world.revocation(PARTY, self.grant_id, Effect.STOP), now=self.world.now)

    def fetch(self, output: str = "correct", *, request_id: str = REQUEST, recipient: str = "alice") -> CommittedShare:
        out = hand_out(self.party, job_id=self.job.job_id, output=output, recipient=recipient, request_id=request_id)
        return CommittedShare(self.job.job_id, 1, output, PARTY, out.output.shape, out.output.scale_bits, out.share, out.nonce)

    def logged(self, kind: EntryKind) -> list[str]:
        return [str(facts["output"]) for facts in self.world.entries(PARTY, kind)]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[GateWorld]:
    consent = ConsentWorld()
    world = HolderWorld(tmp_path, NOW, consent=consent, parties=[PARTY])
    outputs = tuple(Output(name, kind, "alice", 5) for name, kind in zip(SHARES, KINDS, strict=True))
    job, grant = under(an_evaluation(outputs=outputs)), a_grant(outputs=RULES)
    world.keep_job(PARTY, job, {OWNER: [OWNERS_GRANT]}, state=State.RUNNING)
    with world.parties[PARTY].database.transaction() as tables:
        tables.agreements.add(consent.agreement, now=NOW)
        tables.grants.add(sign_grant(grant, consent.keys[PARTY].signing), now=NOW)
        tables.grants.use(grant.grant_id, job.job_id)
        charged = charges(job, PARTY)
        tables.ledger.reserve(job.job_id, charged, dict.fromkeys(charged, Caps()), NOW, kind="evaluate")
    yield GateWorld(world, job, grant.grant_id)
    world.close()


def refused(code: ErrorCode, rule: str = "") -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, check=lambda error: error.code is code and rule in error.what)


def test_gate_all_rules_kept_hands_out_the_committed_shares_once(gate: GateWorld) -> None:
    sealed = gate.seal()
    assert sealed.withheld == ()
    gate.end(sealed)
    for name, share in SHARES.items():
        opened = gate.fetch(name)
        assert opened.share == share
        check_opening(opened, sealed.commitments[name])
        assert gate.fetch(name) == opened, "the same request again is the same use"
        with refused(ErrorCode.GRANT_USED):
            gate.fetch(name, request_id="cd" * 16)
    assert gate.logged(EntryKind.OUTPUT_COMMITTED) == ["correct", "again"]
    assert gate.logged(EntryKind.OUTPUT_RELEASED) == ["correct", "again"]
    assert gate.logged(EntryKind.OUTPUT_WITHHELD) == []


def test_gate_another_recipient_or_output_has_no_grant_and_learns_no_reason(gate: GateWorld) -> None:
    gate.end(gate.seal())
    for output, recipient in (("correct", "eve"), ("other", "alice")):
        with refused(ErrorCode.NO_GRANT):
            gate.fetch(output, recipient=recipient)


def test_gate_two_sealings_draw_different_nonces(gate: GateWorld, tmp_path: Path) -> None:
    commitments = gate.seal({"correct": bytes(8), "again": bytes(8)}).commitments
    assert len(set(commitments.values())) == 2


@pytest.mark.parametrize("ended", ["revoked", "expired"])
def test_gate_consent_that_ended_before_the_vote_withholds_by_its_rule(gate: GateWorld, ended: str) -> None:
    gate.revoke() if ended == "revoked" else gate.world.advance(days=2)
    sealed = gate.seal()
    assert {reason.rule.value for reason in sealed.withheld} == {"consent-in-force"}
    assert gate.logged(EntryKind.OUTPUT_WITHHELD) == ["correct", "again"]
    assert {reason for facts in gate.world.entries(PARTY, EntryKind.OUTPUT_WITHHELD) for reason in facts["rules"]} == {
        "consent-in-force"
    }


@pytest.mark.parametrize("ended", ["revoked", "expired"])
def test_gate_consent_that_ended_after_the_vote_hands_out_nothing_ever(gate: GateWorld, ended: str) -> None:
    sealed = gate.seal()
    gate.revoke() if ended == "revoked" else gate.world.advance(days=2)
    gate.end(sealed)
    for _ in range(2):
        with refused(ErrorCode.RELEASE_WITHHELD, "rule consent-in-force"):
            gate.fetch()
    gate.world.clock[0] = NOW
    with refused(ErrorCode.RELEASE_WITHHELD, "rule consent-in-force"):
        gate.fetch("again")
    assert gate.logged(EntryKind.OUTPUT_WITHHELD) == ["correct", "again"], "once each, however often it is asked for"


@pytest.mark.parametrize("ended", ["revoked", "expired"])
def test_gate_consent_of_an_owner_that_does_not_compute_ended_hands_out_nothing(gate: GateWorld, ended: str) -> None:
    assert OWNER in gate.job.participants
    assert OWNER not in gate.job.computing_parties
    gate.end(gate.seal())
    gate.fetch("correct")
    if ended == "revoked":
        for subject in ("c8" * 16, OWNERS_GRANT.grant_id):
            gate.fetch("correct")
            with gate.party.database.transaction() as tables:
                tables.revocations.add(gate.world.revocation(OWNER, subject), now=gate.world.now)
    else:
        gate.world.advance(hours=9)
    with refused(ErrorCode.RELEASE_WITHHELD, "rule consent-in-force"):
        gate.fetch("again")


def test_gate_consent_that_ended_between_two_outputs_withholds_the_second(gate: GateWorld) -> None:
    gate.end(gate.seal())
    gate.fetch("correct")
    gate.revoke()
    with refused(ErrorCode.RELEASE_WITHHELD, "rule consent-in-force"):
        gate.fetch("again")
    with refused(ErrorCode.RELEASE_WITHHELD):
        gate.fetch("correct")
    assert gate.logged(EntryKind.OUTPUT_RELEASED) == ["correct"]


def test_gate_charges_not_committed_hands_out_nothing(gate: GateWorld) -> None:
    gate.end(gate.seal(), debited=False)
    with refused(ErrorCode.RELEASE_WITHHELD, "rule debit-committed"):
        gate.fetch()


def test_gate_ending_without_the_others_commitments_hands_out_nothing(gate: GateWorld) -> None:
    gate.end(gate.seal(), others=False)
    with refused(ErrorCode.RELEASE_WITHHELD, "rule commitments-complete"):
        gate.fetch()


def test_gate_share_with_more_numbers_than_planned_is_withheld(gate: GateWorld) -> None:
    sealed = gate.seal({name: share * 2 for name, share in SHARES.items()}, size=2)
    assert {reason.rule.value for reason in sealed.withheld} == {"constraint-satisfied"}


def test_gate_grant_that_demands_larger_groups_withholds(gate: GateWorld) -> None:
    wider = a_grant(outputs=tuple(replace(rule, min_cell=6) for rule in RULES), nonce="3f" * 16)
    with gate.party.database.transaction() as tables:
        tables.grants.give_back(gate.job.job_id)
        tables.grants.add(sign_grant(wider, gate.world.consent.keys[PARTY].signing), now=NOW)
        tables.grants.use(wider.grant_id, gate.job.job_id)
    assert "constraint-satisfied" in {reason.rule.value for reason in gate.seal().withheld}


def test_gate_output_that_the_worker_did_not_make_is_a_defect_and_leaves_nothing(gate: GateWorld) -> None:
    with refused(ErrorCode.INTERNAL):
        gate.seal({"correct": bytes(8)})
    with gate.party.database.transaction() as tables:
        assert tables.outputs.of_job(gate.job.job_id) == ()
    assert list((gate.party.config.state / "sealed").iterdir()) == []
