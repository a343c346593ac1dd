"""A withdrawn consent ends everything that rests on it, at every party: jobs at once, models within a minute, names with them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from governance.consent.revocation import Effect
from governance.documents import DocumentKind
from governance.lineage.alias import AliasName
from governance.lineage.receipt import DeletionReceipt
from parties import harness
from parties.client.client import PreparedJob
from parties.grants import revoke_grant
from parties.lineage import blast_radius
from parties.models import held_model, lineage, move_alias_back, move_alias_forward
from parties.storage.grants import GrantRecord
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT, ModelRef
from protocols.session.states import State
from tests.support.trial import (
    COMPUTING,
    DEALER,
    LEAD,
    LONG_TRAINING,
    SECOND,
    SHORT_TRAINING,
    Split,
    Trial,
)

pytestmark = pytest.mark.multiparty

STOPS_WITHIN_S = 20.0  # from the end of a consent to the ending at every party
EFFECTIVE_WITHIN_S = 60.0  # the promise of docs/revocation.md, for a party that was down from the time when it is up again
BACK_WITHIN_S = 10.0  # likewise
_POLL_S = 0.1
_left_out = itertools.count(1)


@pytest.fixture(scope="module")
def world(breakable: Trial) -> Trial:
    """Three hospitals, each with room for two jobs at a time; one of them is killed on the way."""
    return breakable


def test_revocation_stops_running_and_waiting_trainings_everywhere_and_names_the_grant(world: Trial, split: Split) -> None:
    grant = _permit(world, "stopped", split)
    *running, waiting = (_train(world, "stopped", name, long=True) for name in ("first", "second", "third"))
    for prepared in running:
        world.client.submit(prepared)
        world.await_state(prepared.job, State.RUNNING)
    world.client.submit(waiting)
    world.await_state(waiting.job, State.AGREED, parties=[DEALER])
    with world.tables(DEALER) as tables:
        radius = blast_radius(tables, issuer=DEALER, subject=grant.grant_id)
    assert set(radius.running) == {prepared.job.job_id for prepared in running}
    assert radius.queued == (waiting.job.job_id,)
    began = time.monotonic()
    _revoke(world, grant, Effect.STOP)
    for job in (*(prepared.job for prepared in running), waiting.job):
        endings = world.endings(job, within_s=STOPS_WITHIN_S)
        assert {(ending.state, ending.code) for ending in endings.values()} == {(State.ABORTED, "GRANT_REVOKED")}
        assert all(grant.grant_id[:12] in ending.cause for ending in endings.values())
    _figure("revocation to the ending of two running jobs and a waiting one at three parties", began)


def test_grant_that_expires_stops_the_job_that_runs_under_it(world: Trial, split: Split) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=12)
    _permit(world, "short", split, expires=expires, derived_until=expires + timedelta(days=1))
    prepared = _train(world, "short", "expiring", long=True)
    world.client.submit(prepared)
    left_s = (expires - datetime.now(UTC)).total_seconds()
    endings = world.endings(prepared.job, within_s=max(0.0, left_s) + STOPS_WITHIN_S)
    assert {ending.code for ending in endings.values()} == {"GRANT_EXPIRED"}
    assert all(ending.time >= expires.strftime(TIME_FORMAT) for ending in endings.values())


def test_alias_moves_forward_by_every_holder_and_back_by_one(world: Trial, models: tuple[ModelRef, ModelRef]) -> None:
    first, second = models
    for version in (first, second):
        _set_alias(world, LEAD, version)
        if version == second:
            _assert_no_answer(world, split_alias="diagnosis@live")
        _set_alias(world, SECOND, version)
        assert _stands_for(world) == version
    began = time.monotonic()
    config = world.network.party(LEAD).config
    said = move_alias_back(config, harness.person_folder(config, harness.OFFICER), "diagnosis", AliasName.LIVE, now=_now())
    assert (said.version, said.before) == (first.version, second.version)
    _await(lambda: _stands_for(world) == first, within_s=BACK_WITHIN_S)
    _figure("rollback of an alias until the researcher's requests find the version before", began)


def test_revocation_with_deletion_reaches_every_holder_and_leaves_receipts(
    world: Trial, models: tuple[ModelRef, ModelRef], grant: GrantRecord, split: Split
) -> None:
    first, second = models
    asked = world.infer(first.label, split.samples)
    sealed = _share(world, LEAD, first)
    world.kill(SECOND)
    began = time.monotonic()
    _revoke(world, grant, Effect.DELETE)
    _await(lambda: _reasons(world, LEAD, asked) == {"MODEL_REVOKED"}, within_s=EFFECTIVE_WITHIN_S)
    _figure("revocation until another holder refuses an inference", began)
    world.restart(SECOND)
    began = time.monotonic()
    _await(lambda: _is_revoked_at(world, SECOND, first), within_s=EFFECTIVE_WITHIN_S)
    _figure("party that was down serves again until it has marked the model", began)
    assert _reasons(world, SECOND, asked) == {"MODEL_REVOKED"}
    _await(lambda: _holders_with_receipts(world, first) == set(COMPUTING), within_s=EFFECTIVE_WITHIN_S)
    assert _holders_with_receipts(world, second) == set(COMPUTING)
    assert sealed not in world.sealed_files(LEAD)
    _, tree = lineage(world.network.party(DEALER).config, first, now=_now())
    assert f"grant {grant.grant_id} was revoked" in tree
    assert all(f"destroyed at {party}" in tree for party in COMPUTING)
    assert held_model(world.network.party(SECOND).config, first).aliases == ()
    _assert_no_answer(world, split_alias="diagnosis@live")


@pytest.fixture(scope="module")
def grant(world: Trial, split: Split) -> GrantRecord:
    """The dealer's consent to the use of the rows that both models below rest on."""
    return _permit(world, "behind", split)


