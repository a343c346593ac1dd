"""What researchers send to a model's owner is bounded: its form, its size, its number, and whose it is."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tenseal

from parties.server.encrypted.said import Asked
from parties.server.workers import Template
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from tests.support.consent import NOW
from tests.support.enquiry_world import REQUEST, Asker, EnquiryWorld, fetched, hold_evaluators
from tests.support.refusals import refusal

pytestmark = pytest.mark.outside_world  # starts evaluators


def test_query_of_a_wrong_size_plan_or_library_is_refused_and_nothing_is_debited(shared: EnquiryWorld, alice: Asker) -> None:
    enquiry_id, query = shared.open(alice, max_answers=30), alice.query(shared.rows())
    other = shared.asker("packed").query(shared.rows())
    vector = tenseal.ckks_vector(tenseal_context(), [1.0, 2.0]).serialize()[: 1 << 20]
    for message, reason in (
        (query[:-1], "bytes"),
        (query + b"\0", "bytes"),
        (query[:HEADER_BYTES], "bytes"),
        (other, "another plan"),
        (alice.keys[: 1 << 20], "of kind"),
        (vector, "SEAL or TenSEAL"),
        (b"x" * len(query), "no CKKS message of Confide"),
        (query[: HEADER_BYTES + 64] + b"\xff" * (len(query) - HEADER_BYTES - 64), "not below its prime"),
    ):
        error = refusal(lambda message=message: shared.ask(enquiry_id, message))
        assert (error.code, reason in error.what) == (ErrorCode.INVALID_ARGUMENT, True), error.what
    assert "confide infer" in refusal(lambda: shared.ask(enquiry_id, vector)).remedy
    assert shared.desk.standing(enquiry_id, "alice").answers_left == 30
    shared.ask(enquiry_id, query)  # the evaluator goes on


def test_sender_of_secret_key_material_is_told_and_nothing_of_it_is_kept(shared: EnquiryWorld) -> None:
    alice = shared.asker()
    enquiry_id = shared.open(alice, upload=False, max_answers=30)
    key_file = alice.owner.key_file().reveal()
    context = tenseal_context().serialize(save_secret_key=True)
    for message in (key_file, context):
        asked = refusal(lambda message=message: shared.ask(enquiry_id, message[: 1 << 20]))
        put = refusal(lambda message=message: shared.put(enquiry_id, message, 0, 1 << 20))
        disguised = refusal(
            lambda message=message: shared.put(enquiry_id, message, 0, 1 << 20, total=len(alice.keys), digest=alice.key)
        )
        for error in (asked, put, disguised):
            assert error.code is ErrorCode.INVALID_ARGUMENT
            assert "your secret key left your machine" in error.what
    assert shared.put(enquiry_id, key_file, 0, 0) == 0
    assert shared.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_upload_goes_on_where_it_stood_and_wrong_parts_are_refused(shared: EnquiryWorld) -> None:
    asker = shared.asker()
    enquiry_id, keys, half = shared.open(asker, upload=False), asker.keys, len(asker.keys) // 2
    size = min(half, 1 << 20)
    assert shared.put(enquiry_id, keys, 0, size) == size
    assert shared.put(enquiry_id, keys, 0, size) == size
    assert shared.put(enquiry_id, keys, size, 0) == size
    for offset, changes in ((size + 1, {}), (size - 1, {}), (size, {"total": len(keys) + 1}), (size, {"digest": "not one"})):
        error = refusal(lambda offset=offset, changes=changes: shared.put(enquiry_id, keys, offset, 1 << 19, **changes))
        assert error.code is ErrorCode.INVALID_ARGUMENT
    assert refusal(lambda: shared.ask(enquiry_id, asker.query(shared.rows()))).code is ErrorCode.NOT_READY
    for offset in range(size, len(keys), 1 << 20):
        shared.put(enquiry_id, keys, offset, 1 << 20)
    shared.ask(enquiry_id, asker.query(shared.rows()))


def test_parts_that_are_not_those_of_the_digest_are_all_forgotten(shared: EnquiryWorld) -> None:
    asker = shared.asker()
    enquiry_id = shared.open(asker, upload=False)
    altered = asker.keys[:-1] + bytes([asker.keys[-1] ^ 1])
    *before, last = range(0, len(altered), 1 << 20)
    for offset in before:
        shared.put(enquiry_id, altered, offset, 1 << 20, digest=asker.key)
    with pytest.raises(ConfideError, match="not those of the message"):
        shared.put(enquiry_id, altered, last, 1 << 20, digest=asker.key)
    assert shared.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_upload_that_stalls_is_forgotten(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker, upload=False)
    for second in range(0, 300, 100):  # slowly, but it grows
        world.at(NOW + timedelta(seconds=second))
        world.put(enquiry_id, asker.keys, second, 100)
        world.desk.sweep()
    assert world.desk.standing(enquiry_id, "alice").key_bytes == 300
    world.at(NOW + timedelta(seconds=330))
    world.desk.sweep()
    assert world.desk.standing(enquiry_id, "alice").key_bytes == 0


def test_key_and_enquiry_of_another_researcher_are_of_no_use(shared: EnquiryWorld, alice: Asker) -> None:
    enquiry_id, query = shared.open(alice, max_answers=30), alice.query(shared.rows())
    acts = (
        lambda: shared.ask(enquiry_id, query, querier="bob"),
        lambda: shared.put(enquiry_id, alice.keys, 0, 1 << 20, querier="bob"),
        lambda: shared.desk.standing(enquiry_id, "bob"),
        lambda: shared.desk.end(enquiry_id, "bob"),
        lambda: shared.desk.fetch(enquiry_id, REQUEST, "bob"),
    )
    assert {refusal(act).code for act in acts} == {ErrorCode.UNKNOWN_DOCUMENT}
    hers = shared.enquiry(alice)
    assert refusal(lambda: shared.desk.open(shared.sign(hers), "bob")).code is ErrorCode.NOT_AUTHORISED
    his = shared.enquiry(alice, querier="bob")
    error = refusal(lambda: shared.desk.open(shared.sign(his, shared.bob), "bob"))
    assert (error.code, [problem.where for problem in error.problems]) == (ErrorCode.NOT_AUTHORISED, ["key"])


def test_query_that_waits_to_be_answered_is_not_displaced_by_what_its_researcher_uploads_next(
    tmp_path: Path, template: Template
) -> None:
    world = EnquiryWorld(tmp_path / "party", template, spec=ModelSpec.chain(4, linear=Linear(1)))
    world.desk._uploads._most_of_one = 1 << 19
    world.permit()
    try:
        asker = world.asker()
        enquiry_id, rows = world.open(asker), world.rows()
        world.ask(enquiry_id, asker.query(rows))
        queries = [asker.query(rows) for _ in range(30)]
        assert sum(map(len, queries)) > 1 << 19  # her part of the memory
        digests = [world.upload(enquiry_id, query) for query in queries[:1]]
        stopped = hold_evaluators(world)
        world.desk.keep(Asked(enquiry_id, REQUEST, b"", digests[0]), "alice")
        for query in queries[1:]:
            world.upload(enquiry_id, query)
        for evaluator in stopped:
            os.kill(evaluator, signal.SIGCONT)
        assert np.abs(asker.opened(fetched(world, enquiry_id), 1) - world.expected(rows)).max() < 8 * asker.plan.precision
    finally:
        world.close()


def test_requests_of_an_hour_are_bounded_and_wrong_ones_count(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template)
    world.permit(max_requests_per_hour=3)
    try:
        asker = world.asker()
        enquiry_id, query = world.open(asker), asker.query(world.rows())
        malformed = query[: HEADER_BYTES + 64] + b"\xff" * (len(query) - HEADER_BYTES - 64)
        assert refusal(lambda: world.ask(enquiry_id, malformed)).code is ErrorCode.INVALID_ARGUMENT
        for _ in range(2):
            world.ask(enquiry_id, query)
        assert refusal(lambda: world.ask(enquiry_id, query)).code is ErrorCode.QUOTA_EXHAUSTED
        assert world.desk.standing(enquiry_id, "alice").answers_left == 92
    finally:
        world.close()


def test_waiting_for_room_uses_up_no_requests_of_the_hour(
    tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = EnquiryWorld(tmp_path / "party", template)
    world.permit(max_requests_per_hour=2)
    try:
        asker = world.asker()
        enquiry_id, query = world.open(asker), asker.query(world.rows())
        with monkeypatch.context() as full:
            full.setattr("parties.server.encrypted.pool.MAX_WAITING", 0)
            assert {refusal(lambda: world.ask(enquiry_id, query)).code for _ in range(5)} == {ErrorCode.PARTY_BUSY}
        with monkeypatch.context() as full:
            full.setattr("parties.server.encrypted.kept.MOST_OF_ENQUIRY", 0)
            kept = [refusal(lambda: world.desk.keep(world.asked(enquiry_id, query), "alice")).code for _ in range(5)]
            assert set(kept) == {ErrorCode.PARTY_BUSY}
        for _ in range(2):
            world.ask(enquiry_id, query)
        assert refusal(lambda: world.ask(enquiry_id, query)).code is ErrorCode.QUOTA_EXHAUSTED
    finally:
        world.close()


def test_query_that_was_put_and_never_asked_goes_with_its_enquiry_and_keys_stay(world: EnquiryWorld) -> None:
    asker = world.asker()
    enquiry_id = world.open(asker)
    message = asker.query(world.rows())
    world.put(enquiry_id, message, 0, len(message))
    world.desk.end(enquiry_id, "alice")
    assert world.desk.figures.upload_bytes == len(asker.keys)


def test_messages_above_the_partys_limit_are_refused_before_they_are_sent(tmp_path: Path, template: Template) -> None:
    world = EnquiryWorld(tmp_path / "party", template, max_key_mib=1)
    world.permit()
    try:
        assert len(world.asker().keys) > 1 << 20
        assert refusal(lambda: world.open(world.asker())).code is ErrorCode.TOO_LARGE
    finally:
        world.close()


def tenseal_context() -> tenseal.Context:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    context.global_scale = 2.0**40
    return context
