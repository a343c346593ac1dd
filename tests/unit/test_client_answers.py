"""What a researcher's client believes of a party's answer: that party's own signed ending of the very job she asked about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.names import MemberKind, PeerIdentity
from parties.client.client import Client
from parties.client.records import JobRecords
from parties.storage.state import Member
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.session.endings import Ending
from protocols.session.states import State
from tests.support.members import Keys, World, a_world

JOB, OTHER = "0f" * 16, "f0" * 16
ENDING = Ending(
    session=JOB,
    attempt=1,
    state=State.COMPLETED,
    code="",
    phase=State.RELEASING,
    at_fault="",
    cause="",
    remedy="",
    decided_by="hospital-a",
    time="2026-03-01T12:00:00Z",
    by_majority=True,
)


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


@pytest.fixture
def client(world: World, tmp_path: Path) -> Iterator[Client]:
    member = Member(
        identity=PeerIdentity(MemberKind.RESEARCHER, "cardio", "alice"),
        signing_key=world.alice.signing,
        tls_key=world.alice.tls,
        certificate=world.certificate_of("alice"),
        directory=world.directory,
    )
    client = Client(member, JobRecords(tmp_path))
    yield client
    client.close()


def signed(keys: Keys, signer: str, *, ending: Ending = ENDING, kind: DocumentKind = DocumentKind.ENDING) -> SignedDocument:
    return sign(ending.to_document(), kind=kind, signer=signer, key=keys.signing)


def answer(ending: SignedDocument | None, **fields: object) -> jobs_pb2.JobStatus:
    wire = None if ending is None else to_wire(ending)
    return jobs_pb2.JobStatus(**({"job_id": JOB, "party": "hospital-a", "state": "completed", "ending": wire} | fields))


def refusal(client: Client, status: jobs_pb2.JobStatus) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        client._read(status, party="hospital-a", job_id=JOB)
    return caught.value


def test_ending_signed_by_the_party_that_was_asked_is_believed(client: Client, world: World) -> None:
    progress = client._read(answer(signed(world.hospital_a, "hospital-a")), party="hospital-a", job_id=JOB)
    assert progress.ending == ENDING


def test_answer_without_an_ending_has_none(client: Client) -> None:
    assert client._read(answer(None), party="hospital-a", job_id=JOB).ending is None


def test_answer_is_shown_under_the_party_that_was_asked(client: Client) -> None:
    assert client._read(answer(None, party="hospital-b"), party="hospital-a", job_id=JOB).party == "hospital-a"


def test_ending_of_another_party_or_member_is_refused(client: Client, world: World) -> None:
    for keys, signer in ((world.hospital_b, "hospital-b"), (world.alice, "alice"), (world.hospital_b, "hospital-a")):
        error = refusal(client, answer(signed(keys, signer), party=signer))
        assert error.code is ErrorCode.BAD_SIGNATURE


def test_ending_of_another_job_is_refused_even_if_the_answer_says_so_too(client: Client, world: World) -> None:
    other = replace(ENDING, session=OTHER)
    error = refusal(client, answer(signed(world.hospital_a, "hospital-a", ending=other), job_id=OTHER))
    assert (error.code, error.party) == (ErrorCode.BAD_SIGNATURE, "hospital-a")


def test_ending_signed_as_something_else_is_refused(client: Client, world: World) -> None:
    document = signed(world.hospital_a, "hospital-a", kind=DocumentKind.SESSION_MESSAGE)
    assert refusal(client, answer(document)).code is ErrorCode.BAD_SIGNATURE


def test_ending_that_was_changed_after_it_was_signed_is_refused(client: Client, world: World) -> None:
    document = signed(world.hospital_a, "hospital-a")
    changed = replace(document, body=document.body.replace(b'"completed"', b'"withheld"'))
    assert changed.body != document.body
    assert refusal(client, answer(changed)).code is ErrorCode.BAD_SIGNATURE
