"""Grants for published models: what their owner may permit, how they are listed, and what ends with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument
from governance.encrypted.enquiry import Enquiry
from governance.encrypted.grant import verify_encrypted_grant
from governance.encrypted.published import PublishedModel
from parties import harness
from parties.agreements import load_member
from parties.config import PartyConfig, load_party_config
from parties.encrypted_grant_files import EncryptedGrantTerms, load_encrypted_grant_terms
from parties.encrypted_grants import create_encrypted_grant, find_encrypted_grant, issued_encrypted_grants
from parties.grants import blast_of, revoke_grant
from parties.harness_consent import AGREEMENT, OFFICER, OPERATOR, PURPOSE, STEWARD, person_folder
from parties.publication_files import load_publication_terms
from parties.publishing import publish_model, withdraw_model
from parties.storage.database import one_transaction
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear, Square
from protocols.model.spec import ModelSpec
from tests.support.command import confide
from tests.support.publication import LINEAR, SQUARED, write_files, write_terms

GRANT_YAML = """
api_version: confide.encrypted-grant/1
agreement: harness
model: {model}
purposes: [research]
recipients: [researcher, institution/party-b]
max_answers: {answers}
max_requests_per_hour: 60
expires: 2098-12-31
"""
EXPIRES = datetime(2098, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_201, 17_201 + count)))
        harness.make_consortium(folder, ("party-a", "party-b", "party-c"))
    config = load_party_config(folder / "party-a" / "party.yaml")
    for spec, name in ((LINEAR, "linear"), (SQUARED, "squared")):
        publish(config, folder, spec, name)
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> PartyConfig:
    shutil.copytree(made, tmp_path / "all")
    return load_party_config(tmp_path / "all" / "party-a" / "party.yaml")


def now() -> datetime:
    return datetime.now(UTC)


def publish(config: PartyConfig, folder: Path, spec: ModelSpec, name: str) -> None:
    path = write_terms(folder, lanes="[latency]")
    path.write_text(path.read_text().replace("name: diagnosis", f"name: {name}"))
    files = write_files(folder, spec)
    publish_model(config, person_folder(config, STEWARD), files, load_publication_terms(path), now=now())


def model_of(config: PartyConfig, name: str) -> PublishedModel:
    with one_transaction(config.folder.database_file) as tables:
        return next(record.model for record in tables.encrypted.models() if record.model.name == name)


def terms(config: PartyConfig, name: str = "squared", *, answers: int = 18) -> EncryptedGrantTerms:
    ref = model_of(config, name).ref
    return EncryptedGrantTerms(AGREEMENT, ref, (PURPOSE,), ("researcher",), answers, EXPIRES)


def problems_of(config: PartyConfig, wanted: EncryptedGrantTerms) -> list[str]:
    with pytest.raises(ConfideError) as error:
        create_encrypted_grant(config, person_folder(config, STEWARD), wanted, now=now())
    assert error.value.code is ErrorCode.INVALID_DOCUMENT
    return [problem.where for problem in error.value.problems]


def enquire(config: PartyConfig, grant_id: str, name: str = "squared", *, answers: int = 10) -> Enquiry:
    """Keeps an enquiry as the serving party does; its signature is not what is tested here."""
    model, time = model_of(config, name), now().replace(microsecond=0)
    with one_transaction(config.folder.database_file) as tables:
        agreement = tables.encrypted.find_grant(grant_id)
        assert agreement is not None
        enquiry = Enquiry(
            consortium=model.consortium,
            directory_version=1,
            agreement=agreement.grant.agreement,
            purpose=PURPOSE,
            querier="researcher",
            evaluator=model.issuer,
            model=model.name,
            version=model.ref.version,
            published=model.digest,
            lane="latency",
            key="e" * 64,
            max_answers=answers,
            created=time,
            expires=time + timedelta(hours=1),
            nonce="1" * 32,
        )
        signed = SignedDocument(DocumentKind.ENQUIRY, "researcher", enquiry.to_bytes(), bytes(64))
        tables.encrypted.accept(signed, grant_id=grant_id, now=time)
    return enquiry


def test_issued_grant_is_signed_by_the_owner_logged_and_listed(config: PartyConfig) -> None:
    record = create_encrypted_grant(config, person_folder(config, STEWARD), terms(config), now=now())
    assert verify_encrypted_grant(record.signed, load_member(config, now()).directory) == record.grant
    (issued,) = issued_encrypted_grants(config)
    assert (issued.record.grant, issued.standing(now()), issued.record.learnt) == (record.grant, "valid", 0)
    with one_transaction(config.folder.database_file) as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
    subjects = [entry.facts["subject"] for entry in entries if entry.kind is EntryKind.GRANT_ISSUED]
    assert subjects == [record.grant.ref.label]


@pytest.mark.parametrize("person", [OPERATOR, OFFICER])
def test_nobody_but_a_steward_issues_it(config: PartyConfig, person: str) -> None:
    with pytest.raises(ConfideError) as error:
        create_encrypted_grant(config, person_folder(config, person), terms(config), now=now())
    assert error.value.code is ErrorCode.NOT_AUTHORISED
    assert not issued_encrypted_grants(config)


def test_terms_outside_the_agreement_or_beyond_the_model_are_refused_together(config: PartyConfig) -> None:
    late = datetime(2099, 6, 1, tzinfo=UTC)
    wrong = replace(terms(config, answers=1), purposes=("marketing",), expires=late)
    assert problems_of(config, wrong) == ["purposes", "max_answers", "expires"]


def test_grant_for_less_than_one_answer_counts_says_so_before_it_is_issued(config: PartyConfig, tmp_path: Path) -> None:
    folder = tmp_path / "three"
    folder.mkdir()
    publish(config, folder, ModelSpec.chain(3, first=Linear(3), act=Square(), last=Linear(3)), "three")
    # Three outputs stand in a period of four slots, and whoever encrypts for herself finds a number in each.
    assert problems_of(config, terms(config, "three", answers=3)) == ["max_answers"]
    create_encrypted_grant(config, person_folder(config, STEWARD), terms(config, "three", answers=4), now=now())


def test_grant_beyond_what_keeps_a_model_unknown_says_that_it_counts_as_known(config: PartyConfig) -> None:
    # Three features: the outputs of three samples leave a linear model one free direction, those of four leave none; a square
    # has ten coefficients for each of two outputs.
    assert problems_of(config, terms(config, "squared", answers=19)) == ["max_answers"]
    within, beyond = terms(config, "linear", answers=3), terms(config, "linear", answers=4)
    assert problems_of(config, beyond) == ["max_answers"]
    steward = person_folder(config, STEWARD)
    create_encrypted_grant(config, steward, within, now=now())
    known = create_encrypted_grant(config, steward, replace(beyond, counts_as_known=True), now=now())
    assert known.grant.counts_as_known


def test_withdrawn_model_gets_no_new_grant_and_its_grants_say_so(config: PartyConfig) -> None:
    wanted = terms(config)
    record = create_encrypted_grant(config, person_folder(config, STEWARD), wanted, now=now())
    withdraw_model(config, person_folder(config, OFFICER), wanted.model, reason="superseded", now=now())
    with pytest.raises(ConfideError) as error:
        create_encrypted_grant(config, person_folder(config, STEWARD), wanted, now=now())
    assert error.value.code is ErrorCode.UNKNOWN_MODEL
    found = find_encrypted_grant(config, record.grant.grant_id[:8])
    assert found is not None
    assert found.standing(now()) == "model withdrawn"


def test_revocation_names_the_enquiries_that_end_before_and_is_told_to_others(config: PartyConfig) -> None:
    grant = create_encrypted_grant(config, person_folder(config, STEWARD), terms(config), now=now()).grant
    other = create_encrypted_grant(config, person_folder(config, STEWARD), terms(config), now=now()).grant
    enquiry = enquire(config, grant.grant_id)
    assert blast_of(config, grant.grant_id[:10]).enquiries == (f"{enquiry.enquiry_id[:12]} (researcher, {grant.ref.label})",)
    assert not blast_of(config, other.grant_id).enquiries
    officer = person_folder(config, OFFICER)
    revoke_grant(config, officer, grant.grant_id[:10], reason="misuse", effect=Effect.STOP, now=now())
    found = find_encrypted_grant(config, grant.grant_id)
    assert found is not None
    assert (found.standing(now()), found.record.learnt) == ("revoked", 10)
    with one_transaction(config.folder.database_file) as tables:
        assert [record.revocation.subject for record in tables.revocations.all()] == [grant.grant_id]
        assert len(tables.statements.own(DocumentKind.REVOCATION, party="party-a")) == 1


def test_blast_radius_of_an_agreement_names_enquiries_under_it(config: PartyConfig) -> None:
    from parties.lineage import blast_radius

    grant = create_encrypted_grant(config, person_folder(config, STEWARD), terms(config), now=now()).grant
    enquire(config, grant.grant_id)
    with one_transaction(config.folder.database_file) as tables:
        assert len(blast_radius(tables, issuer="party-a", subject=grant.agreement).enquiries) == 1


def test_revocation_with_deletion_is_refused_as_nothing_comes_of_the_grant(config: PartyConfig) -> None:
    grant = create_encrypted_grant(config, person_folder(config, STEWARD), terms(config), now=now()).grant
    with pytest.raises(ConfideError) as error:
        revoke_grant(config, person_folder(config, OFFICER), grant.grant_id, reason="misuse", effect=Effect.DELETE, now=now())
    assert error.value.code is ErrorCode.INVALID_ARGUMENT


def test_file_of_a_grant_names_every_wrong_field_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "grant.yaml"
    path.write_text(GRANT_YAML.format(model="diagnosis", answers="yes"))
    with pytest.raises(ConfideError) as error:
        load_encrypted_grant_terms(path)
    assert [problem.where.rsplit(":", 1)[1] for problem in error.value.problems] == ["4 model", "7 max_answers"]


def test_commands_create_list_show_and_revoke_beside_grants_on_rows(config: PartyConfig, tmp_path: Path) -> None:
    own = ["--config", config.state.parent / "party.yaml"]
    path = tmp_path / "grant.yaml"
    path.write_text(GRANT_YAML.format(model=model_of(config, "squared").ref.label, answers=18))
    made = confide("grant", "create", *own, "--person", person_folder(config, STEWARD), "--file", path, "--format", "json").data
    grant_id = made["grant"]
    listed = confide("grant", "list", *own, "--format", "json").data
    assert ([each["grant"] for each in listed["encrypted_grants"]], listed["grants"]) == ([grant_id], [])
    enquiry = enquire(config, grant_id)
    shown = confide("grant", "show", grant_id[:12], *own, "--format", "json").data
    assert [(each["enquiry"], each["ended"]) for each in shown["enquiries"]] == [(enquiry.enquiry_id, None)]
    dry = confide("grant", "revoke", grant_id[:12], *own, "--dry-run")
    assert f"enquiry {enquiry.enquiry_id[:12]} (researcher" in dry.out
    ended = confide("grant", "revoke", grant_id[:12], *own, "--person", person_folder(config, OFFICER), "--reason", "misuse")
    assert ended.exit_code == 0, ended.error
    assert "revoked" in confide("grant", "show", grant_id[:12], *own).out
