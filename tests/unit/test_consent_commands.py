"""What `confide agreement` and `confide grant` do: people authorise, documents are signed, kept, told and logged together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from governance.audit.entries import EntryKind, read_entry
from governance.consent.agreement import SignedAgreement
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect
from governance.documents import DocumentKind
from parties import harness
from parties.agreements import (
    join_agreement,
    known_agreement,
    propose_agreement,
    revoke_agreement,
    sign_agreement,
    take_agreement_signature,
)
from parties.cli.main import app
from parties.config import PartyConfig, load_party_config
from parties.consent_files import load_agreement, load_grant_terms
from parties.grants import DatasetChoice, GrantTerms, create_grant, issued_grant, revoke_grant
from parties.harness_consent import OFFICER, OPERATOR, PURPOSE, STEWARD, permit, person_folder
from parties.registration import register_dataset
from parties.storage.database import open_database
from parties.storage.datasets import DatasetRecord
from privacy.preparation.contract import OnViolation
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, ModelRef, OutputKind
from protocols.training import OptimiserKind
from tests.support.small_table import ROWS, SCHEMA

PARTIES = ("party-a", "party-b", "party-c")
AGREEMENT_YAML = """
api_version: confide.agreement/1
consortium: harness
name: second
purposes: [quality]
parties: [party-a, party-b]
datasets: [party-a/*]
job_types: [infer, train]
outputs: [probability, label]
min_parties: 2
min_rows: 10
expires: 2099-01-31
"""
GRANT_YAML = """
api_version: confide.grant/1
agreement: harness
dataset: patients
purposes: [research]
job_types: [evaluate, train]
derived_job_types: [infer]
recipients: [researcher, institution/party-b]
outputs: {probability: {decimals: 2, clip: "0.01"}, correct_count: {min_cell: 10}}
parameters: {max_epochs: 50, min_batch_size: 16, optimisers: [adam]}
min_parties: 2
min_rows: 100
max_uses: 20
expires: 2099-01-31T00:00:00Z
"""


@dataclass
class Institutions:
    """The folders of a consortium in which nothing runs."""

    folder: Path

    def config(self, party: str) -> PartyConfig:
        return load_party_config(self.folder / party / "party.yaml")

    def person(self, party: str, person: str) -> Path:
        return person_folder(self.config(party), person)

    def register(self, party: str = "party-a") -> DatasetRecord:
        rows, schema = self.folder / "rows.csv", self.folder / "schema.yaml"
        rows.write_text(ROWS)
        schema.write_text(SCHEMA)
        how = OnViolation.REFUSE
        return register_dataset(
            self.config(party), name="patients", file=rows, schema_file=schema, on_violation=how, now=datetime.now(UTC)
        )

    def logged(self, party: str) -> list[tuple[EntryKind, dict[str, Any]]]:
        database = open_database(self.config(party).folder.database_file)
        with database.transaction() as tables:
            entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
        database.close()
        return [(entry.kind, dict(entry.facts)) for entry in entries]

    def told(self, party: str, kind: DocumentKind) -> int:
        database = open_database(self.config(party).folder.database_file)
        with database.transaction() as tables:
            count = len(tables.statements.own(kind, party=party))
        database.close()
        return count


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_001, 17_001 + count)))
        harness.make_consortium(folder, PARTIES)
    return folder


@pytest.fixture
def institutions(made: Path, tmp_path: Path) -> Institutions:
    shutil.copytree(made, tmp_path / "all")
    return Institutions(tmp_path / "all")


def now() -> datetime:
    return datetime.now(UTC)


def second(institutions: Institutions) -> SignedAgreement:
    file = institutions.folder / "agreement.yaml"
    file.write_text(AGREEMENT_YAML)
    return propose_agreement(load_agreement(file, now=now()))


def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--format", "json"])
    assert result.exit_code == code, result.output
    envelope: dict[str, Any] = json.loads(result.stdout)
    return envelope["data"] if code == 0 else envelope["error"]


def test_agreement_is_in_force_when_the_last_party_has_signed(institutions: Institutions) -> None:
    signed = second(institutions)
    for party, missing in (("party-a", ("party-b",)), ("party-b", ())):
        config, officer = institutions.config(party), institutions.person(party, OFFICER)
        signed = sign_agreement(config, officer, signed.to_bytes(), now=now())
        assert signed.missing == missing
        assert institutions.told(party, DocumentKind.AGREEMENT) == 2  # the harness's own, and this one
    _, problems = known_agreement(institutions.config("party-a"), "second", now=now())
    assert ["party-b has not signed it yet" in problem.what for problem in problems] == [True]
    for party in ("party-a", "party-c"):  # one that learns of it without being one of its parties knows it too
        assert join_agreement(institutions.config(party), signed.to_bytes(), now=now()) == signed
        assert known_agreement(institutions.config(party), signed.digest[:8], now=now()) == (signed, ())
    in_force = [facts["name"] for kind, facts in institutions.logged("party-a") if kind is EntryKind.AGREEMENT_IN_FORCE]
    assert in_force == ["harness", "second"]


def test_signature_that_another_party_tells_is_taken_once(institutions: Institutions) -> None:
    config = institutions.config("party-b")
    signed = sign_agreement(config, institutions.person("party-b", OFFICER), second(institutions).to_bytes(), now=now())
    database = open_database(institutions.config("party-a").folder.database_file)
    directory = config.folder.member.load_directory()
    for _ in range(2):
        with database.transaction() as tables:
            assert take_agreement_signature(tables, signed.signatures[0], directory, now=now()).signers == ("party-b",)
    altered = replace(signed.signatures[0], signature=bytes(64))
    with database.transaction() as tables, pytest.raises(ConfideError) as caught:
        take_agreement_signature(tables, altered, directory, now=now())
    database.close()
    assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_agreement_with_a_broken_signature_is_neither_signed_nor_joined(institutions: Institutions) -> None:
    config = institutions.config("party-a")
    signed = sign_agreement(config, institutions.person("party-a", OFFICER), second(institutions).to_bytes(), now=now())
    broken = replace(signed, signatures=(replace(signed.signatures[0], signature=bytes(64)),)).to_bytes()
    other = institutions.config("party-b")
    for attempt in (
        lambda: sign_agreement(other, institutions.person("party-b", OFFICER), broken, now=now()),
        lambda: join_agreement(other, broken, now=now()),
    ):
        with pytest.raises(ConfideError, match="party-a") as caught:
            attempt()
        assert caught.value.code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize("person", [OPERATOR, STEWARD])
def test_agreement_is_signed_by_a_privacy_officer_alone(person: str, institutions: Institutions) -> None:
    document = second(institutions).to_bytes()
    with pytest.raises(ConfideError) as caught:
        sign_agreement(institutions.config("party-a"), institutions.person("party-a", person), document, now=now())
    assert caught.value.code is ErrorCode.NOT_AUTHORISED
    assert institutions.told("party-a", DocumentKind.AGREEMENT) == 1


def test_agreement_revoked_by_one_party_is_over_and_told(institutions: Institutions) -> None:
    config = institutions.config("party-c")
    revoke_agreement(config, institutions.person("party-c", OFFICER), "harness", reason="the study is over", now=now())
    _, problems = known_agreement(config, "harness", now=now())
    assert ["party-c revoked it" in problem.what for problem in problems] == [True]
    assert institutions.told("party-c", DocumentKind.REVOCATION) == 1
    assert institutions.logged("party-c")[-1][0] is EntryKind.AGREEMENT_REVOKED


def test_grant_is_bound_to_the_registration_and_logged_with_its_author(institutions: Institutions) -> None:
    registered = institutions.register()
    record = permit(institutions.config("party-a"), registered, max_uses=3)
    assert record.grant.subject.label == "patients/1"
    assert (record.uses, record.standing(now())) == (0, "in force")
    (kind, facts), (before, _) = institutions.logged("party-a")[-1], institutions.logged("party-a")[-2]
    assert institutions.told("party-a", DocumentKind.GRANT) == 1
    assert (before, kind, facts["grant"]) == (EntryKind.AUTHORISATION, EntryKind.GRANT_ISSUED, record.grant_id)


def test_grant_revoked_is_over_at_once_and_told(institutions: Institutions) -> None:
    config = institutions.config("party-a")
    record = permit(config, institutions.register())
    steward = institutions.person("party-a", STEWARD)
    for effect in (Effect.STOP, Effect.STOP, Effect.DELETE):
        revoke_grant(config, steward, record.grant_id[:8], reason="a patient asked", effect=effect, now=now())
    found = issued_grant(config, record.grant_id)
    assert found.record.revocation is not None
    assert (found.record.revocation.effect, found.record.standing(now())) == (Effect.DELETE, "revoked")
    assert institutions.told("party-a", DocumentKind.REVOCATION) == 2
    assert [kind for kind, _ in institutions.logged("party-a")].count(EntryKind.GRANT_REVOKED) == 2


def terms(**changes: Any) -> GrantTerms:
    known = GrantTerms(
        agreement="harness",
        subject=DatasetChoice("patients"),
        purposes=(PURPOSE,),
        job_types=(JobType.TRAIN,),
        derived_job_types=(),
        recipients=("*",),
        outputs=(),
        max_uses=1,
        expires=now() + timedelta(days=1),
    )
    return replace(known, **changes)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"agreement": "unknown"}, ErrorCode.UNKNOWN_DOCUMENT, "no agreement unknown"),
        ({"subject": DatasetChoice("others")}, ErrorCode.UNKNOWN_DATASET, "others"),
        ({"subject": DatasetChoice("patients", 2)}, ErrorCode.UNKNOWN_DATASET, "patients version 2"),
        ({"subject": ModelRef("diagnosis", "0" * 12)}, ErrorCode.UNKNOWN_MODEL, "no rows of party-a"),
        ({"purposes": ("reserch",)}, ErrorCode.INVALID_DOCUMENT, "reserch is not in the agreement"),
        ({"expires": now() - timedelta(days=1)}, ErrorCode.INVALID_DOCUMENT, "ends before it begins"),
        ({"recipients": ()}, ErrorCode.INVALID_DOCUMENT, "nobody may use it"),
    ],
)
def test_terms_that_make_no_grant_are_refused(
    changes: dict[str, Any], code: ErrorCode, words: str, institutions: Institutions
) -> None:
    institutions.register()
    config = institutions.config("party-a")
    with pytest.raises(ConfideError, match=words) as caught:
        create_grant(config, institutions.person("party-a", STEWARD), terms(**changes), now=now())
    assert caught.value.code is code


def test_grant_is_not_issued_by_somebody_elses_steward(institutions: Institutions) -> None:
    institutions.register()
    with pytest.raises(ConfideError) as caught:
        create_grant(institutions.config("party-a"), institutions.person("party-b", STEWARD), terms(), now=now())
    assert caught.value.code in (ErrorCode.NOT_AUTHORISED, ErrorCode.BAD_SIGNATURE)


def test_grant_file_says_all_limits(tmp_path: Path) -> None:
    (tmp_path / "grant.yaml").write_text(GRANT_YAML)
    read = load_grant_terms(tmp_path / "grant.yaml")
    assert read.outputs == (
        OutputRule(OutputKind.PROBABILITY, decimals=2, clip="0.01"),
        OutputRule(OutputKind.CORRECT_COUNT, min_cell=10),
    )
    assert read.parameters == ParameterLimits(max_epochs=50, min_batch_size=16, optimisers=(OptimiserKind.ADAM,))
    assert (read.subject, read.expires) == (DatasetChoice("patients"), datetime(2099, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("line", "changed", "where"),
    [
        ("max_uses: 20", "max_usage: 20", ":13 max_usage"),
        ("max_uses: 20", "max_uses: yes", ":13 max_uses"),
        ("dataset: patients", "dataset: patients\nmodel: diagnosis@0123456789ab", "either dataset or model"),
        ("min_cell: 10", "min_cell: -1", ":9 outputs.correct_count.min_cell"),
        ("expires: 2099-01-31T00:00:00Z", "expires: soon", ":14 expires"),
    ],
)
def test_grant_file_with_a_mistake_is_refused_and_the_line_named(line: str, changed: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "grant.yaml").write_text(GRANT_YAML.replace(line, changed))
    with pytest.raises(ConfideError) as caught:
        load_grant_terms(tmp_path / "grant.yaml")
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert where in str(caught.value)


def test_commands_lead_from_a_proposal_to_a_revoked_grant(institutions: Institutions) -> None:
    folder = institutions.folder
    (folder / "agreement.yaml").write_text(AGREEMENT_YAML)
    (folder / "grant.yaml").write_text(GRANT_YAML)
    document = folder / "second.json"
    digest = run("agreement", "propose", "--file", folder / "agreement.yaml", "--out", document)["digest"]

    def at(party: str, person: str | None = None) -> Sequence[object]:
        options = ("--config", folder / party / "party.yaml")
        return options if person is None else (*options, "--person", institutions.person(party, person))

    run("agreement", "sign", document, *at("party-a", OFFICER))
    run("agreement", "sign", document, *at("party-b", OFFICER))
    run("agreement", "join", document, *at("party-a"))
    listed = run("agreement", "list", *at("party-a"))["agreements"]
    assert {entry["digest"]: entry["in_force"] for entry in listed}[digest]
    assert run("agreement", "show", "second", *at("party-a"))["signed_by"] == ["party-a", "party-b"]
    assert run("agreement", "sign", document, *at("party-c", OFFICER), code=2)["code"] == "INVALID_DOCUMENT"
    institutions.register()
    grant = run("grant", "create", "--file", folder / "grant.yaml", *at("party-a", STEWARD))["grant"]
    flags = ("--agreement", "second", "--dataset", "patients/1", "--purpose", "quality", "--job", "train", "--recipient", "*")
    run("grant", "create", *flags, *at("party-a", STEWARD))
    assert run("grant", "create", *flags, *at("party-a", OPERATOR), code=5)["code"] == "NOT_AUTHORISED"
    assert [entry["standing"] for entry in run("grant", "list", *at("party-a"))["grants"]] == ["in force"] * 2
    assert run("grant", "revoke", grant, "--dry-run", *at("party-a"))["subject"] == grant
    run("grant", "revoke", grant, "--delete", "--reason", "a patient asked", *at("party-a", OFFICER))
    assert run("grant", "show", grant[:8], *at("party-a"))["revocation"]["effect"] == "delete"
    for noun in ("agreement", "grant"):
        assert run(noun, "schema")["additionalProperties"] is False
