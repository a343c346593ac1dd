"""Enrolment through files: what founder and members do, and every way in which they refuse each other."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from governance.documents import SignedDocument
from governance.identity.directory import Directory
from governance.identity.names import MemberKind, Role, grouped
from parties.config import load_party_config, load_researcher_config
from parties.consortium import ConsortiumFolder, approve, init_consortium, load_consortium, publish, remove
from parties.enrolment import Enrolment, init_party, init_researcher, join_party, join_researcher
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Files:
    """Three institutions, a researcher and a founder, each in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.founded = init_consortium(root / "consortium", consortium="cardio", now=NOW)
        self.fingerprint = grouped(self.founded.founder_key.fingerprint)

    def init(self, party: str) -> Enrolment:
        roles = [Role.DATA_OWNER, Role.COMPUTING]
        return init_party(self.root / party, party=party, endpoint=f"{party}:7443", listen="0.0.0.0:7443", roles=roles)

    def approve(self, enrolment: Enrolment, *, roles: list[Role] | None = None, now: datetime = NOW) -> Directory:
        data = enrolment.request_file.read_bytes()
        fingerprint = enrolment.request.fingerprint
        return approve(self.root / "consortium", data, fingerprint=fingerprint, roles=roles, now=now)

    @property
    def published(self) -> bytes:
        return ConsortiumFolder(self.root / "consortium").directory_file.read_bytes()

    def join(self, party: str, *, fingerprint: str | None = None, data: bytes | None = None, now: datetime = NOW) -> Directory:
        config = load_party_config(self.root / party / "party.yaml")
        return join_party(config, data or self.published, founder_fingerprint=fingerprint, now=now)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_enrolment_of_three_parties_and_a_researcher_gives_all_the_same_directory(files: Files) -> None:
    for party in ("hospital-a", "hospital-b", "hospital-c"):
        files.approve(files.init(party), roles=[Role.DEALER] if party == "hospital-c" else None)
    alice = init_researcher(files.root / "alice", researcher="alice", institution="hospital-a")
    last = files.approve(alice)
    for party in ("hospital-a", "hospital-b", "hospital-c"):
        assert files.join(party, fingerprint=files.fingerprint) == last
    config = load_researcher_config(files.root / "alice" / "researcher.yaml")
    assert join_researcher(config, files.published, founder_fingerprint=files.fingerprint, now=NOW) == last
    assert last.version == 5
    assert last.dealers == ("hospital-c",)
    assert [p.roles for p in last.parties[:2]] == [(Role.DATA_OWNER, Role.COMPUTING)] * 2


