"""A researcher's side of encrypted inference against an owner in memory: real keys and ciphertexts, failures on demand."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties.client.client import Client
from parties.client.encrypted.asking import when_there_is_room
from parties.client.encrypted.enquiring import Permission
from parties.client.encrypted.inference import Request, ask_request, columns_of, prepare_request, session_key
from parties.client.encrypted.keys import QueryKey, make_key, most_opened
from parties.client.encrypted.local_keys import KeyFiles
from parties.client.encrypted.pending import fetch_request, submit_request
from parties.client.encrypted.pending_files import PendingRequests
from parties.client.encrypted.published import verified
from parties.client.encrypted.unlocking import Unlock, by_key_file, by_passphrase, make_key_file
from parties.client.encrypted.uploading import ATTEMPTS, upload
from protocols.canonical import sha256_hex
from protocols.ckks.protection import answer_form
from protocols.errors import ConfideError, ErrorCode
from tests.support.evaluator import (
    AGREEMENT,
    FEATURES,
    OWNER,
    PURPOSE,
    MemoryEvaluator,
    a_client,
    a_consortium,
    a_published_model,
    plain,
    samples,
    signed,
)

MODEL = a_published_model()
PERMISSION = Permission(AGREEMENT, PURPOSE)
BROKEN = ConfideError(ErrorCode.PARTY_UNREACHABLE, "the connection broke", party=OWNER)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return a_client(tmp_path)


@pytest.fixture
def unlock(tmp_path: Path) -> Unlock:
    return make_key_file(tmp_path / "elsewhere" / "unlock")


def request_for(client: Client, count: int, lane: str | None) -> Request:
    return prepare_request(client, MODEL, samples(count), lane=lane)


def most_off(lane: str) -> float:
    """Of a probability: a sigmoid is a quarter as steep as its argument at most; the rest is the plan's word, and rounding."""
    plan = MODEL.plan(lane)
    of_score = answer_form(plan).flood_error + plan.predictions.max_error + plan.precision * (8.65 / 4 + 0.5)
    return 0.25 * of_score + 0.005 + 1e-9


def file_key(name: str = "mine", lane: str = "latency") -> QueryKey:
    return make_key(MODEL.published, lane, MODEL.plan(lane), now=datetime.now(UTC), name=name)


@pytest.mark.parametrize(("lane", "count"), [("latency", 3), ("packed", 40), ("batch", 60)])
def test_answers_of_every_lane_are_the_plain_model_s(client: Client, lane: str, count: int) -> None:
    evaluator = MemoryEvaluator()
    answers = ask_request(client, evaluator, request_for(client, count, lane), PERMISSION, key=None)
    assert answers.values.shape == (count, 1)
    assert np.abs(answers.values - plain(samples(count))).max() < most_off(lane)
    assert (answers.values == np.round(answers.values, MODEL.published.decimals)).all()
    assert answers.numbers == answers.requests * MODEL.plan(lane).numbers_per_answer
    (enquiry,) = evaluator.enquiries.values()
    assert enquiry.max_answers == answers.numbers
    assert evaluator.ended == [enquiry.enquiry_id]  # what was not answered is given back


NOT_SO_MANY = ConfideError(ErrorCode.BUDGET_EXHAUSTED, "64 numbers are asked for; 0 of 25 are learnt", party=OWNER)


def test_request_that_is_too_dear_in_the_fastest_lane_is_asked_in_one_that_debits_less(client: Client) -> None:
    evaluator, request = MemoryEvaluator(), request_for(client, 2, None)
    other = request.choice.thriftier()
    assert other is not None
    assert other.cost.numbers < request.choice.cost.numbers
    evaluator.failures["open"] = deque([NOT_SO_MANY])
    answers = ask_request(client, evaluator, request, PERMISSION, key=None)
    assert (answers.lane, answers.numbers) == (other.lane, other.cost.numbers)
    assert f"the lane {request.choice.lane} debits {request.choice.cost.numbers} numbers, more than are left" in answers.why
    (enquiry,) = evaluator.enquiries.values()  # the refused one is nowhere open
    assert (enquiry.lane, evaluator.ended) == (other.lane, [enquiry.enquiry_id])
    assert np.abs(answers.values - plain(samples(2))).max() < most_off(other.lane)


def test_request_that_is_too_dear_in_every_lane_is_refused(client: Client) -> None:
    evaluator = MemoryEvaluator()
    evaluator.failures["open"] = deque([NOT_SO_MANY] * 9)
    with pytest.raises(ConfideError, match="0 of 25 are learnt") as caught:
        ask_request(client, evaluator, request_for(client, 2, None), PERMISSION, key=None)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    assert 1 < evaluator.calls.count("open") <= len(MODEL.plans)


