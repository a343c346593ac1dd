"""What the owner of published models keeps, counts, and never answers twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from governance.encrypted.enquiry import Enquiry, sign_enquiry
from governance.encrypted.grant import EncryptedGrant, sign_encrypted_grant
from governance.encrypted.published import sign_published
from parties.storage.database import Database, open_database
from parties.storage.encrypted import EncryptedStore
from protocols.errors import ConfideError, ErrorCode
from tests.support.consent import NOW, ConsentWorld
from tests.support.encrypted import a_model, a_permission, an_enquiry

WORLD = ConsentWorld()
KEY = WORLD.keys["hospital-a"].signing
MODEL = a_model()
GRANT = a_permission(MODEL)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "party.db")
    yield database
    database.close()


def _published(store: EncryptedStore) -> None:
    store.publish(sign_published(MODEL, KEY), manifest=b"{}", salt=bytes(32), sealed_name="a.sealed", now=NOW)


def _grant(store: EncryptedStore, grant: EncryptedGrant = GRANT) -> str:
    return store.add_grant(sign_encrypted_grant(grant, KEY), now=NOW).grant.grant_id


def _accept(store: EncryptedStore, enquiry: Enquiry, grant_id: str) -> str:
    return store.accept(sign_enquiry(enquiry, WORLD.alice.signing), grant_id=grant_id, now=NOW).enquiry.enquiry_id


def test_published_model_is_found_until_and_after_it_is_withdrawn(database: Database) -> None:
    with database.transaction() as tables:
        _published(tables.encrypted)
        assert tables.sealed_names() == {"a.sealed"}
    with database.transaction() as tables:
        assert tables.encrypted.withdraw(MODEL.ref, NOW).withdrawn == NOW
        assert tables.encrypted.withdraw(MODEL.ref, NOW + timedelta(hours=1)).withdrawn == NOW
        assert [record.model for record in tables.encrypted.models()] == [MODEL]
        assert tables.sealed_names() == frozenset()


def test_same_model_is_not_published_twice(database: Database) -> None:
    with database.transaction() as tables:
        _published(tables.encrypted)
        with pytest.raises(ConfideError) as error:
            _published(tables.encrypted)
    assert error.value.code is ErrorCode.JOB_CONFLICT


def test_open_enquiry_counts_all_that_it_set_aside_and_an_ended_one_what_it_answered(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        enquiry_id = _accept(store, an_enquiry(MODEL, max_answers=100), _grant(store))
        store.answer(enquiry_id, "0" * 32, answers=30, now=NOW)
        assert (store.learnt_of_model(MODEL.ref), store.learnt_by_key(MODEL.ref, "e" * 64)) == (100, 100)
        record = store.end(enquiry_id, reason="asked", now=NOW)
        assert (record.answered, record.requests, record.reason) == (30, 1, "asked")
        assert (store.learnt_of_model(MODEL.ref), store.learnt_by_key(MODEL.ref, "e" * 64)) == (30, 30)
        assert store.grants(MODEL.ref)[0].learnt == 30
        assert store.end(enquiry_id, reason="expired", now=NOW).reason == "asked"


def test_grants_under_which_the_model_counts_as_known_are_left_out(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        known = _grant(store, a_permission(MODEL, counts_as_known=True))
        _accept(store, an_enquiry(MODEL, max_answers=7), _grant(store))
        _accept(store, an_enquiry(MODEL, max_answers=500, nonce="2" * 32), known)
        assert store.learnt_of_model(MODEL.ref) == 507
        assert store.learnt_of_model(MODEL.ref, but_for=(known,)) == 7


def test_request_is_answered_once(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        enquiry_id = _accept(store, an_enquiry(MODEL), _grant(store))
        store.answer(enquiry_id, "0" * 32, answers=1, now=NOW)
        with pytest.raises(ConfideError) as error:
            store.answer(enquiry_id, "0" * 32, answers=1, now=NOW)
    assert error.value.code is ErrorCode.JOB_CONFLICT


@pytest.mark.parametrize(
    ("answers", "later", "code"),
    [(101, timedelta(0), ErrorCode.QUOTA_EXHAUSTED), (1, timedelta(hours=1), ErrorCode.NOT_READY)],
)
def test_answer_beyond_the_quota_or_the_time_is_refused(
    database: Database, answers: int, later: timedelta, code: ErrorCode
) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        enquiry_id = _accept(store, an_enquiry(MODEL, max_answers=100), _grant(store))
        with pytest.raises(ConfideError) as error:
            store.answer(enquiry_id, "0" * 32, answers=answers, now=NOW + later)
        assert error.value.code is code
        assert store.find_enquiry(enquiry_id).answered == 0


def test_ended_enquiry_answers_nothing(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        enquiry_id = _accept(store, an_enquiry(MODEL), _grant(store))
        store.end(enquiry_id, reason="revoked", now=NOW)
        with pytest.raises(ConfideError, match="revoked"):
            store.answer(enquiry_id, "0" * 32, answers=1, now=NOW)
        assert store.open_enquiries() == ()


def test_key_belongs_to_who_named_it_first_and_ages_from_then(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        assert store.key_since("e" * 64) is store.key_owner("e" * 64) is None
        _accept(store, an_enquiry(MODEL), _grant(store))
        assert (store.key_since("e" * 64), store.key_owner("e" * 64)) == (NOW, "alice")


def test_requests_are_counted_by_querier_grant_and_time(database: Database) -> None:
    with database.transaction() as tables:
        store = tables.encrypted
        grant_id = _grant(store)
        enquiry_id = _accept(store, an_enquiry(MODEL), grant_id)
        for number in range(3):
            store.answer(enquiry_id, f"{number:032x}", answers=1, now=NOW + timedelta(minutes=10 * number))
        assert store.requests_since("alice", grant_id, NOW + timedelta(minutes=5)) == 2
        assert store.requests_since("bob", grant_id, NOW) == 0
