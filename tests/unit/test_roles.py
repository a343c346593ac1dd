"""Who may do what: the one table, role by action, and that authorisations are checked against it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.documents import DocumentKind, sign
from governance.people.authorisation import Authorisation, check_authorisation, read_authorisation, sign_authorisation
from governance.people.person import People, check_people
from governance.people.roles import PERMITTED, Action, PersonRole, is_permitted
from parties.authority import authorise, keep_authorisation
from parties.config import PartyConfig
from parties.people import PersonFolder, make_person
from parties.policy_file import write_policy
from parties.storage.database import open_database
from protocols.errors import ConfideError, ErrorCode
from tests.support.people import NOW, Signer, a_person, an_officer
from tests.support.scripts import ROOT, load_script

STEWARD, OFFICER = PersonRole.DATA_STEWARD, PersonRole.PRIVACY_OFFICER
# Written out once more: a change of the table must be a change here.
MATRIX = {
    Action.SIGN_AGREEMENT: {OFFICER},
    Action.REVOKE_AGREEMENT: {OFFICER},
    Action.ISSUE_GRANT: {STEWARD},
    Action.REVOKE_GRANT: {STEWARD, OFFICER},
    Action.APPROVE_JOB: {STEWARD, OFFICER},
    Action.DENY_JOB: {STEWARD, OFFICER},
    Action.SET_ALIAS: {STEWARD, OFFICER},
    Action.ROLL_BACK_ALIAS: {STEWARD, OFFICER},
    Action.REVOKE_MODEL: {STEWARD, OFFICER},
    Action.DELETE_MODEL: {STEWARD, OFFICER},
    Action.SET_BUDGET: {OFFICER},
    Action.END_SERVING: {STEWARD, OFFICER},
    Action.PUBLISH_MODEL: {STEWARD},
    Action.WITHDRAW_MODEL: {STEWARD, OFFICER},
    Action.MAKE_EVIDENCE: {STEWARD, OFFICER},
    Action.APPROVE_RELEASE: {STEWARD, OFFICER},
    Action.ORDER_ASSESSMENT: {STEWARD, OFFICER},
    Action.END_ASSESSMENT: {STEWARD, OFFICER},
}
DIGEST = "a1" * 32


def authorisation(signer: Signer, action: Action = Action.SIGN_AGREEMENT) -> Authorisation:
    return Authorisation("hospital-a", signer.person.id, action, DIGEST, "b2" * 32, NOW)


def test_person_whom_no_policy_could_list_gets_no_key(tmp_path: Path) -> None:
    with pytest.raises(ConfideError) as caught:
        make_person(tmp_path / "olaf", "olaf", [OFFICER, PersonRole.OPERATOR], member="Olaf D")
    assert [problem.where for problem in caught.value.problems] == ["member", "roles"]
    assert not (tmp_path / "olaf").exists()


@pytest.mark.parametrize(("action", "role"), list(product(Action, PersonRole)), ids=lambda value: value.value)
def test_table_role_by_action_permits_exactly_the_matrix(action: Action, role: PersonRole) -> None:
    assert is_permitted(action, [role]) is (role in MATRIX[action])


def test_page_of_roles_is_what_the_tables_give() -> None:
    assert (ROOT / "docs" / "roles.md").read_text() == load_script("generate_role_tables").page()


def test_table_covers_every_action() -> None:
    assert set(PERMITTED) == set(Action) == set(MATRIX)


def test_operators_and_auditors_hold_no_governed_action() -> None:
    assert not any({PersonRole.OPERATOR, PersonRole.AUDITOR} & roles for roles in PERMITTED.values())


def test_operator_who_is_also_steward_never_approves_but_may_deny() -> None:
    both = [PersonRole.OPERATOR, STEWARD]
    assert not is_permitted(Action.APPROVE_JOB, both)
    assert is_permitted(Action.DENY_JOB, both)


def test_people_operator_and_privacy_officer_in_one_person_is_refused() -> None:
    problems = list(check_people([a_person("nora", PersonRole.OPERATOR, OFFICER).person]))
    assert [problem.where for problem in problems] == ["people.0.roles"]


def test_people_same_id_or_key_twice_and_no_role_are_all_reported() -> None:
    nora = an_officer("nora")
    twin = an_officer("emil", key=nora.key)
    problems = list(check_people([nora.person, nora.person, twin.person, replace(a_person("olaf").person, id="Not an id")]))
    assert [problem.where for problem in problems] == [
        "people.1.id", "people.1.key", "people.2.key", "people.3.id", "people.3.roles",
    ]  # fmt: skip


@pytest.mark.parametrize("action", Action, ids=lambda action: action.value)
def test_authorisation_of_each_role_is_accepted_as_the_table_says(action: Action) -> None:
    for role in PersonRole:
        signer = a_person("nora", role)
        signed = sign_authorisation(authorisation(signer, action), signer.key)

        def check(signed: object = signed, signer: Signer = signer) -> Authorisation:
            people = People([signer.person])
            return check_authorisation(signed, party="hospital-a", action=action, subject=DIGEST, people=people)  # type: ignore[arg-type]

        if role in MATRIX[action]:
            assert check() == authorisation(signer, action)
        else:
            with pytest.raises(ConfideError) as caught:
                check()
            assert caught.value.code is ErrorCode.NOT_AUTHORISED


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"party": "hospital-b"}, ErrorCode.NOT_AUTHORISED),
        ({"subject": "c3" * 32}, ErrorCode.NOT_AUTHORISED),
        ({"action": Action.REVOKE_AGREEMENT}, ErrorCode.NOT_AUTHORISED),
        ({"person": "emil"}, ErrorCode.NOT_AUTHORISED),
    ],
    ids=["another party", "another subject", "another action", "another person"],
)
def test_authorisation_for_something_else_is_refused(changed: dict[str, str], code: ErrorCode) -> None:
    nora = an_officer()
    signed = sign_authorisation(replace(authorisation(nora), **changed), nora.key)  # type: ignore[arg-type]
    with pytest.raises(ConfideError) as caught:
        check_authorisation(
            signed, party="hospital-a", action=Action.SIGN_AGREEMENT, subject=DIGEST, people=People([nora.person])
        )
    assert caught.value.code is code


def test_authorisation_signed_with_another_key_is_refused() -> None:
    nora, impostor = an_officer(), an_officer()
    signed = sign_authorisation(authorisation(nora), impostor.key)
    with pytest.raises(ConfideError) as caught:
        check_authorisation(
            signed, party="hospital-a", action=Action.SIGN_AGREEMENT, subject=DIGEST, people=People([nora.person])
        )
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_authorisation_with_unknown_fields_reports_all_problems() -> None:
    nora = an_officer()
    document = {**authorisation(nora).to_document(), "action": "rule the world", "extra": 1}
    del document["subject"]
    signed = sign(document, kind=DocumentKind.AUTHORISATION, signer="nora", key=nora.key)
    with pytest.raises(ConfideError) as caught:
        read_authorisation(signed)
    assert {problem.where for problem in caught.value.problems} == {"action", "extra", "subject"}


def config_with(folder: Path, *people: Signer) -> PartyConfig:
    config = PartyConfig(
        api_version="confide.party/1", party="hospital-a", listen="localhost:1", state=folder, policy=folder / "policy.yaml"
    )
    write_policy(config.policy, people=[signer.person for signer in people])
    return config


def test_authorise_by_a_listed_officer_is_kept_with_its_entry(tmp_path: Path) -> None:
    officer = make_person(tmp_path / "nora", "nora", [OFFICER])
    config = config_with(tmp_path, Signer(officer, PersonFolder(tmp_path / "nora").load()[1]))
    signed = authorise(config, tmp_path / "nora", Action.SIGN_AGREEMENT, DIGEST, NOW)
    database = open_database(tmp_path / "confide.db")
    with database.transaction() as tables:
        digest = keep_authorisation(tables, signed, now=NOW)
        assert tables.authorisations.all() == (signed,)
        entry = read_entry(tables.audit.entry(0).body)
    database.close()
    assert entry.kind is EntryKind.AUTHORISATION
    assert dict(entry.facts) == {"person": "nora", "action": "sign-agreement", "subject": DIGEST, "authorisation": digest}


@pytest.mark.parametrize("role", [PersonRole.OPERATOR, PersonRole.AUDITOR, PersonRole.DATA_STEWARD], ids=lambda role: role.value)
def test_authorise_by_somebody_without_the_role_is_refused(tmp_path: Path, role: PersonRole) -> None:
    person = make_person(tmp_path / "olaf", "olaf", [role])
    config = config_with(tmp_path, Signer(person, PersonFolder(tmp_path / "olaf").load()[1]))
    with pytest.raises(ConfideError) as caught:
        authorise(config, tmp_path / "olaf", Action.SIGN_AGREEMENT, DIGEST, NOW)
    assert caught.value.code is ErrorCode.NOT_AUTHORISED


def test_authorise_by_somebody_whom_the_policy_does_not_list_is_refused(tmp_path: Path) -> None:
    make_person(tmp_path / "eve", "eve", [OFFICER])
    with pytest.raises(ConfideError) as caught:
        authorise(config_with(tmp_path, an_officer()), tmp_path / "eve", Action.SIGN_AGREEMENT, DIGEST, NOW)
    assert caught.value.code is ErrorCode.NOT_AUTHORISED


def test_authorise_with_a_key_that_only_shares_the_listed_id_is_refused(tmp_path: Path) -> None:
    make_person(tmp_path / "nora", "nora", [OFFICER])
    with pytest.raises(ConfideError) as caught:
        authorise(config_with(tmp_path, an_officer("nora")), tmp_path / "nora", Action.SIGN_AGREEMENT, DIGEST, NOW)
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_person_folder_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    make_person(tmp_path / "nora", "nora", [OFFICER])
    folder = PersonFolder(tmp_path / "nora")
    assert folder.signing_key_file.stat().st_mode & 0o777 == 0o600
    folder.signing_key_file.chmod(0o640)
    with pytest.raises(ConfideError) as caught:
        folder.load()
    assert caught.value.code is ErrorCode.FILE_MODE


def test_person_folder_with_a_key_is_never_overwritten(tmp_path: Path) -> None:
    make_person(tmp_path / "nora", "nora", [OFFICER])
    with pytest.raises(ConfideError) as caught:
        make_person(tmp_path / "nora", "nora", [OFFICER])
    assert caught.value.code is ErrorCode.JOB_CONFLICT