@pytest.fixture(scope="module")
def models(world: Trial, grant: GrantRecord) -> tuple[ModelRef, ModelRef]:
    """Two versions of one model; the second one rests on the same consent."""
    trained = [world.complete(_train(world, "behind", "diagnosis", long=False)).job.produced_model for _ in range(2)]
    first, second = trained
    if first is None or second is None:
        raise AssertionError("a training leaves a model")
    return first, second


def _permit(world: Trial, name: str, split: Split, **limits: datetime) -> GrantRecord:
    rows = split.train[DEALER].iloc[next(_left_out) :]  # the same rows have one name
    record = world.register_unpermitted(DEALER, name, rows)
    config = world.network.party(DEALER).config
    if "expires" in limits:
        return harness.permit(config, record, expires=limits["expires"], derived_until=limits["derived_until"])
    return harness.permit(config, record)


def _train(world: Trial, name: str, model: str, *, long: bool) -> PreparedJob:
    datasets = [*(f"{party}/train" for party in COMPUTING), f"{DEALER}/{name}"]
    return world.train_on(datasets, LONG_TRAINING if long else SHORT_TRAINING, model_name=model)


def _revoke(world: Trial, grant: GrantRecord, effect: Effect) -> None:
    config = world.network.party(DEALER).config
    officer = harness.person_folder(config, harness.OFFICER)
    revoke_grant(config, officer, grant.grant_id, reason="a patient asked for it", effect=effect, now=_now())


def _set_alias(world: Trial, party: str, ref: ModelRef) -> None:
    config = world.network.party(party).config
    move_alias_forward(config, harness.person_folder(config, harness.STEWARD), ref, AliasName.LIVE, now=_now())


def _stands_for(world: Trial) -> ModelRef | None:
    try:
        return world.evaluate("diagnosis@live", datasets=[f"{LEAD}/train"]).job.model_ref
    except ConfideError as error:
        if error.code is not ErrorCode.ALIAS_DIFFERS:
            raise
        return None


def _assert_no_answer(world: Trial, *, split_alias: str) -> None:
    with pytest.raises(ConfideError) as caught:
        world.evaluate(split_alias, datasets=[f"{LEAD}/train"])
    assert caught.value.code is ErrorCode.ALIAS_DIFFERS
    assert [problem.where for problem in caught.value.problems] == COMPUTING


def _reasons(world: Trial, party: str, prepared: PreparedJob) -> set[str]:
    request = jobs_pb2.ExplainJobRequest(job=prepared.job.to_bytes())
    return {reason.code for reason in world.client.calls.explain(party, request).reasons}


def _is_revoked_at(world: Trial, party: str, ref: ModelRef) -> bool:
    return any(
        model.revoked for model in world.client.calls.models(party) if (model.name, model.version) == (ref.name, ref.version)
    )


def _share(world: Trial, party: str, ref: ModelRef) -> str:
    with world.tables(party) as tables:
        return tables.models.get(ref).sealed_name


def _holders_with_receipts(world: Trial, ref: ModelRef) -> set[str]:
    with world.tables(DEALER) as tables:
        heard = tables.statements.heard(DocumentKind.DELETION_RECEIPT)
    return {receipt.holder for each in heard if (receipt := DeletionReceipt.from_bytes(each.body)).ref == ref}


def _await(holds: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s"
        time.sleep(_POLL_S)


def _figure(what: str, began: float) -> None:
    print(f"{what}: {time.monotonic() - began:.1f} s")  # shown by pytest -s


def _now() -> datetime:
    return datetime.now(UTC)