def test_member_after_join_loads_with_its_keys(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    directory = files.join("hospital-a", fingerprint=files.fingerprint)
    folder = load_party_config(files.root / "hospital-a" / "party.yaml").folder
    member = folder.member.load_member(kind=MemberKind.PARTY, member="hospital-a", now=NOW)
    assert member.directory == directory
    assert member.signing_key.public == directory.party("hospital-a").signing_key
    assert member.certificate == directory.party("hospital-a").certificate
    assert "PRIVATE" not in repr(member)


def test_secret_keys_stay_in_files_of_mode_0600(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    files.join("hospital-a", fingerprint=files.fingerprint)
    secrets = list(files.root.rglob("keys/*"))
    assert len(secrets) == 5
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    others = [path for path in files.root.rglob("*") if path.is_file() and path not in secrets]
    assert not [path for path in others if b"PRIVATE KEY" in path.read_bytes()]


def test_member_with_readable_key_file_does_not_load(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    files.join("hospital-a", fingerprint=files.fingerprint)
    member = load_party_config(files.root / "hospital-a" / "party.yaml").folder.member
    for key in (member.signing_key_file, member.tls_key_file):
        key.chmod(0o644)
        with pytest.raises(ConfideError) as caught:
            member.load_member(kind=MemberKind.PARTY, member="hospital-a", now=NOW)
        assert caught.value.code is ErrorCode.FILE_MODE
        key.chmod(0o600)


def test_member_with_expired_certificate_does_not_load(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    files.join("hospital-a", fingerprint=files.fingerprint)
    member = load_party_config(files.root / "hospital-a" / "party.yaml").folder.member
    with pytest.raises(ConfideError) as caught:
        member.load_member(kind=MemberKind.PARTY, member="hospital-a", now=NOW + timedelta(days=91))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_member_loaded_as_somebody_else_is_refused(files: Files) -> None:
    for party in ("hospital-a", "hospital-b"):
        files.approve(files.init(party))
    files.join("hospital-a", fingerprint=files.fingerprint)
    member = load_party_config(files.root / "hospital-a" / "party.yaml").folder.member
    for kind, name in ((MemberKind.PARTY, "hospital-b"), (MemberKind.RESEARCHER, "hospital-a")):
        with pytest.raises(ConfideError) as caught:
            member.load_member(kind=kind, member=name, now=NOW)
        assert caught.value.code is ErrorCode.NOT_ENROLLED


# --- the founder


def _refused(code: ErrorCode) -> pytest.RaisesExc[ConfideError]:
    return pytest.RaisesExc(ConfideError, check=lambda error: error.code is code)


def test_approve_with_wrong_fingerprint_changes_nothing(files: Files) -> None:
    enrolment = files.init("hospital-a")
    other = files.init("hospital-b").request.fingerprint
    with _refused(ErrorCode.FINGERPRINT_DIFFERS):
        approve(files.root / "consortium", enrolment.request_file.read_bytes(), fingerprint=other, roles=None, now=NOW)
    assert load_consortium(files.root / "consortium").version == 1


def test_approve_altered_request_is_refused(files: Files) -> None:
    enrolment = files.init("hospital-a")
    signed = SignedDocument.from_bytes(enrolment.request_file.read_bytes())
    document = dict(signed.document) | {"endpoint": "evil.example:7443"}
    altered = dataclasses.replace(signed, body=canonical_bytes(document))
    with _refused(ErrorCode.BAD_SIGNATURE):
        approve(
            files.root / "consortium",
            altered.to_bytes(),
            fingerprint=enrolment.request.fingerprint,
            roles=None,
            now=NOW,
        )


def test_approve_request_on_its_way_replaced_by_an_attackers_is_refused(files: Files) -> None:
    mine = files.init("hospital-a")
    eve = init_party(files.root / "eve", party="hospital-a", endpoint="evil:7443", listen="0.0.0.0:1", roles=[Role.DATA_OWNER])
    with _refused(ErrorCode.FINGERPRINT_DIFFERS):
        approve(
            files.root / "consortium",
            eve.request_file.read_bytes(),
            fingerprint=mine.request.fingerprint,
            roles=None,
            now=NOW,
        )


def test_approve_second_member_of_same_id_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    again = init_party(files.root / "again", party="hospital-a", endpoint="x:1", listen="0.0.0.0:1", roles=[Role.DEALER])
    with _refused(ErrorCode.JOB_CONFLICT):
        files.approve(again)


def test_approve_researcher_with_a_partys_id_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    with _refused(ErrorCode.INVALID_DOCUMENT):
        files.approve(init_researcher(files.root / "x", researcher="hospital-a", institution=None))


def test_approve_same_request_again_renews_the_certificate(files: Files) -> None:
    enrolment = files.init("hospital-a")
    files.approve(enrolment)
    files.join("hospital-a", fingerprint=files.fingerprint)
    later = NOW + timedelta(days=80)
    renewed = files.approve(enrolment, roles=[Role.DEALER], now=later)
    assert len(renewed.parties) == 1
    assert renewed.dealers == ("hospital-a",)
    assert files.join("hospital-a", now=later) == renewed
    member = load_party_config(files.root / "hospital-a" / "party.yaml").folder.member
    assert member.load_member(kind=MemberKind.PARTY, member="hospital-a", now=later + timedelta(days=89)).directory == renewed


def test_consortium_keeps_every_version_it_signed(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    place = ConsortiumFolder(files.root / "consortium")
    assert place.history_file(1).exists()
    assert place.history_file(2).read_bytes() == files.published


def test_consortium_directory_altered_at_its_founder_is_refused(files: Files) -> None:
    place = ConsortiumFolder(files.root / "consortium")
    place.directory_file.write_bytes(files.published.replace(b"cardio", b"cardia"))
    with _refused(ErrorCode.BAD_SIGNATURE):
        load_consortium(files.root / "consortium")


def test_consortium_twice_in_one_folder_is_refused(files: Files) -> None:
    with _refused(ErrorCode.JOB_CONFLICT):
        init_consortium(files.root / "consortium", consortium="other", now=NOW)


def test_remove_takes_a_member_out_at_everybody_who_joins_that_version(files: Files) -> None:
    for party in ("hospital-a", "hospital-b"):
        files.approve(files.init(party))
    held = files.join("hospital-a", fingerprint=files.fingerprint)
    certificate = held.party("hospital-b").certificate
    assert held.check_peer(certificate, NOW).id == "hospital-b"
    remove(files.root / "consortium", member="hospital-b", now=NOW)
    with _refused(ErrorCode.UNAUTHENTICATED):
        files.join("hospital-a").check_peer(certificate, NOW)


def test_remove_absent_member_or_party_with_researchers_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    files.approve(init_researcher(files.root / "alice", researcher="alice", institution="hospital-a"))
    for member, code in (("nobody", ErrorCode.NOT_ENROLLED), ("hospital-a", ErrorCode.INVALID_DOCUMENT)):
        with _refused(code):
            remove(files.root / "consortium", member=member, now=NOW)
    assert load_consortium(files.root / "consortium").version == 3


def test_publish_copies_the_signed_bytes(files: Files) -> None:
    publish(files.root / "consortium", files.root / "out.json")
    assert (files.root / "out.json").read_bytes() == files.published


# --- the members


def test_init_twice_in_one_folder_is_refused_and_keeps_the_keys(files: Files) -> None:
    files.init("hospital-a")
    key = files.root / "hospital-a" / "state" / "keys" / "signing.pem"
    before = key.read_bytes()
    with _refused(ErrorCode.JOB_CONFLICT):
        files.init("hospital-a")
    (files.root / "hospital-a" / "party.yaml").unlink()
    with _refused(ErrorCode.JOB_CONFLICT):
        files.init("hospital-a")
    assert key.read_bytes() == before


def test_init_with_wrong_values_names_all_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfideError) as caught:
        init_party(tmp_path / "a", party="A", endpoint="x", listen="y", roles=[])
    assert {problem.where for problem in caught.value.problems} == {"id", "endpoint", "listen", "roles"}
    assert not list(tmp_path.iterdir())


def test_join_first_time_without_fingerprint_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    with _refused(ErrorCode.INVALID_ARGUMENT):
        files.join("hospital-a")


def test_join_with_wrong_fingerprint_is_refused_and_pins_nothing(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    with _refused(ErrorCode.FINGERPRINT_DIFFERS):
        files.join("hospital-a", fingerprint="0" * 64)
    files.join("hospital-a", fingerprint=files.fingerprint)


def test_join_directory_of_an_impostor_with_his_own_founder_key_is_refused(files: Files, tmp_path: Path) -> None:
    enrolment = files.init("hospital-a")
    impostor = Files(tmp_path / "impostor")
    impostor.approve(enrolment)
    with _refused(ErrorCode.FINGERPRINT_DIFFERS):
        files.join("hospital-a", fingerprint=files.fingerprint, data=impostor.published)


def test_join_altered_directory_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    altered = files.published.replace(b"hospital-a:7443", b"hospital-e:7443")
    assert altered != files.published
    with _refused(ErrorCode.BAD_SIGNATURE):
        files.join("hospital-a", fingerprint=files.fingerprint, data=altered)


def test_join_older_directory_is_refused_and_the_newer_stays(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    older = files.published
    newer = files.approve(files.init("hospital-b"))
    files.join("hospital-a", fingerprint=files.fingerprint)
    with _refused(ErrorCode.STALE_DIRECTORY):
        files.join("hospital-a", data=older)
    assert load_party_config(files.root / "hospital-a" / "party.yaml").folder.member.load_directory() == newer


def test_join_same_directory_again_changes_nothing(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    first = files.join("hospital-a", fingerprint=files.fingerprint)
    assert files.join("hospital-a") == first


def test_join_later_under_another_founder_is_refused(files: Files, tmp_path: Path) -> None:
    enrolment = files.init("hospital-a")
    files.approve(enrolment)
    files.join("hospital-a", fingerprint=files.fingerprint)
    impostor = Files(tmp_path / "impostor")
    for _ in range(3):
        impostor.approve(enrolment)
    for fingerprint in (None, impostor.fingerprint):
        with _refused(ErrorCode.FINGERPRINT_DIFFERS):
            files.join("hospital-a", data=impostor.published, fingerprint=fingerprint)


def test_join_before_approval_is_refused(files: Files) -> None:
    files.init("hospital-a")
    with _refused(ErrorCode.NOT_ENROLLED):
        files.join("hospital-a", fingerprint=files.fingerprint)


def test_join_with_keys_of_another_request_is_refused(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    init_party(files.root / "again", party="hospital-a", endpoint="x:1", listen="0.0.0.0:1", roles=[Role.DEALER])
    with _refused(ErrorCode.NOT_ENROLLED):
        files.join("again", fingerprint=files.fingerprint)


def test_member_whose_stored_directory_was_altered_does_not_load(files: Files) -> None:
    files.approve(files.init("hospital-a"))
    files.join("hospital-a", fingerprint=files.fingerprint)
    member = load_party_config(files.root / "hospital-a" / "party.yaml").folder.member
    member.directory_file.write_bytes(files.published.replace(b"hospital-a:7443", b"hospital-e:7443"))
    with _refused(ErrorCode.BAD_SIGNATURE):
        member.load_directory()


def test_state_folder_served_twice_is_refused_but_commands_may_open_it(files: Files) -> None:
    files.init("hospital-a")
    folder = load_party_config(files.root / "hospital-a" / "party.yaml").folder
    with folder.serving():
        with _refused(ErrorCode.STATE_LOCKED), folder.serving():
            pass
        folder.open_sealed()
    with folder.serving():
        pass
