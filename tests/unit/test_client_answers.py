"""What a researcher's client believes of a party's answer: that party's own signed ending of the very job she asked about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.names import MemberKind, PeerIdentity
from parties.client.client import Client, PreparedJob
from parties.client.progress import Progress, read_progress
from parties.client.records import JobRecords
from parties.storage.state import Member
from parties.wire import methods
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.session.endings import Ending
from protocols.session.states import State
from tests.support.jobs import an_inference
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
    commitments={},
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


def read(client: Client, status: jobs_pb2.JobStatus) -> Progress:
    return read_progress(status, party="hospital-a", job_id=JOB, directory=client.directory)


def refusal(client: Client, status: jobs_pb2.JobStatus) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        read(client, status)
    return caught.value


def test_ending_signed_by_the_party_that_was_asked_is_believed(client: Client, world: World) -> None:
    progress = read(client, answer(signed(world.hospital_a, "hospital-a")))
    assert progress.ending == ENDING


def test_answer_without_an_ending_has_none(client: Client) -> None:
    assert read(client, answer(None)).ending is None


def test_answer_is_shown_under_the_party_that_was_asked(client: Client) -> None:
    assert read(client, answer(None, party="hospital-b")).party == "hospital-a"


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


def test_submit_again_after_a_failure_gives_the_samples_in_the_same_shares(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party that has the job keeps the share it has; another sharing of the samples would not fit to it."""
    given: list[tuple[str, bytes]] = []
    fails = {"hospital-b"}

    def take(_method: object, _channel: object, request: jobs_pb2.SubmitJobRequest, *, party: str, timeout_s: float) -> None:
        given.append((party, request.query_share))
        if party in fails:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, party=party)

    monkeypatch.setattr(type(methods.SUBMIT_JOB), "call", take)
    monkeypatch.setattr(client.calls._peers, "channel", lambda party: None)
    job = an_inference()
    prepared = PreparedJob(job, features=np.ones((job.query_rows or 0, job.model.input_features)))
    with pytest.raises(ConfideError):
        client.submit(prepared)
    fails.clear()
    client.submit(prepared)
    shares = {party: {share for who, share in given if who == party} for party in job.computing_parties}
    assert all(len(seen) == 1 and all(seen) for seen in shares.values())
    assert len(given) == 2 * len(job.participants)
    client.submit(prepared)  # everybody has it by now; nothing of the samples is kept here any longer
    assert {share for who, share in given if who in job.computing_parties} > set().union(*shares.values())
