"""A party whose evaluators are stuck or killed, or that dies itself: what it still serves, what is told, what stays debited."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from parties import harness
from parties.client.client import Client
from parties.client.encrypted.enquiring import Permission, begin, make_enquiry
from parties.client.encrypted.evaluator import RemoteEvaluator
from parties.client.encrypted.keys import QueryKey, make_key
from parties.client.encrypted.published import EncryptedModel, find_published
from parties.client.health import is_healthy
from parties.publishing import withdraw_model
from protocols.ckks.wire import WireShape
from protocols.errors import ConfideError, ErrorCode
from tests.support.processes import evaluators
from tests.support.publishing import examples, permit, publish
from tests.support.refusals import refusal
from tests.support.trial import LEAD, Trial

pytestmark = pytest.mark.multiparty
REQUESTS = 20
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def trial(breakable: Trial) -> Trial:
    return breakable


@dataclass(frozen=True)
class Asking:
    """A researcher with an open enquiry."""

    client: Client
    model: EncryptedModel
    key: QueryKey
    evaluator: RemoteEvaluator
    enquiry_id: str
    rows: np.ndarray

    def ask(self) -> np.ndarray:
        """Asks about one sample."""
        size = WireShape.of(self.key.plan).answer_bytes
        query = self.key.encrypt(self.rows)
        return self.key.open(self.evaluator.ask(self.enquiry_id, secrets.token_hex(16), query, answer_bytes=size), 1)

    def left(self) -> int:
        return self.evaluator.state(self.enquiry_id).answers_left


@pytest.fixture
def asking(trial: Trial) -> Iterator[Asking]:
    own, config = examples().breast_cancer_regression(), trial.network.party(LEAD).config
    published = publish(config, own, trial.folder / "publications" / secrets.token_hex(4))
    permit(config, published)
    with Client.open(trial.network.researcher_config, now=datetime.now(UTC)) as client:
        model, now = find_published(client, published.ref.label), datetime.now(UTC)
        key = make_key(model.published, "latency", model.plan("latency"), now=now)
        enquiry = make_enquiry(client, model, key, requests=REQUESTS, permission=Permission(), now=now)
        evaluator = RemoteEvaluator(client.calls, LEAD)
        begin(client, evaluator, enquiry, key)
        rows = np.zeros((1, model.plan("latency").num_features))
        yield Asking(client, model, key, evaluator, enquiry.enquiry_id, rows)
        evaluator.end(enquiry.enquiry_id)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_party_with_stuck_evaluators_serves_everything_else_and_their_death_is_one_failure_each(
    trial: Trial, asking: Asking
) -> None:
    asking.ask()
    running, before = trial.network.party(LEAD), asking.left()
    with ThreadPoolExecutor(4) as threads:
        found = evaluators(running.pid)
        assert found
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        stuck = [threads.submit(asking.ask) for _ in found]
        eventually(lambda: asking.left() == before - len(found))  # they are under way, so their numbers are set aside
        assert is_healthy(running.config, timeout_s=5)
        assert find_published(asking.client, asking.model.label).published == asking.model.published
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        outcomes = [refusal(lambda each=each: each.result(WITHIN_S)) for each in stuck]
    assert {(outcome.code, outcome.party or LEAD) for outcome in outcomes} == {(ErrorCode.EVALUATION_FAILED, LEAD)}
    assert asking.left() == before
    asking.ask()
    assert asking.left() == before - 1
    assert is_healthy(running.config, timeout_s=5)


def test_party_that_was_killed_answers_again_once_keys_are_uploaded_again_and_debits_stay(trial: Trial, asking: Asking) -> None:
    first = asking.ask()
    before = asking.left()
    trial.kill(LEAD)
    trial.restart(LEAD)
    state = asking.evaluator.state(asking.enquiry_id)
    assert (state.open, state.answers_left, state.key_bytes) == (True, before, 0)
    assert refusal(asking.ask).code is ErrorCode.NOT_READY
    message = asking.key.message
    asking.evaluator.put(asking.enquiry_id, asking.key.digest, total=len(message), offset=0, data=message)
    assert np.abs(asking.ask() - first).max() < 10 * asking.key.plan.precision
    assert asking.left() == before - 1


def test_withdrawn_model_answers_nothing_more_and_gives_back_the_rest(trial: Trial, asking: Asking) -> None:
    asking.ask()
    config = trial.network.party(LEAD).config
    steward = harness.person_folder(config, harness.STEWARD)
    withdraw_model(config, steward, asking.model.published.ref, reason="replaced", now=datetime.now(UTC))
    eventually(lambda: not asking.evaluator.state(asking.enquiry_id).open)
    assert isinstance(refusal(asking.ask), ConfideError)
    state = asking.evaluator.state(asking.enquiry_id)
    assert (state.reason, state.answers_left) == ("unknown-model", 0)
    with trial.tables(LEAD) as tables:
        record = tables.encrypted.find_enquiry(asking.enquiry_id)
    assert record is not None
    assert (record.requests, record.answered) == (1, asking.key.plan.numbers_per_answer)