@pytest.mark.parametrize("named", [False, True])
def test_lane_that_was_asked_for_is_not_left_but_the_refusal_names_one_that_debits_less(client: Client, *, named: bool) -> None:
    evaluator = MemoryEvaluator()
    evaluator.failures["open"] = deque([NOT_SO_MANY])
    key = file_key(lane="packed") if named else None
    with pytest.raises(ConfideError) as caught:
        ask_request(client, evaluator, request_for(client, 4, "packed"), PERMISSION, key=key)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    assert "Ask in the lane latency, which debits 4 numbers." in caught.value.remedy
    assert evaluator.calls == ["open"]


def test_request_that_is_answered_in_part_goes_on_in_no_other_lane(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.client.encrypted.keys.most_opened", lambda plan: 1)
    evaluator, plan = MemoryEvaluator(), MODEL.plan("packed")
    request = request_for(client, 2 * plan.samples, "packed")
    request = replace(request, choice=replace(request.choice, why="predicted to be done first"))
    evaluator.failures["open"] = deque([None, NOT_SO_MANY])
    with pytest.raises(ConfideError) as caught:
        ask_request(client, evaluator, request, PERMISSION, key=None)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    assert evaluator.calls.count("open") == 2


def test_frame_is_read_by_its_columns_and_its_index_comes_back(client: Client) -> None:
    rows = samples(3)
    frame = pd.DataFrame(rows, columns=list(FEATURES), index=pd.Index(["x", "y", "z"]))[["weight", *FEATURES[:3]]]
    assert (columns_of(MODEL, frame) == rows).all()
    answers = ask_request(
        client, MemoryEvaluator(), prepare_request(client, MODEL, frame, lane="batch"), PERMISSION, key=None, index=frame.index
    )
    assert list(answers.frame.index) == ["x", "y", "z"]
    assert list(answers.frame.columns) == ["malignant"]
    with pytest.raises(ConfideError, match="lack 1 of the model's columns: pulse"):
        columns_of(MODEL, frame.drop(columns="pulse"))


def test_sample_out_of_range_is_told_before_anybody_is_asked(client: Client) -> None:
    rows = samples(3)
    rows[1, 2] = 141.0
    with pytest.raises(ConfideError) as caught:
        prepare_request(client, MODEL, rows, lane="batch")
    assert caught.value.problems[0].where == "row 1, feature 2"
    assert "141" not in str(caught.value)


def test_keys_of_a_process_are_uploaded_once_for_a_lane(client: Client) -> None:
    evaluator = MemoryEvaluator()
    for _ in range(2):
        ask_request(client, evaluator, request_for(client, 2, "latency"), PERMISSION, key=None)
    message = session_key(client, MODEL, "latency").message
    assert sum(evaluator.parts) == len(message)
    assert len(evaluator.enquiries) == 2


def test_key_that_has_opened_all_it_may_is_replaced_and_a_named_one_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parties.client.encrypted.keys.most_opened", lambda plan: 2)
    evaluator = MemoryEvaluator()
    answers = ask_request(client, evaluator, request_for(client, 5, "latency"), PERMISSION, key=None)
    assert len(answers.enquiries) == 3
    assert len({enquiry.key for enquiry in evaluator.enquiries.values()}) == 3
    assert np.abs(answers.values - plain(samples(5))).max() < most_off("latency")
    before = len(evaluator.calls)
    with pytest.raises(ConfideError, match="may open 2 answers more, of 2 in all, and 3 are needed") as caught:
        ask_request(client, evaluator, request_for(client, 3, "latency"), PERMISSION, key=file_key())
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    assert len(evaluator.calls) == before


def test_number_of_openings_follows_from_the_noise_that_hides_the_key() -> None:
    for lane in MODEL.plans:
        assert most_opened(MODEL.plan(lane)) >= 64  # 4^3: three bits are the least that a plan may have
    plan = MODEL.plan("latency")
    three_bits = 4 * 8 * plan.predictions.noise_bound  # a step is four deviations of the noise that is added
    found = [most_opened(replace(plan, precision=factor * three_bits)) for factor in (1.001, 2.002, 4.004)]
    assert found == [64, 256, 1026]


def test_expired_key_asks_nothing(client: Client) -> None:
    key = replace(file_key(), expires=datetime.now(UTC) - timedelta(seconds=1))
    evaluator = MemoryEvaluator()
    with pytest.raises(ConfideError, match="expired") as caught:
        ask_request(client, evaluator, request_for(client, 1, "latency"), PERMISSION, key=key)
    assert caught.value.code is ErrorCode.JOB_EXPIRED
    assert evaluator.calls == []


def test_upload_goes_on_where_the_connection_broke(client: Client) -> None:
    evaluator, message = MemoryEvaluator(), bytes(range(256)) * 12_000
    evaluator.failures["put"] = deque([None, None, BROKEN, None, BROKEN, BROKEN])
    told: list[int] = []
    digest = upload(evaluator, "e" * 32, message, sent=lambda sent, total: told.append(sent))
    assert bytes(evaluator.uploads[digest]) == message
    assert sum(evaluator.parts) == len(message)  # nothing was sent twice
    assert told == sorted(told)
    assert told[-1] == len(message)


def test_upload_gives_up_when_the_connection_breaks_again_and_again(client: Client) -> None:
    evaluator = MemoryEvaluator()
    evaluator.failures["put"] = deque([BROKEN] * ATTEMPTS)
    with pytest.raises(ConfideError) as caught:
        upload(evaluator, "e" * 32, b"x")
    assert caught.value is BROKEN
    assert len(evaluator.calls) == ATTEMPTS


def test_refusal_is_not_asked_about_again_and_what_is_left_is_given_back(client: Client) -> None:
    evaluator = MemoryEvaluator()
    refusal = ConfideError(ErrorCode.GRANT_REVOKED, "revoked", party=OWNER)
    evaluator.failures["ask"] = deque([refusal] * 9)
    with pytest.raises(ConfideError) as caught:
        ask_request(client, evaluator, request_for(client, 5, "latency"), PERMISSION, key=None)
    assert caught.value is refusal
    assert evaluator.calls.count("ask") <= 2  # those that were under way
    assert len(evaluator.ended) == 1


def test_query_that_finds_no_room_is_asked_again_unchanged(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.client.encrypted.asking._PAUSE_S", 0.0)
    evaluator, asked = MemoryEvaluator(), []
    busy = ConfideError(ErrorCode.PARTY_BUSY, "all evaluators are busy", party=OWNER)
    evaluator.failures["ask"] = deque([busy, busy])
    once = evaluator.ask
    monkeypatch.setattr(
        evaluator, "ask", lambda *given, answer_bytes: asked.append(given) or once(*given, answer_bytes=answer_bytes)
    )
    answers = ask_request(client, evaluator, request_for(client, 1, "latency"), PERMISSION, key=None)
    assert len(answers) == 1
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]
    with pytest.raises(ConfideError) as caught:
        when_there_is_room(lambda: (_ for _ in ()).throw(busy), within_s=-1.0)
    assert caught.value is busy


def test_more_queries_than_are_kept_are_not_submitted(client: Client, tmp_path: Path) -> None:
    kept, evaluator = PendingRequests(tmp_path / "requests"), MemoryEvaluator()
    with pytest.raises(ConfideError, match="33 queries are needed"):
        submit_request(client, evaluator, request_for(client, 33, "latency"), PERMISSION, kept, key=file_key())
    assert evaluator.calls == []


def test_answer_that_is_no_answer_of_the_plan_is_the_evaluator_s_fault(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = MemoryEvaluator()
    good = evaluator.ask
    for bad in (lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: data[:60] + b"\xff" * (len(data) - 60)):
        monkeypatch.setattr(evaluator, "ask", lambda *given, bad=bad, answer_bytes: bad(good(*given, answer_bytes=answer_bytes)))
        with pytest.raises(ConfideError) as caught:
            ask_request(client, evaluator, request_for(client, 1, "latency"), PERMISSION, key=None)
        assert caught.value.code is ErrorCode.BAD_FRAME


def test_submitted_request_is_fetched_and_opened_by_another_process(client: Client, tmp_path: Path, unlock: Unlock) -> None:
    evaluator, files, kept = MemoryEvaluator(), KeyFiles(tmp_path / "keys"), PendingRequests(tmp_path / "requests")
    files.store(file_key(), MODEL, unlock)
    with files.opened("mine", MODEL, unlock) as key:
        pending = submit_request(client, evaluator, request_for(client, 3, "latency"), PERMISSION, kept, key=key)
    again = PendingRequests(tmp_path / "requests")
    found = again.find(pending.enquiry.enquiry_id[:8])
    assert found == pending
    evaluator.failures["fetch"] = deque([None, BROKEN])
    with files.opened("mine", found.model, unlock) as key:
        with pytest.raises(ConfideError, match="broke"):
            fetch_request(evaluator, found, again, key=key, timeout_s=1)
        # The first answer was forgotten by its owner once it was sent: it is not asked for again.
        answers = fetch_request(evaluator, found, again, key=key, timeout_s=1)
        assert key.owner.answers_opened == 3
    assert np.abs(answers.values - plain(samples(3))).max() < most_off("latency")
    again.remove(pending.enquiry.enquiry_id)
    assert again.ids() == []


def test_what_is_kept_of_a_request_tells_nothing_of_the_samples(client: Client, tmp_path: Path) -> None:
    kept = PendingRequests(tmp_path / "requests")
    pending = submit_request(client, MemoryEvaluator(), request_for(client, 2, "latency"), PERMISSION, kept, key=file_key())
    (file,) = (tmp_path / "requests" / pending.enquiry.enquiry_id).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(file.read_text())) == {"enquiry", "published", "key", "why", "salt", "samples", "requests"}


def test_description_that_is_not_the_owner_s_or_contradicts_its_plans_is_refused() -> None:
    directory, published = a_consortium().directory, MODEL.published
    with pytest.raises(ConfideError, match="shows a model of hospital-a as its own"):
        verified(signed(published), party="hospital-b", directory=directory)
    coarse = MODEL.plan("latency")
    fine = replace(coarse, precision=coarse.predictions.noise_bound)
    for changed, why in (
        ({"outputs": ("a", "b")}, "gives 1 outputs, 2 are named"),
        ({"features": FEATURES[:3], "ranges": published.ranges[:3]}, "takes 4 features, 3 are named"),
        ({"client_activation": ""}, "ends in another activation"),
        ({"plans": {"batch": published.plans["latency"]}}, "is a plan of the lane latency"),
        ({"plans": {"latency": fine.to_document()}}, "does not hide a noise"),
    ):
        with pytest.raises(ConfideError) as caught:
            verified(signed(replace(published, **changed)), party=OWNER, directory=directory)
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT
        assert why in str(caught.value)


def test_key_file_opens_with_what_it_was_stored_under_and_counts_before_values_are_given_out(
    client: Client, tmp_path: Path, unlock: Unlock
) -> None:
    files, evaluator = KeyFiles(tmp_path / "keys"), MemoryEvaluator()
    stored = files.store(file_key(), MODEL, unlock)
    assert stored.key == sha256_hex((tmp_path / "keys" / "mine.upload").read_bytes())
    assert (tmp_path / "keys" / "mine.key").stat().st_mode & 0o777 == 0o600
    assert files.all() == [stored]
    with files.opened("mine", MODEL, unlock) as key:
        ask_request(client, evaluator, request_for(client, 2, "latency"), PERMISSION, key=key)
        with pytest.raises(ConfideError) as caught, files.opened("mine", MODEL, unlock):
            pass
        assert caught.value.code is ErrorCode.STATE_LOCKED
    with files.opened("mine", MODEL, by_key_file(tmp_path / "elsewhere" / "unlock")) as key:
        assert key.owner.answers_opened == 2
    with (
        pytest.raises(ConfideError, match="does not open with this key-file"),
        files.opened("mine", MODEL, make_key_file(tmp_path / "other")),
    ):
        pass
    with (
        pytest.raises(ConfideError, match="opens with a key-file, not with a passphrase"),
        files.opened("mine", MODEL, by_passphrase("correct horse battery")),
    ):
        pass
    files.remove("mine")
    assert files.all() == []


def test_values_are_withheld_if_their_opening_cannot_be_counted(client: Client) -> None:
    def fails(_owner: object) -> None:
        raise ConfideError(ErrorCode.DISK_FULL, "no room")

    key = replace(file_key(), keep=fails)
    with pytest.raises(ConfideError, match="no room"):
        ask_request(client, MemoryEvaluator(), request_for(client, 1, "latency"), PERMISSION, key=key)


def test_altered_key_file_and_one_of_another_model_do_not_open(tmp_path: Path, unlock: Unlock) -> None:
    files = KeyFiles(tmp_path / "keys")
    files.store(file_key(), MODEL, unlock)
    path = tmp_path / "keys" / "mine.key"
    good = path.read_bytes()
    for at in (0, 9, 40, 400, len(good) - 1):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ConfideError) as caught, files.opened("mine", MODEL, unlock):
            pass
        assert caught.value.code in {ErrorCode.STATE_DAMAGED, ErrorCode.INVALID_ARGUMENT}
    path.write_bytes(good)
    other = replace(MODEL, published=replace(MODEL.published, name="prognosis"))
    with pytest.raises(ConfideError, match="was made for diagnosis"), files.opened("mine", other, unlock):
        pass
    with pytest.raises(ConfideError) as caught:
        files.store(file_key(), MODEL, unlock)
    assert caught.value.code is ErrorCode.JOB_CONFLICT
    with files.opened("mine", MODEL, unlock):
        pass


def test_passphrase_opens_its_own_file_alone(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path / "keys")
    files.store(file_key(), MODEL, by_passphrase("correct horse battery"))
    with files.opened("mine", MODEL, by_passphrase("correct horse battery")):
        pass
    with pytest.raises(ConfideError, match="does not open"), files.opened("mine", MODEL, by_passphrase("another horse entirely")):
        pass
    with pytest.raises(ConfideError, match="12 letters at least"):
        by_passphrase("short")
    assert b"correct horse" not in (tmp_path / "keys" / "mine.key").read_bytes()
