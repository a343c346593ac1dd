"""Aliases and deletion receipts: what an alias stands for after its moves, and which statements are believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.documents import DocumentKind, SignedDocument, sign_bytes
from governance.lineage.alias import AliasHistory, AliasName, AliasStatement, Move, MoveKind, sign_alias, verify_alias
from governance.lineage.receipt import DeletionReceipt, missing_receipts, sign_receipt, verify_receipt
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from tests.support.jobs import CREATED, MODEL_REF
from tests.support.members import World, a_world

V1, V2, V3 = "1" * 12, "2" * 12, "3" * 12
STATEMENT = AliasStatement("cardio", "hospital-a", "diagnosis", AliasName.LIVE, MoveKind.ROLL_BACK, V1, V2, CREATED)
RECEIPT = DeletionReceipt("cardio", "hospital-a", MODEL_REF, "hospital-b", "ab" * 16, "cd" * 32, CREATED)


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


def history(*moves: tuple[MoveKind, str]) -> AliasHistory:
    return AliasHistory([Move(kind, version, "hospital-a", CREATED) for kind, version in moves])


@pytest.mark.parametrize(
    ("moves", "current", "before"),
    [
        ([], None, None),
        ([(MoveKind.SET, V1)], V1, None),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2)], V2, V1),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.ROLL_BACK, V2)], V1, None),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.SET, V1)], V1, V2),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.FALL, V2)], None, V1),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.FALL, V2), (MoveKind.ROLL_BACK, "")], V1, None),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.FALL, V1)], V2, None),
        ([(MoveKind.SET, V1), (MoveKind.FALL, V1), (MoveKind.SET, V2)], V2, None),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.SET, V1), (MoveKind.FALL, V2)], V1, None),
        ([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.SET, V3), (MoveKind.FALL, V2), (MoveKind.ROLL_BACK, V3)], V1, None),
    ],
)
def test_alias_stands_for_what_its_moves_say(moves: list[tuple[MoveKind, str]], current: str | None, before: str | None) -> None:
    found = history(*moves)
    assert (found.current, found.before) == (current, before)


@given(st.lists(st.tuples(st.sampled_from(MoveKind), st.sampled_from([V1, V2, V3])), max_size=12))
def test_alias_never_leads_to_a_version_that_fell_and_was_not_set_again(moves: list[tuple[MoveKind, str]]) -> None:
    found = history(*moves)
    for version in (V1, V2, V3):
        said = [kind for kind, moved in moves if moved == version and kind is not MoveKind.ROLL_BACK]
        if not said or said[-1] is MoveKind.FALL:
            assert not found.holds(version)


def test_holder_follows_a_rollback_from_the_same_version_to_its_own_one_before() -> None:
    assert history((MoveKind.SET, V1), (MoveKind.SET, V2)).may_follow(STATEMENT)


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param([], id="never-set"),
        pytest.param([(MoveKind.SET, V2)], id="other-version-never-here"),
        pytest.param([(MoveKind.SET, V1)], id="already-there"),
        pytest.param([(MoveKind.SET, V3), (MoveKind.SET, V2)], id="another-before"),
        pytest.param([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.SET, V3)], id="moved-on"),
        pytest.param([(MoveKind.SET, V1), (MoveKind.SET, V2), (MoveKind.FALL, V1)], id="fell"),
    ],
)
def test_holder_with_another_history_does_not_follow(moves: list[tuple[MoveKind, str]]) -> None:
    assert not history(*moves).may_follow(STATEMENT)


def test_holder_does_not_follow_a_forward_move_of_another_one() -> None:
    forward = replace(STATEMENT, move=MoveKind.SET)
    assert not history((MoveKind.SET, V1), (MoveKind.SET, V2)).may_follow(forward)


def test_holder_that_moved_the_alias_later_does_not_follow_an_old_rollback() -> None:
    old = replace(STATEMENT, time=CREATED - timedelta(hours=1))
    assert not history((MoveKind.SET, V1), (MoveKind.SET, V2)).may_follow(old)


def test_alias_statement_round_trips_and_verifies(world: World) -> None:
    signed = sign_alias(STATEMENT, world.hospital_a.signing)
    assert verify_alias(signed, world.directory) == STATEMENT
    assert AliasStatement.from_bytes(STATEMENT.to_bytes()) == STATEMENT


def test_receipt_round_trips_and_verifies(world: World) -> None:
    signed = sign_receipt(RECEIPT, world.hospital_a.signing)
    assert verify_receipt(signed, world.directory) == RECEIPT
    assert DeletionReceipt.from_bytes(RECEIPT.to_bytes()) == RECEIPT


@pytest.mark.parametrize("sign", [lambda key: sign_alias(STATEMENT, key), lambda key: sign_receipt(RECEIPT, key)])
def test_statement_under_another_key_or_kind_or_altered_is_not_believed(
    world: World, sign: Callable[..., SignedDocument]
) -> None:
    check = verify_alias if sign(world.hospital_a.signing).kind is DocumentKind.ALIAS else verify_receipt
    good = sign(world.hospital_a.signing)
    altered = replace(good, body=good.body.replace(b"2026-03-01T12:00:00Z", b"2026-03-01T12:00:01Z"))
    for bad in (sign(world.hospital_b.signing), replace(good, kind=DocumentKind.REVOCATION), altered):
        with pytest.raises(ConfideError) as caught:
            check(bad, world.directory)
        assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_statement_of_one_party_signed_by_another_is_not_believed(world: World) -> None:
    for kind, body, check in (
        (DocumentKind.ALIAS, STATEMENT.to_bytes(), verify_alias),
        (DocumentKind.DELETION_RECEIPT, RECEIPT.to_bytes(), verify_receipt),
    ):
        signed = sign_bytes(body, kind=kind, signer="hospital-b", key=world.hospital_b.signing)
        with pytest.raises(ConfideError) as caught:
            check(signed, world.directory)
        assert caught.value.code is ErrorCode.BAD_SIGNATURE


def test_statement_of_another_consortium_is_not_believed(world: World) -> None:
    for signed, check in (
        (sign_alias(replace(STATEMENT, consortium="other"), world.hospital_a.signing), verify_alias),
        (sign_receipt(replace(RECEIPT, consortium="other"), world.hospital_a.signing), verify_receipt),
    ):
        with pytest.raises(ConfideError) as caught:
            check(signed, world.directory)
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize(
    "change",
    [
        {"version": "12"},
        {"move": "sideways"},
        {"alias": "prod"},
        {"version": None},
        {"move": "fall"},
        {"model": "Diagnosis"},
        {"issuer": "founder"},
        {"time": "2026-03-01"},
        {"extra": "field"},
        {"format": "confide.alias/2"},
    ],
    ids=str,
)
def test_alias_statement_out_of_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfideError) as caught:
        AliasStatement.from_bytes(canonical_bytes({**STATEMENT.to_document(), **change}))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize(
    "change",
    [{"sealed_sha256": "cd"}, {"subject": "abc"}, {"subject": "diagnosis@000000000000"}, {"version": "x" * 12}, {"holder": ""}],
    ids=str,
)
def test_receipt_out_of_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfideError) as caught:
        DeletionReceipt.from_bytes(canonical_bytes({**RECEIPT.to_document(), **change}))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_receipt_for_a_holders_own_decision_names_the_model() -> None:
    own = replace(RECEIPT, issuer="hospital-a", subject=MODEL_REF.label, sealed_sha256="")
    assert DeletionReceipt.from_bytes(own.to_bytes()) == own


def test_missing_receipts_are_those_of_the_holders_that_have_not_given_one() -> None:
    assert missing_receipts(("hospital-a", "hospital-b"), [RECEIPT]) == ("hospital-b",)
    assert missing_receipts((), []) == ()
    assert RECEIPT.ref == ModelRef("diagnosis", "0123456789ab")
