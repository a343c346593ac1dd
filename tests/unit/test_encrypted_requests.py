"""Requests that are submitted and fetched: cut off anywhere, repeated under one id, and never debited twice."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from parties import harness
from parties.client.client import Client
from parties.client.encrypted.enquiring import Permission
from parties.client.encrypted.evaluator import RemoteEvaluator
from parties.client.encrypted.inference import Request, prepare_request
from parties.client.encrypted.keys import QueryKey, make_key
from parties.client.encrypted.local_keys import KeyFiles
from parties.client.encrypted.pending import fetch_request, submit_request
from parties.client.encrypted.pending_files import Pending, PendingRequests, read_pending
from parties.client.encrypted.published import verified
from parties.client.encrypted.sample_files import require_place
from parties.client.encrypted.unlocking import make_key_file
from parties.client.encrypted.uploading import upload
from parties.config import load_researcher_config
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.errors import ConfideError, ErrorCode
from tests.support.command import confide
from tests.support.evaluator import (
    AGREEMENT,
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
from tests.support.refusals import refusal

MODEL = a_published_model()
PERMISSION = Permission(AGREEMENT, PURPOSE)
BROKEN = ConfideError(ErrorCode.PARTY_UNREACHABLE, "the connection broke", party=OWNER)
BUSY = ConfideError(ErrorCode.PARTY_BUSY, "too many enquiries", party=OWNER)
REFUSED = ConfideError(ErrorCode.GRANT_REVOKED, "revoked", party=OWNER)
NAME = "ward-7"


class World:
    """A researcher with a key, and an owner in memory."""

    def __init__(self, folder: Path) -> None:
        self.client: Client = a_client(folder)
        self.evaluator = MemoryEvaluator()
        self.kept = PendingRequests(folder / "requests")
        plan = MODEL.plan("latency")
        self.key: QueryKey = make_key(MODEL.published, "latency", plan, now=datetime.now(UTC), name="mine")

    def request(self, count: int = 3, seed: int = 3) -> Request:
        return prepare_request(self.client, MODEL, samples(count, seed), lane="latency")

    def submit(self, name: str = NAME, *, request: Request | None = None, key: QueryKey | None = None) -> Pending:
        asked = self.request() if request is None else request
        used = self.key if key is None else key
        return submit_request(self.client, self.evaluator, asked, PERMISSION, self.kept, key=used, name=name)

    def fail(self, call: str, *failures: ConfideError | None) -> None:
        self.evaluator.failures[call] = deque(failures)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("call", "failures"),
    [
        ("open", [BROKEN]),
        ("open", [BUSY]),
        ("put", [BROKEN] * 4),
        ("put", [None] + [BROKEN] * 4),
        ("ask", [BROKEN]),
        ("ask", [None, None, BROKEN]),
    ],
)
def test_submit_that_was_cut_off_goes_on_under_its_id_and_is_debited_once(
    world: World, call: str, failures: list[ConfideError | None]
) -> None:
    world.fail(call, *failures)
    assert refusal(world.submit) is failures[-1]
    assert world.evaluator.ended == []
    pending = world.submit()
    assert len(world.evaluator.enquiries) == 1
    assert world.evaluator.debited == [request for request, _ in pending.requests]
    answers = fetch_request(world.evaluator, world.kept.find(NAME), world.kept, key=world.key, timeout_s=1)
    assert np.abs(answers.values - plain(samples(3))).max() < 0.1


def test_submit_again_after_all_was_sent_changes_nothing(world: World) -> None:
    assert world.submit() == world.submit()
    assert len(world.evaluator.debited) == 3


def test_interruption_by_the_researcher_is_gone_on_from_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(world.evaluator, "ask_and_keep", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.submit()
    world.submit()
    assert len(world.evaluator.enquiries) == 1


def test_id_that_stands_for_something_else_asks_nothing(world: World, tmp_path: Path) -> None:
    world.submit()
    other = make_key(MODEL.published, "latency", MODEL.plan("latency"), now=datetime.now(UTC), name="other")
    before = list(world.evaluator.calls)
    for act in (
        lambda: world.submit(request=world.request(seed=4)),
        lambda: world.submit(request=world.request(count=2)),
        lambda: world.submit(key=other),
    ):
        assert refusal(act).code is ErrorCode.JOB_CONFLICT
    assert world.evaluator.calls == before


def test_id_whose_answers_were_fetched_has_served_for_good(world: World) -> None:
    pending = world.submit()
    world.kept.remove(pending.enquiry.enquiry_id)
    assert refusal(world.submit).code is ErrorCode.JOB_CONFLICT
    assert len(world.evaluator.debited) == 3


def test_refusal_gives_back_and_leaves_the_id_free(world: World) -> None:
    world.fail("ask", None, REFUSED)
    assert refusal(world.submit) is REFUSED
    assert (len(world.evaluator.ended), world.kept.ids()) == (1, [])
    world.submit()
    assert len(world.evaluator.enquiries) == 2


def test_refusal_of_a_repeated_submit_leaves_what_was_kept(world: World) -> None:
    pending = world.submit()
    world.fail("open", ConfideError(ErrorCode.NOT_READY, "the enquiry has ended"))
    assert refusal(world.submit).code is ErrorCode.NOT_READY
    assert world.kept.find(NAME) == pending


def test_submit_without_an_id_that_is_cut_off_gives_back_and_keeps_nothing(world: World) -> None:
    world.fail("ask", BROKEN)
    assert refusal(lambda: world.submit("")) is BROKEN
    assert (len(world.evaluator.ended), world.kept.ids()) == (1, [])


@pytest.mark.parametrize("name", ["../x", "Ward", "a" * 64, "a/b", "-a", "names."])
def test_id_that_is_none_is_refused_before_anybody_is_asked(world: World, name: str) -> None:
    assert refusal(lambda: world.submit(name)).code is ErrorCode.INVALID_ARGUMENT
    assert world.evaluator.calls == []


def test_record_that_was_altered_is_refused(world: World) -> None:
    pending = world.submit("")
    file = world.kept.folder / pending.enquiry.enquiry_id / "request.json"
    record = json.loads(file.read_text())
    (request, rows), *rest = record["requests"]
    for changes in (
        {"requests": [["../../../x", rows], *rest]},
        {"requests": [[request, 0], *rest]},
        {"requests": [[request, 10**400], *rest]},
        {"requests": [[request, True], *rest]},
        {"requests": []},
        {"requests": {"a": 1}},
        {"key": 5},
        {"enquiry": "\ud800"},
        {"published": record["enquiry"]},
        {"more": ""},
    ):
        altered = json.dumps(record | changes).encode()
        assert refusal(lambda altered=altered: read_pending(altered, file)).code is ErrorCode.STATE_DAMAGED
    assert refusal(lambda: read_pending(b"[" * 100_000, file)).code is ErrorCode.STATE_DAMAGED
    assert read_pending(json.dumps(record).encode(), file) == pending


def test_damaged_key_is_named_and_can_be_removed(world: World, tmp_path: Path) -> None:
    files = KeyFiles(tmp_path / "keys")
    files.store(world.key, MODEL, make_key_file(tmp_path / "unlock"))
    (files.folder / "mine.key").write_bytes(b"nothing")
    assert files.names() == ["mine"]
    assert refusal(lambda: files.about("mine")).code is ErrorCode.STATE_DAMAGED
    files.remove("mine")
    assert list(files.folder.glob("mine*")) == []
    assert refusal(lambda: files.remove("mine")).code is ErrorCode.UNKNOWN_JOB


def test_answers_that_could_not_be_written_are_not_asked_for(tmp_path: Path) -> None:
    require_place(tmp_path / "answers.csv")
    for place in (tmp_path, tmp_path / "missing" / "answers.csv"):
        assert refusal(lambda place=place: require_place(place)).code is ErrorCode.INVALID_ARGUMENT


def test_owner_that_takes_less_than_it_was_sent_is_not_sent_parts_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(*_: object, offset: int, data: bytes, **__: object) -> int:
        return offset + min(1, len(data))

    monkeypatch.setattr(world.evaluator, "put", one_more)
    assert refusal(lambda: upload(world.evaluator, "e" * 32, bytes(3 << 20))).code is ErrorCode.BAD_FRAME


def streaming(*parts: encrypted_pb2.AnswerPart) -> RemoteEvaluator:
    """A party that answers every question with these parts."""
    remote = RemoteEvaluator.__new__(RemoteEvaluator)
    remote.party = OWNER
    remote._stream = lambda method, request: iter(parts)  # type: ignore[method-assign,assignment,return-value]
    return remote


def test_parts_that_are_empty_or_too_many_are_the_evaluator_s_fault() -> None:
    full, empty = encrypted_pb2.AnswerPart(total_bytes=4, data=b"1234"), encrypted_pb2.AnswerPart(total_bytes=4)
    assert streaming(full).ask("e", "r", b"q", answer_bytes=4) == b"1234"
    for parts in ((empty, full), (full, full), (full, empty), ()):
        assert refusal(lambda parts=parts: streaming(*parts).ask("e", "r", b"q", answer_bytes=4)).code is ErrorCode.BAD_FRAME
    streaming(encrypted_pb2.AnswerPart()).ask_and_keep("e", "r", b"q")
    two = (encrypted_pb2.AnswerPart(), encrypted_pb2.AnswerPart())
    assert refusal(lambda: streaming(*two).ask_and_keep("e", "r", b"q")).code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize("expires", ["", "tomorrow", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_time_that_is_none_is_the_evaluator_s_fault(expires: str) -> None:
    remote = RemoteEvaluator.__new__(RemoteEvaluator)
    remote.party = OWNER
    said = encrypted_pb2.EnquiryStatus(enquiry_id="e" * 32, expires=expires)
    assert refusal(lambda: remote._state(said)).code is ErrorCode.BAD_FRAME


def test_plan_that_predicts_less_than_it_takes_is_refused() -> None:
    plan = MODEL.plan("latency")
    for field in ("upload_bytes", "key_bytes", "answer_bytes"):
        told = replace(plan.predictions, **{field: getattr(plan.predictions, field) // 2})
        changed = replace(MODEL.published, plans={"latency": replace(plan, predictions=told).to_document()})
        error = refusal(lambda changed=changed: verified(signed(changed), party=OWNER, directory=a_consortium().directory))
        assert (error.code, "as predicted" in str(error)) == (ErrorCode.INVALID_DOCUMENT, True)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a researcher of a consortium that nobody serves."""
    folder = tmp_path_factory.mktemp("consortium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "free_ports", lambda count: list(range(17_201, 17_201 + count)))
        harness.make_consortium(folder, ("party-a", "party-b", "party-c"))
    return folder / harness.RESEARCHER / "researcher.yaml"


def test_commands_list_sound_keys_beside_damaged_ones_and_forget_both(config: Path) -> None:
    files = KeyFiles(load_researcher_config(config).folder.root / "query-keys")
    key = make_key(MODEL.published, "latency", MODEL.plan("latency"), now=datetime.now(UTC), name="sound")
    files.store(key, MODEL, make_key_file(config.parent / "unlock"))
    (files.folder / "torn.key").write_bytes(b"CFQKEY")
    (files.folder / "torn.key").chmod(0o600)
    said = confide("infer", "keys", "--config", config)
    assert (said.exit_code, "sound" in said.out, "torn" in said.out) == (0, True, False)
    assert "confide infer forget torn" in said.error
    for name in ("torn", "sound"):
        assert confide("infer", "forget", name, "--config", config).exit_code == 0
    assert files.names() == []


def test_command_asks_nothing_if_its_answers_could_not_be_written(config: Path, tmp_path: Path) -> None:
    place = tmp_path / "missing" / "answers.csv"
    for words in (("run", MODEL.label, tmp_path / "samples.csv"), ("fetch", "e" * 32)):
        said = confide("infer", *words, "--out", place, "--config", config, "--format", "json")
        assert (said.exit_code, said.failure["code"]) == (2, "INVALID_ARGUMENT")
        assert "no folder that you may write to" in said.failure["what"]


def raising(error: BaseException) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call
