"""A hospital that adds no noise to a private training, at real parties: nothing is trained, and all are told whose is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from governance.audit.entries import EntryKind, read_entry
from parties.client.requests import TrainingRequest
from protocols.errors import ErrorCode
from protocols.session.states import State
from tests.support.private_training import terms
from tests.support.processes import Program
from tests.support.trial import DEALER, HOSPITALS, Trial

pytestmark = pytest.mark.multiparty

TERMS = terms(420, noise_multiplier="2", epsilon="20", delta="0.0001")
TRAINING = TrainingRequest(epochs=30, batch_size=420, learning_rate="8")


@pytest.fixture
def silent(breakable: Trial) -> Iterator[Trial]:
    """The dealer, which owns rows, adds no noise to them."""
    breakable.kill(DEALER)
    breakable.restart(DEALER, Program.SILENT_NOISE)
    yield breakable
    breakable.kill(DEALER)
    breakable.restart(DEALER)


def test_training_without_an_owner_s_noise_is_aborted_everywhere_and_names_it(silent: Trial) -> None:
    sealed = {party: silent.sealed_files(party) for party in HOSPITALS}
    prepared = silent.train(TRAINING, model_name="without-noise")
    assert prepared.job.training is not None
    prepared = replace(prepared, job=replace(prepared.job, training=replace(prepared.job.training, privacy=TERMS)))
    silent.client.submit(prepared)
    endings = silent.endings(prepared.job)
    assert {(ending.state, ending.code) for ending in endings.values()} == {(State.ABORTED, ErrorCode.NOISE_MISSING.name)}
    # Both computing parties report what they found, also the one that the other's end cuts off.
    assert {ending.at_fault for ending in endings.values()} == {DEALER}
    assert all(f"the noise of {DEALER} failed its test" in ending.cause for ending in endings.values())
    assert {party: silent.sealed_files(party) for party in HOSPITALS} == sealed
    for party in HOSPITALS:
        with silent.tables(party) as tables:
            logged = [read_entry(entry.body).kind for entry in tables.audit.naming({prepared.job.job_id})]
        assert EntryKind.NOISE_TESTED not in logged
