"""What `confide job` shows: bars, plans, endings and outputs."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from parties.cli.job_bars import follow_with_bars
from parties.cli.job_words import charge_note, job_in_words, outputs_in_words, plan_in_words
from parties.cli.main import app
from parties.client.client import Progress
from parties.client.progress import ending_in_words
from privacy.accounting.noisy_answers import spent_in_words
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Summary
from protocols.mpc.planning import derive_plan
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.jobs import TRAINING, a_training, an_evaluation, an_inference
from tests.support.private_training import terms

PARTIES = ("hospital-a", "hospital-b", "hospital-c")
COMPLETED = Ending("ab" * 16, 1, State.COMPLETED, "", State.RELEASING, "", "", "", "hospital-a", "2026-03-01T12:00:00Z", True, {})
LOST = replace(
    COMPLETED,
    state=State.ABORTED,
    code="PEER_LOST",
    phase=State.RUNNING,
    at_fault="hospital-b",
    cause="the link ended",
    remedy="Submit it again.",
)


def _said(party: str, state: State, step: int = 0, *, ending: Ending | None = None) -> Progress:
    return Progress(party, state.value, "step", step, 10 if step else 0, 7 * step, 100_000 * step, 0, "", ending)


def _terminal(width: int = 80) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=width, force_terminal=True, color_system=None), screen


def _no_pause(_seconds: float) -> None:
    """Asks again at once."""


def _script(**answers: list[Progress | ConfideError]) -> Callable[[str], Progress]:
    """Answers for a party in order; the last one for ever."""

    def ask(party: str) -> Progress:
        left = answers[party.replace("-", "_")]
        said = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(said, ConfideError):
            raise said
        return said

    return ask


def test_bars_show_every_participant_within_80_columns_and_return_the_ending() -> None:
    console, screen = _terminal()
    ask = _script(
        **{
            party.replace("-", "_"): [
                _said(party, State.AGREED),
                _said(party, State.RUNNING, 4),
                _said(party, State.COMPLETED, 10, ending=COMPLETED),
            ]
            for party in PARTIES
        }
    )
    assert follow_with_bars(ask, PARTIES, console=console, pause=_no_pause) == COMPLETED
    last = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "completed" in line][-len(PARTIES) :]
    assert [next(party for party in PARTIES if party in line) for line in last] == list(PARTIES)
    assert all("10/10" in line and "1.0 MB" in line for line in last)
    assert all(len(line.split("\x1b[2K")[-1]) <= 80 for line in last)


def test_bars_of_a_lost_participant_say_so_and_the_others_ending_counts() -> None:
    console, screen = _terminal()
    lost = ConfideError(ErrorCode.PARTY_UNREACHABLE, "it cannot be reached")
    ask = _script(
        hospital_a=[_said("hospital-a", State.ABORTED, 4, ending=LOST)],
        hospital_b=[lost],
        hospital_c=[_said("hospital-c", State.ABORTED, 6, ending=LOST)],
    )
    assert follow_with_bars(ask, PARTIES, console=console, pause=_no_pause) == LOST
    assert "party unreachable" in screen.getvalue()


def test_bars_with_nobody_left_to_ask_raise_their_failure() -> None:
    console, _ = _terminal()
    lost = ConfideError(ErrorCode.PARTY_UNREACHABLE, "it cannot be reached")
    ask = _script(hospital_a=[lost], hospital_b=[lost], hospital_c=[lost])
    with pytest.raises(ConfideError) as raised:
        follow_with_bars(ask, PARTIES, console=console, pause=_no_pause)
    assert raised.value is lost


def test_bars_of_others_go_on_while_one_participant_is_silent() -> None:
    console, _ = _terminal()
    released = Event()

    def ask(party: str) -> Progress:
        if party == "hospital-c":
            released.wait(10)
        return _said(party, State.COMPLETED, 10, ending=COMPLETED)

    try:
        assert follow_with_bars(ask, PARTIES, console=console, pause=_no_pause) == COMPLETED
    finally:
        released.set()


def test_plan_in_words_has_every_direction_with_grouped_bytes_and_fits_80_columns() -> None:
    plan = derive_plan(a_training())
    lines = plan_in_words(plan).splitlines()
    for direction in plan.directions:
        row = next(line.split() for line in lines if line.split()[:2] == [direction.sender, direction.receiver])
        figures = (direction.input_bytes, direction.opening_bytes, direction.correction_bytes)
        assert row[2:] == [f"{figure:,}" for figure in figures]
    assert f"{plan.rounds:,} rounds, {plan.payload_bytes:,} payload bytes between the parties" in lines
    assert f"opened to the computing parties: {plan.revealed_bits} bits: are the numbers in range?" in lines
    assert max(map(len, lines)) <= 80


def test_plan_in_words_of_an_inference_names_output_and_recipient() -> None:
    assert "opened to alice alone: prediction [5]" in plan_in_words(derive_plan(an_inference())).splitlines()


def test_plan_in_words_with_its_job_says_what_the_output_s_constraint_is() -> None:
    limits = {"top_k": 2, "decimals": 1, "clip": "0.1"}
    job = an_inference(outputs=(Output("prediction", OutputKind.PROBABILITY, "alice", **limits),))
    lines = plan_in_words(derive_plan(an_inference()), job).splitlines()
    words = "  probability: the 2 largest of each sample, the others as 0, clipped to 0.1 to 0.9, rounded to 1 decimal, in shares"
    assert lines[lines.index("opened to alice alone: prediction [5]") + 1] == words


def test_plan_in_words_says_the_epsilon_of_noisy_outputs_for_whom_and_against_whom_and_none_without_noise() -> None:
    exact = an_evaluation()
    noisy = replace(exact, outputs=tuple(replace(each, noise="10", noise_colluders=1) for each in exact.outputs))
    found = {
        name: next(line for line in plan_in_words(derive_plan(job), job).splitlines() if line.startswith("epsilon: "))
        for name, job in (("exact", exact), ("noisy", noisy))
    }
    assert found["exact"] == "epsilon: none: opened without noise"
    assert found["noisy"] == f"epsilon: {spent_in_words(noisy)}"
    assert "(delta 0.000000001) for one row, counted or left out, against 1 of 3 owners who pool" in found["noisy"]


class Told:
    """A client whose parties say how a training stands; none of its shares is asked for."""

    calls = SimpleNamespace(signed_utility=None)

    def __init__(self, *said: Progress | ConfideError) -> None:
        self._said = dict(zip(PARTIES, said, strict=False))

    def job(self, _job_id: str) -> Job:
        return a_training()

    def progress(self, _job_id: str, party: str) -> Progress:
        said = self._said[party]
        if isinstance(said, ConfideError):
            raise said
        return said

    def opened(self, _job: Job) -> dict[str, object]:
        return {}


DOWN = ConfideError(ErrorCode.PARTY_UNREACHABLE, "it is down")


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ([DOWN, _said("hospital-b", State.ABORTED, ending=LOST)], 1, "aborted in phase running; at fault: hospital-b; PEER_LOST"),
        ([_said("hospital-a", State.RUNNING), DOWN, DOWN], 1, "hospital-a says that job"),
        ([DOWN, DOWN, DOWN], 1, "it is down"),
        ([_said("hospital-a", State.COMPLETED, ending=COMPLETED)], 0, "A train job opens nothing."),
    ],
)
def test_result_of_a_training_says_how_it_ended(
    said: list[Progress | ConfideError], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parties.cli.job.opened_client", lambda _config: nullcontext(Told(*said)))
    found = CliRunner().invoke(app, ["job", "result", "ab", "--config", "researcher.yaml"])
    assert words in " ".join(found.output.split())
    assert bool(found.exit_code) is bool(code)


def test_ending_in_words_names_phase_fault_code_and_cause() -> None:
    assert ending_in_words(LOST) == "aborted in phase running; at fault: hospital-b; PEER_LOST: the link ended"
    assert ending_in_words(COMPLETED) == "completed"


def test_private_training_that_ended_while_it_ran_says_what_stays_charged() -> None:
    private = replace(a_training(), training=replace(TRAINING, privacy=terms(300)))
    assert charge_note(private, LOST).startswith("what it claims stays charged to its data sets, epsilon ")
    assert "zero-out, row; another attempt is charged again" in charge_note(private, LOST)
    unsaid = [(private, COMPLETED), (private, replace(LOST, phase=State.AGREED)), (a_training(), LOST), (an_evaluation(), LOST)]
    assert [charge_note(job, ending) for job, ending in unsaid] == [""] * 4


def test_job_in_words_says_which_model_it_trains_or_uses() -> None:
    training = a_training()
    assert job_in_words(training).endswith(f", to train diagnosis@{training.job_id[:12]}; no formal guarantee")
    assert job_in_words(an_evaluation()).endswith(", with diagnosis@0123456789ab")
    summary = replace(an_evaluation(), job_type=JobType.SUMMARISE, model_ref=None, summary=Summary(2, 1, 0, ""))
    assert job_in_words(summary).endswith(", over 300 rows")


def test_outputs_in_words_counts_rows_numbers_samples_and_says_when_there_are_none() -> None:
    assert outputs_in_words(an_evaluation(), {"correct": np.array([271])}) == "correct: 271 of 300 rows"
    labels = outputs_in_words(an_inference(), {"prediction": np.array([1, 0])})
    assert [line.split() for line in labels.splitlines()[1:]] == [["1", "true"], ["2", "false"]]
    assert outputs_in_words(a_training(), {}) == "A train job opens nothing."
