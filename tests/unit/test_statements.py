"""Statements between parties: which are believed, what follows from each, and in what amounts they are taken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from governance.audit.entries import EntryKind
from governance.consent.agreement import sign_agreement
from governance.consent.revocation import Effect
from governance.documents import DocumentKind, SignedDocument
from governance.identity.names import MemberKind, PeerIdentity
from governance.lineage.receipt import DeletionReceipt, sign_receipt
from parties.server import access, statements
from parties.server.governance_service import GovernanceService
from parties.server.statements import BURST, Allowance, Exchange, statements_after, take_in
from parties.transport.peers import Peers
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import governance_pb2
from parties.wire.methods import LIST_STATEMENTS, TELL, Method
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from tests.support.consent import ConsentWorld, an_agreement
from tests.support.holders import HolderWorld, holders
from tests.support.jobs import CREATED

A, B, C = "hospital-a", "hospital-b", "hospital-c"


@pytest.fixture(scope="module")
def consent() -> ConsentWorld:
    return ConsentWorld()


@pytest.fixture
def world(request: pytest.FixtureRequest, consent: ConsentWorld, tmp_path: Path) -> Iterator[HolderWorld]:
    """Hospital A, or the parties that a test names."""
    parties = getattr(request, "param", (A,))
    with holders(tmp_path, now=CREATED + timedelta(hours=1), consent=consent, parties=parties) as made:
        yield made


def receipt(world: HolderWorld, holder: str, **changes: Any) -> SignedDocument:
    said = DeletionReceipt("cardio", holder, ModelRef("diagnosis", "0" * 12), C, "c0" * 16, "ab" * 32, world.now)
    return sign_receipt(replace(said, **changes), world.consent.keys[holder].signing)


def code_of(world: HolderWorld, signed: SignedDocument) -> ErrorCode:
    with pytest.raises(ConfideError) as caught:
        take_in(world.parties[A], signed)
    return caught.value.code


def state(world: HolderWorld) -> dict[str, object]:
    """What a party has taken in, without the order."""
    with world.parties[A].database.transaction() as tables:
        return {
            "revocations": {(each.revocation.issuer, each.revocation.subject) for each in tables.revocations.all()},
            "receipts": {each.body for each in tables.statements.heard(DocumentKind.DELETION_RECEIPT)},
            "agreements": {signed.digest: signed.signers for signed in tables.agreements.all()},
        }


def test_revocation_about_an_unknown_grant_is_kept_and_logged(world: HolderWorld) -> None:
    signed = world.revocation(C, "c0" * 16, Effect.DELETE)
    assert take_in(world.parties[A], signed)
    with world.parties[A].database.transaction() as tables:
        found = tables.revocations.strongest("c0" * 16, C)
    assert found is not None
    assert found.revocation.effect is Effect.DELETE
    assert world.entries(A, EntryKind.GRANT_REVOKED) == [{"grant": "c0" * 16, "issuer": C, "effect": "delete"}]


def test_statement_told_twice_is_taken_in_once(world: HolderWorld) -> None:
    signed = world.revocation(C, "c0" * 16)
    assert [take_in(world.parties[A], signed) for _ in range(2)] == [True, False]
    assert len(world.entries(A, EntryKind.GRANT_REVOKED)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_statements_have_the_same_effect_in_every_order(world: HolderWorld, consent: ConsentWorld, seed: int) -> None:
    body = an_agreement().to_bytes()
    told = [
        world.revocation(C, "c0" * 16),
        world.revocation(C, "c0" * 16, Effect.DELETE),
        world.revocation(B, an_agreement().digest),
        receipt(world, B),
        *(sign_agreement(body, party=party, key=consent.keys[party].signing) for party in (B, C)),
    ]
    random.Random(seed).shuffle(told)
    for signed in told:
        take_in(world.parties[A], signed)
    assert state(world) == {
        "revocations": {(C, "c0" * 16), (B, an_agreement().digest)},
        "receipts": {receipt(world, B).body},
        "agreements": {an_agreement().digest: (B, C)},
    }


def test_statement_of_a_party_under_another_key_is_not_believed(world: HolderWorld) -> None:
    signed = replace(world.revocation(C, "c0" * 16), signer=B)
    assert code_of(world, signed) is ErrorCode.BAD_SIGNATURE


def test_statement_of_a_party_that_left_the_directory_is_not_believed(world: HolderWorld) -> None:
    signed = world.revocation(C, "c0" * 16)
    directory = world.directory.directory
    world.directory.directory = replace(directory, parties=tuple(each for each in directory.parties if each.id != C))
    try:
        assert code_of(world, signed) is ErrorCode.NOT_ENROLLED
    finally:
        world.directory.directory = directory


def test_document_of_a_kind_that_is_not_told_is_refused(world: HolderWorld) -> None:
    signed = replace(world.revocation(C, "c0" * 16), kind=DocumentKind.APPROVAL)
    assert code_of(world, signed) is ErrorCode.INVALID_DOCUMENT


def test_statement_beyond_the_size_limit_is_refused_before_it_is_read(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENT_BYTES", 100)
    assert code_of(world, world.revocation(C, "c0" * 16)) is ErrorCode.INVALID_DOCUMENT


def test_statements_of_one_party_beyond_what_is_kept_are_refused(world: HolderWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_KEPT", 2)
    for number in range(2):
        assert take_in(world.parties[A], receipt(world, B, sealed_sha256=f"{number:064x}"))
    assert code_of(world, receipt(world, B, sealed_sha256="f" * 64)) is ErrorCode.PARTY_BUSY
    assert take_in(world.parties[A], world.revocation(B, "b0" * 16))  # of another kind: one must always be able to withdraw
    assert take_in(world.parties[A], receipt(world, C))


def test_statements_of_one_party_beyond_the_bytes_kept_are_refused_but_for_revocations(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = receipt(world, B)
    monkeypatch.setattr(statements, "MAX_KEPT_BYTES", len(first.body))
    assert take_in(world.parties[A], first)
    assert code_of(world, receipt(world, B, sealed_sha256="f" * 64)) is ErrorCode.PARTY_BUSY
    assert take_in(world.parties[A], world.revocation(B, "b0" * 16))
    assert take_in(world.parties[A], receipt(world, C))


def test_allowance_is_per_caller_and_comes_back_with_time() -> None:
    now = [0.0]
    allowance = Allowance(lambda: now[0])
    for _ in range(BURST):
        allowance.take_one(B)
    with pytest.raises(ConfideError) as caught:
        allowance.take_one(B)
    assert caught.value.code is ErrorCode.PARTY_BUSY
    allowance.take_one(C)
    now[0] = 0.2
    allowance.take_one(B)


class Wire:
    """The two methods between parties, without a network; `down` names who cannot be reached."""

    def __init__(self, world: HolderWorld) -> None:
        self.services = {party: GovernanceService(each) for party, each in world.parties.items()}
        self.down: set[str] = set()
        self.told: list[tuple[str, str]] = []

    def call(self, method: Method[Any, Any], request: Any, *, caller: str, party: str) -> Any:
        if party in self.down or party not in self.services:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, party=party)
        token = access._caller.set(PeerIdentity(MemberKind.PARTY, "cardio", caller))
        try:
            service = self.services[party]
            if method is TELL:
                self.told.append((caller, party))
                return service.tell(request)
            return service.list_statements(request)
        finally:
            access._caller.reset(token)


class WiredPeers:
    """Peers whose channels are names."""

    def channel(self, party: str) -> str:
        return party


def exchange(world: HolderWorld, party: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """A party's exchange whose calls go over the wire; the test calls its halves itself, so no thread runs."""

    def call(method: Method[Any, Any], _channel: object, request: Any, *, party: str, timeout_s: float) -> Any:
        del timeout_s
        return wire.call(method, request, caller=speaking[0], party=party)

    speaking = [party]
    monkeypatch.setattr(Method, "call", call)
    return Exchange(world.parties[party], cast(Peers, WiredPeers()))


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_party_that_was_down_learns_everything_by_asking_once(world: HolderWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_REPLY_STATEMENTS", 4)
    made = [world.revocation(C, f"{number:032x}") for number in range(10)]
    with world.parties[C].database.transaction() as tables:
        for signed in made:
            tables.statements.say(signed, now=world.now)
    asking = exchange(world, A, Wire(world), monkeypatch)
    asking._ask(C)
    asking._ask(C)
    asking.stop()
    with world.parties[A].database.transaction() as tables:
        assert tables.statements.cursor(C) == 10
        assert len(tables.revocations.all()) == 10


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_new_statement_is_told_once_and_a_failed_attempt_is_repeated(world: HolderWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(world)
    telling = exchange(world, C, wire, monkeypatch)
    with world.parties[C].database.transaction() as tables:
        tables.statements.say(world.revocation(C, "c0" * 16), now=world.now)
    wire.down.add(A)
    with pytest.raises(ConfideError):
        telling._tell(A)
    wire.down.clear()
    telling._tell(A)
    telling._tell(A)
    telling.stop()
    assert wire.told == [(C, A)]
    with world.parties[A].database.transaction() as tables:
        assert tables.revocations.strongest("c0" * 16, C) is not None


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_statement_that_a_party_refuses_holds_up_no_revocation_after_it(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling = exchange(world, C, Wire(world), monkeypatch)
    with world.parties[C].database.transaction() as tables:
        tables.statements.say(replace(receipt(world, C), signature=bytes(64)), now=world.now)  # as after a change of its key
        tables.statements.say(world.revocation(C, "c0" * 16), now=world.now)
    telling._tell(A)
    telling.stop()
    with world.parties[A].database.transaction() as tables:
        assert tables.revocations.strongest("c0" * 16, C) is not None


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_statement_that_is_no_document_is_skipped_and_one_that_may_become_good_is_asked_for_again(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = world.revocation(C, "c0" * 16)
    foreign = replace(world.revocation(B, "b0" * 16), signer="hospital-d")  # of a party that is not enrolled yet
    numbered = [(1, replace(good, body=b"{}")), (2, good), (3, foreign), (4, world.revocation(C, "c1" * 16))]

    class Lying:
        def list_statements(self, request: Any) -> governance_pb2.ListStatementsReply:
            said = [
                governance_pb2.Statement(number=number, document=to_wire(signed))
                for number, signed in numbered
                if number > request.after
            ]
            return governance_pb2.ListStatementsReply(party=C, statements=said)

    wire = Wire(world)
    wire.services[C] = cast(GovernanceService, Lying())
    # An envelope whose body is no statement has a bad signature first; what is no document at all is told apart.
    numbered[0] = (1, replace(good, kind=DocumentKind.APPROVAL))
    asking = exchange(world, A, wire, monkeypatch)
    with pytest.raises(ConfideError) as caught:
        asking._ask(C)
    asking.stop()
    assert caught.value.code is ErrorCode.NOT_ENROLLED
    with world.parties[A].database.transaction() as tables:
        assert tables.statements.cursor(C) == 2
        assert tables.revocations.strongest("c0" * 16, C) is not None
        assert tables.revocations.strongest("c1" * 16, C) is not None, "a withdrawal does not wait for what stands before it"


@pytest.mark.parametrize("world", [(A, C)], indirect=True, ids=["A-C"])
def test_party_that_numbers_its_statements_backwards_is_not_asked_on(world: HolderWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards:
        def list_statements(self, _request: Any) -> governance_pb2.ListStatementsReply:
            said = governance_pb2.Statement(number=0, document=to_wire(world.revocation(C, "c0" * 16)))
            return governance_pb2.ListStatementsReply(party=C, statements=[said])

    wire = Wire(world)
    wire.services[C] = cast(GovernanceService, Backwards())
    asking = exchange(world, A, wire, monkeypatch)
    with pytest.raises(ConfideError) as caught:
        asking._ask(C)
    asking.stop()
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_reply_holds_no_more_than_fits_and_the_rest_comes_with_the_next(
    world: HolderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MAX_REPLY_BYTES", 500)
    with world.parties[A].database.transaction() as tables:
        for number in range(5):
            tables.statements.say(world.revocation(A, f"{number:032x}"), now=world.now)
    seen, after = [], 0
    while found := statements_after(world.parties[A], after):
        assert len(found) < 5
        seen += [record.number for record in found]
        after = found[-1].number
    assert seen == [1, 2, 3, 4, 5]


def test_listed_statements_are_the_partys_own_and_verbatim(world: HolderWorld) -> None:
    own = world.revocation(A, "a0" * 16)
    take_in(world.parties[A], world.revocation(C, "c0" * 16))
    with world.parties[A].database.transaction() as tables:
        assert tables.statements.say(own, now=world.now) == tables.statements.say(own, now=world.now)
    reply = GovernanceService(world.parties[A]).list_statements(governance_pb2.ListStatementsRequest(after=0))
    assert [from_wire(each.document) for each in reply.statements] == [own]


def test_number_beyond_what_the_database_counts_to_gives_nothing(world: HolderWorld) -> None:
    reply = GovernanceService(world.parties[A]).list_statements(governance_pb2.ListStatementsRequest(after=2**64 - 1))
    assert list(reply.statements) == []


def test_methods_between_parties_are_the_wires() -> None:
    assert TELL.path == "/confide.v1.GovernanceService/Tell"
    assert LIST_STATEMENTS.path == "/confide.v1.GovernanceService/ListStatements"
