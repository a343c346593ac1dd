"""The cascade at a holder, deletion with its receipts, and aliases, on real databases and sealed files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind
from governance.canary_audit import CanaryAudit, sign_canary_audit
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, sign
from governance.lineage.alias import AliasName, AliasStatement
from governance.lineage.receipt import DeletionReceipt, verify_receipt
from parties.lineage import blast_radius, explain_model, model_card, model_records
from parties.model_registry import (
    destroy_marked,
    mark_model,
    model_findings,
    roll_back_alias,
    set_alias,
)
from parties.server.cascade import Cascade
from parties.server.statements import take_in
from parties.storage.checkpoints import CheckpointRecord, checkpoint_object_id
from parties.storage.registry import MarkRecord
from parties.storage.sealed import Purpose
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.session.states import State
from tests.support.consent import ConsentWorld, under
from tests.support.holders import SHARE, HolderWorld, holders
from tests.support.jobs import CREATED, a_dataset, a_training, an_evaluation, an_inference

A, B, C = "hospital-a", "hospital-b", "hospital-c"
GRANT_A, GRANT_C = "a0" * 16, "c0" * 16
UNTIL = CREATED + timedelta(days=10)
GRANTS = {A: [(GRANT_A, UNTIL)], C: [(GRANT_C, UNTIL)]}


@pytest.fixture(scope="module")
def consent() -> ConsentWorld:
    return ConsentWorld()


@pytest.fixture
def world(request: pytest.FixtureRequest, consent: ConsentWorld, tmp_path: Path) -> Iterator[HolderWorld]:
    """Hospital A, or the parties that a test names."""
    parties = getattr(request, "param", (A,))
    with holders(tmp_path, now=CREATED + timedelta(hours=1), consent=consent, parties=parties) as made:
        yield made


@pytest.fixture
def model(world: HolderWorld) -> ModelRef:
    return world.train(under(a_training()), GRANTS)


def test_audit_of_an_owner_s_canaries_is_taken_in_once_and_no_other_s(world: HolderWorld) -> None:
    party = world.parties[A]
    audit = CanaryAudit("cardio", C, "5a" * 16, "0.5", "0.999", 400)
    signed, key = sign_canary_audit(audit, world.consent.keys[C].signing), world.consent.keys[B].signing
    forged = (sign_canary_audit(audit, key), sign(audit.to_document(), kind=DocumentKind.CANARY_AUDIT, signer=B, key=key))
    elsewhere = sign_canary_audit(replace(audit, consortium="onco"), world.consent.keys[C].signing)
    for wrong, code in ((forged[0], "BAD_SIGNATURE"), (forged[1], "BAD_SIGNATURE"), (elsewhere, "INVALID_DOCUMENT")):
        with pytest.raises(ConfideError) as caught:
            take_in(party, wrong)
        assert caught.value.code.name == code
    assert [take_in(party, signed), take_in(party, signed)] == [True, False]
    with party.database.transaction() as tables:
        assert tables.statements.heard(DocumentKind.CANARY_AUDIT) == (signed,)


def derived(world: HolderWorld, model: ModelRef) -> ModelRef:
    """A model trained further by A and B on B's rows alone; it rests on C's consent through the first one."""
    job = under(a_training(model_ref=model, initial_weights_sha256=None, model_name="further", datasets=(a_dataset(B),)))
    return world.train(job, {})


def run(world: HolderWorld, party: str) -> None:
    Cascade(world.parties[party]).run(now=world.now)


def marks(world: HolderWorld, party: str, ref: ModelRef) -> list[tuple[str, str, ErrorCode, bool]]:
    with world.parties[party].database.transaction() as tables:
        return [(mark.issuer, mark.subject, mark.code, mark.delete) for mark in tables.registry.marks(ref)]


def current(world: HolderWorld, party: str, name: str = "diagnosis") -> str | None:
    with world.parties[party].database.transaction() as tables:
        return tables.registry.alias_history(name, AliasName.LIVE).current


def test_revocation_marks_the_model_and_what_was_derived_from_it(world: HolderWorld, model: ModelRef) -> None:
    further = derived(world, model)
    take_in(world.parties[A], world.revocation(C, GRANT_C))
    run(world, A)
    for ref in (model, further):
        assert marks(world, A, ref) == [(C, GRANT_C, ErrorCode.GRANT_REVOKED, False)]
    assert {facts["model"] for facts in world.entries(A, EntryKind.MODEL_MARKED)} == {model.label, further.label}
    assert world.share_opens(A, model) == SHARE


def test_revocation_that_arrived_before_its_model_marks_it_all_the_same(world: HolderWorld) -> None:
    take_in(world.parties[A], world.revocation(C, GRANT_C))
    run(world, A)
    model = world.train(under(a_training()), GRANTS)
    run(world, A)
    assert marks(world, A, model)


def test_revocation_by_a_party_that_did_not_issue_the_grant_marks_nothing(world: HolderWorld, model: ModelRef) -> None:
    take_in(world.parties[A], world.revocation(B, GRANT_C, Effect.DELETE))
    run(world, A)
    assert marks(world, A, model) == []
    assert world.share_opens(A, model) == SHARE


def test_end_of_derived_use_by_the_clock_marks_the_model_and_is_announced(world: HolderWorld, model: ModelRef) -> None:
    cascade = Cascade(world.parties[A])
    assert cascade.run(now=world.now) == UNTIL
    world.clock[0] = UNTIL
    assert cascade.run(now=world.now) is None
    assert {code for _, _, code, _ in marks(world, A, model)} == {ErrorCode.GRANT_EXPIRED}


def test_marked_model_is_refused_with_every_reason(world: HolderWorld, model: ModelRef) -> None:
    take_in(world.parties[A], world.revocation(C, GRANT_C))
    world.clock[0] = UNTIL
    run(world, A)
    with world.parties[A].database.transaction() as tables:
        for job in (an_inference(model_ref=model), an_evaluation(model_ref=model), a_training(model_ref=model)):
            findings = model_findings(tables, job)
            assert {finding.code for finding in findings} == {ErrorCode.MODEL_REVOKED}
            assert [GRANT_A in str(finding.problem) for finding in findings].count(True) == 1
            assert [GRANT_C in str(finding.problem) for finding in findings].count(True) == 1
        assert model_findings(tables, a_training()) == ()


def test_deletion_destroys_the_wrapped_key_and_leaves_one_receipt(world: HolderWorld, model: ModelRef, tmp_path: Path) -> None:
    party = world.parties[A]
    with party.database.transaction() as tables:
        name = tables.models.get(model).sealed_name
    digest = party.sealed.digest(name)
    (tmp_path / "kept").hardlink_to(tmp_path / A / "sealed" / name)  # the blocks of the file, as a thief of the disk finds them
    take_in(party, world.revocation(C, GRANT_C, Effect.DELETE))
    for _ in range(2):
        run(world, A)
    with pytest.raises(ConfideError) as caught:
        world.share_opens(A, model)
    assert caught.value.code is ErrorCode.STATE_DAMAGED
    left = (tmp_path / "kept").read_bytes()
    assert left[:80] == bytes(80)  # the header with the wrapped key
    assert left[80:] != bytes(len(left) - 80)
    with party.database.transaction() as tables:
        (signed,) = tables.statements.own(DocumentKind.DELETION_RECEIPT, party=A)
    receipt = verify_receipt(signed, world.directory.directory)
    assert (receipt.ref, receipt.issuer, receipt.subject, receipt.sealed_sha256) == (model, C, GRANT_C, digest)
    assert world.entries(A, EntryKind.MODEL_DELETED) == [{"model": model.label, "sealed_sha256": digest}]


def test_deletion_that_a_crash_interrupted_is_made_up_for(world: HolderWorld, model: ModelRef) -> None:
    party = world.parties[A]
    take_in(party, world.revocation(C, GRANT_C, Effect.DELETE))

    class Crash(Exception):
        pass

    class Crashing:
        def __init__(self, *, after: bool) -> None:
            self.after = after

        def digest(self, name: str) -> str:
            return party.sealed.digest(name)

        def delete(self, name: str) -> None:
            if self.after:
                party.sealed.delete(name)
            raise Crash

    with party.database.transaction() as tables:
        mark = MarkRecord(model, C, GRANT_C, ErrorCode.GRANT_REVOKED, True, world.now)
        mark_model(tables, world.holder(A), mark)
    for after in (False, True):
        with pytest.raises(Crash):
            destroy_marked(party.database, Crashing(after=after), world.holder(A), now=world.now)  # type: ignore[arg-type]
        with party.database.transaction() as tables:
            assert tables.statements.own(DocumentKind.DELETION_RECEIPT, party=A) == ()
    assert destroy_marked(party.database, party.sealed, world.holder(A), now=world.now) == (model,)
    with party.database.transaction() as tables:
        (signed,) = tables.statements.own(DocumentKind.DELETION_RECEIPT, party=A)
    assert DeletionReceipt.from_bytes(signed.body).sealed_sha256 != ""


def test_deletion_by_two_processes_at_once_is_logged_and_receipted_once(world: HolderWorld, model: ModelRef) -> None:
    party = world.parties[A]
    with party.database.transaction() as tables:
        mark_model(tables, world.holder(A), MarkRecord(model, C, GRANT_C, ErrorCode.GRANT_REVOKED, True, world.now))

    class Overtaken:
        """The sealed files of a process that another one overtakes before it can say what it did."""

        def digest(self, name: str) -> str:
            return party.sealed.digest(name)

        def delete(self, name: str) -> None:
            assert destroy_marked(party.database, party.sealed, world.holder(A), now=world.now) == (model,)

    later = world.now + timedelta(seconds=2)
    assert destroy_marked(party.database, Overtaken(), world.holder(A), now=later) == ()  # type: ignore[arg-type]
    assert len(world.entries(A, EntryKind.MODEL_DELETED)) == 1
    with party.database.transaction() as tables:
        assert len(tables.statements.own(DocumentKind.DELETION_RECEIPT, party=A)) == 1


def test_deleted_share_that_comes_back_from_a_backup_is_removed_again(world: HolderWorld, model: ModelRef) -> None:
    party = world.parties[A]
    with party.database.transaction() as tables:
        name = tables.models.sealed_name(model)
        mark_model(tables, world.holder(A), MarkRecord(model, C, GRANT_C, ErrorCode.GRANT_REVOKED, True, world.now))
        assert name in tables.sealed_names()
    assert name is not None
    path = party.config.folder.sealed_folder / name
    backup = path.read_bytes()
    destroy_marked(party.database, party.sealed, world.holder(A), now=world.now)
    path.write_bytes(backup)
    with party.database.transaction() as tables:
        assert party.sealed.sweep(tables.sealed_names()) == 1
    assert not path.exists()


def test_second_owner_that_asks_for_deletion_gets_a_receipt_too(world: HolderWorld, model: ModelRef) -> None:
    for issuer, grant in ((C, GRANT_C), (A, GRANT_A)):
        signed = world.revocation(issuer, grant, Effect.DELETE)
        if issuer == A:
            with world.parties[A].database.transaction() as tables:
                tables.revocations.add(signed, now=world.now)
        else:
            take_in(world.parties[A], signed)
        run(world, A)
    with world.parties[A].database.transaction() as tables:
        own = tables.statements.own(DocumentKind.DELETION_RECEIPT, party=A)
    assert {DeletionReceipt.from_bytes(each.body).subject for each in own} == {GRANT_A, GRANT_C}
    assert len(world.entries(A, EntryKind.MODEL_DELETED)) == 1


def test_deletion_takes_the_checkpoints_of_unfinished_trainings_with_it(world: HolderWorld) -> None:
    job = under(a_training())
    world.train(job, GRANTS, state=State.ABORTED)
    party = world.parties[A]
    sealed = party.sealed.write(Purpose.CHECKPOINT, checkpoint_object_id(job.job_id, 3, "f" * 64), b"state")
    with party.database.transaction() as tables:
        tables.checkpoints.add(CheckpointRecord(job.job_id, 3, "f" * 64, sealed, world.now), keep=2)
    take_in(party, world.revocation(C, GRANT_C))
    run(world, A)
    assert party.sealed.digest(sealed)
    take_in(party, world.revocation(C, GRANT_C, Effect.DELETE))
    run(world, A)
    assert party.sealed.digest(sealed) == ""
    with party.database.transaction() as tables:
        assert tables.checkpoints.of_job(job.job_id) == ()


def test_alias_of_a_revoked_version_falls_and_a_rollback_leads_past_it(world: HolderWorld, model: ModelRef) -> None:
    second = world.train(under(a_training(nonce="22" * 16)), {})
    third = world.train(under(a_training(nonce="33" * 16)), {})
    with world.parties[A].database.transaction() as tables:
        for ref in (second, model, third):
            set_alias(tables, world.holder(A), ref, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    take_in(world.parties[A], world.revocation(C, GRANT_C))
    run(world, A)
    assert current(world, A) == third.version
    with world.parties[A].database.transaction() as tables:
        said = roll_back_alias(tables, world.holder(A), "diagnosis", AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    assert said.version == second.version


def test_alias_of_a_version_that_is_revoked_stands_for_nothing(world: HolderWorld, model: ModelRef) -> None:
    with world.parties[A].database.transaction() as tables:
        set_alias(tables, world.holder(A), model, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    take_in(world.parties[A], world.revocation(C, GRANT_C))
    run(world, A)
    assert current(world, A) is None
    with world.parties[A].database.transaction() as tables:
        said = [AliasStatement.from_bytes(each.body) for each in tables.statements.own(DocumentKind.ALIAS, party=A)]
        with pytest.raises(ConfideError) as caught:
            set_alias(tables, world.holder(A), model, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    assert [(each.move.value, each.version) for each in said] == [("set", model.version), ("fall", None)]
    assert caught.value.code is ErrorCode.MODEL_REVOKED


@pytest.mark.parametrize("world", [(A, B)], indirect=True, ids=["A-B"])
def test_rollback_at_one_holder_is_followed_by_the_other_one(world: HolderWorld, model: ModelRef) -> None:
    second = world.train(under(a_training(nonce="22" * 16)), {})
    for party in (A, B):
        with world.parties[party].database.transaction() as tables:
            for ref in (model, second):
                set_alias(tables, world.holder(party), ref, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    world.advance(seconds=5)
    with world.parties[A].database.transaction() as tables:
        roll_back_alias(tables, world.holder(A), "diagnosis", AliasName.LIVE, authorisation="ab" * 32, now=world.now)
        (*_, said) = tables.statements.own(DocumentKind.ALIAS, party=A)
    assert take_in(world.parties[B], said)
    assert current(world, A) == current(world, B) == model.version
    assert world.entries(B, EntryKind.ALIAS)[-1]["origin"] == A
    assert not take_in(world.parties[B], said)  # again: nothing


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_rollback_by_a_party_that_holds_no_share_is_not_followed(world: HolderWorld, model: ModelRef) -> None:
    second = world.train(under(a_training(nonce="22" * 16)), {})
    for party in (A, C):
        with world.parties[party].database.transaction() as tables:
            if party == C:  # forged: it holds no share, so no command of it would do this
                tables.models.get = lambda ref: None  # type: ignore[method-assign,assignment,return-value]
            for ref in (model, second):
                set_alias(tables, world.holder(party), ref, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
            if party == C:
                roll_back_alias(tables, world.holder(C), "diagnosis", AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    with world.parties[C].database.transaction() as tables:
        (*_, said) = tables.statements.own(DocumentKind.ALIAS, party=C)
    assert take_in(world.parties[A], said)
    assert current(world, A) == second.version


def test_released_is_refused_as_long_as_no_evidence_exists(world: HolderWorld, model: ModelRef) -> None:
    with world.parties[A].database.transaction() as tables, pytest.raises(ConfideError) as caught:
        set_alias(tables, world.holder(A), model, AliasName.RELEASED, authorisation="ab" * 32, now=world.now)
    assert caught.value.code is ErrorCode.EVIDENCE_MISSING
    assert "evidence" in caught.value.what


def test_rollback_of_an_alias_without_a_version_before_is_refused(world: HolderWorld, model: ModelRef) -> None:
    with world.parties[A].database.transaction() as tables:
        set_alias(tables, world.holder(A), model, AliasName.LIVE, authorisation="ab" * 32, now=world.now)
        with pytest.raises(ConfideError) as caught:
            roll_back_alias(tables, world.holder(A), "diagnosis", AliasName.LIVE, authorisation="ab" * 32, now=world.now)
    assert caught.value.code is ErrorCode.UNKNOWN_MODEL


@pytest.mark.parametrize("world", [(B,)], indirect=True, ids=["B"])
def test_explanation_names_every_consent_until_when_and_why_it_ended(world: HolderWorld, model: ModelRef) -> None:
    party = world.parties[B]
    with party.database.transaction() as tables:
        said = explain_model(tables, model_records(tables, party=B, now=world.now), model, party=B, now=world.now)
    assert "may be used" in said[0]
    assert any(GRANT_C in sentence and "2026-03-11" in sentence for sentence in said)
    assert any(f"No grant of {B} is shown" in sentence for sentence in said)
    take_in(party, world.revocation(C, GRANT_C))
    with party.database.transaction() as tables:
        said = explain_model(tables, model_records(tables, party=B, now=world.now), model, party=B, now=world.now)
    assert "may not be used" in said[0]
    assert f"grant {GRANT_C} was revoked" in said[1]


def test_card_is_made_of_facts_and_names_the_entries_that_show_them(world: HolderWorld, model: ModelRef) -> None:
    party = world.parties[A]
    world.keep_job(A, under(an_evaluation(model_ref=model)), {})
    world.keep_job(A, under(an_inference(model_ref=model)), {})
    with party.database.transaction() as tables:
        entry = tables.audit.append(EntryKind.MODEL_KEPT, {"model": model.label, "job": "ab" * 16}, now=world.now)
        tables.audit.append(EntryKind.MODEL_KEPT, {"model": "other@000000000000"}, now=world.now)
        card = model_card(tables, model_records(tables, party=A, now=world.now), model, party=A, now=world.now)
    assert card.rows == {A: 100, B: 100, C: 100}
    assert (card.evaluations, card.inferences) == (1, (1, 5))
    assert [reference.index for reference in card.log] == [entry.index]
    assert {grant for _, grant, _ in card.consents} == {GRANT_A, GRANT_C}
    text = card.to_markdown()
    assert "without differential privacy" in text
    assert "momentum" in text
    assert f"entry {entry.index}: model-kept" in text
    assert card.to_document()["usable"] is True


@pytest.mark.parametrize("world", [(C,)], indirect=True, ids=["C"])
def test_blast_radius_at_the_owner_covers_models_that_it_holds_no_share_of(world: HolderWorld, model: ModelRef) -> None:
    queued = under(a_training(nonce="44" * 16))
    world.keep_job(C, queued, GRANTS, state=State.AGREED)
    with world.parties[C].database.transaction() as tables:
        radius = blast_radius(tables, issuer=C, subject=GRANT_C)
        of_agreement = blast_radius(tables, issuer=C, subject=queued.agreement)
    assert radius.models == (model,)
    assert radius.holders == {model.label: (A, B)}
    assert of_agreement.queued == (queued.job_id,)


@pytest.mark.parametrize("world", [(A, B)], indirect=True, ids=["A-B"])
def test_card_after_another_holder_destroyed_its_share_says_so(world: HolderWorld, model: ModelRef) -> None:
    with world.parties[B].database.transaction() as tables:
        mark_model(tables, world.holder(B), MarkRecord(model, B, model.label, ErrorCode.MODEL_REVOKED, True, world.now))
    run(world, B)
    with world.parties[B].database.transaction() as tables:
        (receipt,) = tables.statements.own(DocumentKind.DELETION_RECEIPT, party=B)
    party = world.parties[A]
    for held_by, ends in (((A, B), 0), ((A,), 1)):
        with party.database.transaction() as tables:
            records = model_records(tables, party=A, now=world.now)
            card = model_card(tables, records, model, party=A, now=world.now)
        assert (card.holders, len(card.ends)) == (held_by, ends)
        take_in(party, receipt)
    assert card.ends[0].startswith(f"{B} has withdrawn it")
