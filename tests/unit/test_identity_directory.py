"""The directory: who is a member, with which keys; what the founder did not sign is not believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory, read_directory
from governance.identity.names import FOUNDER, MemberKind, PeerIdentity, Role
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import NOW, World, a_founder, a_world, new_keys


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


def _read(world: World, signed: SignedDocument) -> Directory:
    return read_directory(signed, founder_fingerprint=world.founder.fingerprint)


def _refused(world: World, signed: SignedDocument, code: ErrorCode) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        _read(world, signed)
    assert caught.value.code is code
    return caught.value


def test_directory_after_round_trip_is_equal(world: World) -> None:
    signed = SignedDocument.from_bytes(world.founder.signed(world.directory).to_bytes())
    assert _read(world, signed) == world.directory


def test_directory_lookups_find_members_by_kind(world: World) -> None:
    directory = world.directory
    assert directory.party("hospital-a").signing_key == world.hospital_a.signing.public
    assert directory.researcher("alice").institution == "hospital-a"
    assert directory.signing_key("alice") == world.alice.signing.public
    assert directory.dealers == ("hospital-b",)
    assert directory.with_role(Role.COMPUTING) == ("hospital-a",)


@pytest.mark.parametrize(
    "look", [lambda d: d.party("alice"), lambda d: d.researcher("hospital-a"), lambda d: d.signing_key("nobody")]
)
def test_directory_lookup_of_absent_member_is_refused(world: World, look: Callable[[Directory], object]) -> None:
    with pytest.raises(ConfideError) as caught:
        look(world.directory)
    assert caught.value.code is ErrorCode.NOT_ENROLLED


def test_directory_of_other_founder_is_refused(world: World) -> None:
    other = a_founder()
    _refused(world, other.signed(other.directory()), ErrorCode.FINGERPRINT_DIFFERS)


def test_directory_altered_after_signing_is_refused(world: World) -> None:
    signed = world.founder.signed(world.directory)
    document = dict(signed.document) | {"version": 4}
    _refused(world, replace(signed, body=canonical_bytes(document)), ErrorCode.BAD_SIGNATURE)


def test_directory_signed_by_a_member_in_the_founders_name_is_refused(world: World) -> None:
    signed = sign(world.directory.to_document(), kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=world.hospital_a.signing)
    _refused(world, signed, ErrorCode.BAD_SIGNATURE)


def _changed(world: World, **changes: object) -> SignedDocument:
    """A directory that the founder did sign, without the checks of `sign_directory`."""
    document = dict(world.directory.to_document()) | changes
    return sign(document, kind=DocumentKind.DIRECTORY, signer=FOUNDER, key=world.founder.signing)


def test_directory_handmade_unchanged_is_accepted(world: World) -> None:
    assert _read(world, _changed(world)) == world.directory


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": "3"},
        {"issued": "yesterday"},
        {"parties": {}},
        {"parties": [{"id": "x"}]},
        {"parties": [7]},
        {"researchers": [None]},
        {"ca_certificate": "none"},
        {"format": "confide.directory/2"},
        {"consortium": "Not An Id"},
        {"consortium": "other"},
        {"extra": 1},
    ],
)
def test_directory_with_wrong_field_is_refused(world: World, changes: dict[str, object]) -> None:
    _refused(world, _changed(world, **changes), ErrorCode.INVALID_DOCUMENT)


def test_directory_with_certificate_of_foreign_authority_is_refused(world: World) -> None:
    keys = new_keys()
    entry = a_founder().party(keys, "hospital-c")
    with pytest.raises(ConfideError, match="not one that this consortium issued") as caught:
        world.founder.signed(replace(world.directory, parties=(*world.directory.parties, entry)))
    assert caught.value.problems[0].where == "hospital-c"


def test_directory_with_certificate_of_another_member_is_refused(world: World) -> None:
    entry = replace(world.directory.party("hospital-a"), certificate=world.certificate_of("hospital-b"))
    with pytest.raises(ConfideError, match="not one that this consortium issued"):
        world.founder.signed(replace(world.directory, parties=(entry, world.directory.party("hospital-b"))))


def test_directory_with_researchers_certificate_for_a_party_is_refused(world: World) -> None:
    entry = replace(world.directory.party("hospital-a"), id="alice", certificate=world.certificate_of("alice"))
    with pytest.raises(ConfideError, match="not one that this consortium issued"):
        world.founder.signed(replace(world.directory, parties=(entry,), researchers=()))


@pytest.mark.parametrize("what", ["id", "signing key", "TLS key"])
def test_directory_with_shared_id_or_key_is_refused(world: World, what: str) -> None:
    fresh, known = new_keys(), world.hospital_a
    keys, name = {
        "id": (fresh, "hospital-a"),
        "signing key": (replace(fresh, signing=known.signing), "carol"),
        "TLS key": (replace(fresh, tls=known.tls), "carol"),
    }[what]
    entry = world.founder.researcher(keys, name)
    with pytest.raises(ConfideError, match=f"two members have the same {what}"):
        world.founder.signed(replace(world.directory, researchers=(entry,)))


def test_directory_with_researcher_of_absent_institution_is_refused(world: World) -> None:
    with pytest.raises(ConfideError, match="is no party of the directory"):
        world.founder.signed(world.without("hospital-a"))


def test_supersedes_only_newer_of_same_consortium_and_founder(world: World) -> None:
    old = world.directory
    assert replace(old, version=4).supersedes(old)
    assert not old.supersedes(old)
    assert not replace(old, version=2).supersedes(old)
    assert not replace(old, version=9, consortium="other").supersedes(old)
    assert not replace(old, version=9, founder_key=new_keys().signing.public).supersedes(old)


def test_check_peer_of_member_returns_who_it_is(world: World) -> None:
    for member, kind in (("hospital-a", MemberKind.PARTY), ("alice", MemberKind.RESEARCHER)):
        pem = world.certificate_of(member).encode()
        assert world.directory.check_peer(pem, NOW) == PeerIdentity(kind, "cardio", member)


def test_check_peer_with_renewed_certificate_of_pinned_key_is_accepted(world: World) -> None:
    later = NOW + timedelta(days=200)
    renewed = world.founder.certificate(world.hospital_a, "hospital-a", now=later)
    assert world.directory.check_peer(renewed, later).id == "hospital-a"


def _unauthenticated(world: World, pem: str, *, days: int = 0) -> None:
    with pytest.raises(ConfideError) as caught:
        world.directory.check_peer(pem, NOW + timedelta(days=days))
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


def test_check_peer_with_other_key_than_pinned_is_refused(world: World) -> None:
    # Even the authority cannot swap a member's key without the founder's signature under a new directory.
    _unauthenticated(world, world.founder.certificate(new_keys(), "hospital-a"))


def test_check_peer_of_foreign_authority_is_refused(world: World) -> None:
    _unauthenticated(world, a_founder().certificate(world.hospital_a, "hospital-a"))


def test_check_peer_after_expiry_is_refused(world: World) -> None:
    _unauthenticated(world, world.certificate_of("hospital-a"), days=91)


def test_check_peer_researcher_key_as_party_is_refused(world: World) -> None:
    _unauthenticated(world, world.founder.certificate(world.alice, "alice", kind=MemberKind.PARTY))


def test_check_peer_of_member_taken_out_is_refused(world: World) -> None:
    with pytest.raises(ConfideError) as caught:
        world.without("hospital-b").check_peer(world.certificate_of("hospital-b"), NOW)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
