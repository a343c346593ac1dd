"""What of an answer is opened is said alike in a request, in Python and on the command line; a warm serving must fit it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from parties.cli.main import app
from parties.client.answer_options import AnswerOptions, wanted_output
from parties.client.calls import PreparedJob
from parties.client.client import Client
from parties.client.placement import Placement
from parties.client.predicting import find_warm, predict, predict_cold
from parties.client.requests import InferRequest
from parties.client.tasks import prepare_inference
from parties.client.warm import ServingState, WarmAt
from parties.wire.generated.confide.v1 import party_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef, Output, OutputKind
from tests.support.described import BENIGN, COMMON, LABEL, NOW, Consortium
from tests.support.jobs import a_serving

SAMPLES = np.zeros((30, 3))
WHO = Placement(("hospital-a", "hospital-b"), "hospital-c")
CASES: list[tuple[str, AnswerOptions]] = [
    ("label", {"noise": "0.5", "noise_colluders": 1}),
    ("label", {"abstain_below": "0.8"}),
    ("label", {"abstain_below": "0.8", "abstain_beyond": "0.5"}),
    ("score", {"abstain_beyond": "0.25"}),
    ("probability", {"decimals": 2, "clip": "0.01", "noise": "0.25", "abstain_below": "0.75"}),
    ("score", {"decimals": 1}),
    ("mean", {"noise": "0.1", "min_cell": 25}),
    ("mean", {}),
]


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement of the test is in force then."""
    monkeypatch.setattr("parties.client.tasks.datetime", SimpleNamespace(now=lambda _zone: NOW))


@dataclass
class Asked(Consortium):
    """A consortium that is given jobs, and has no serving."""

    given: list[PreparedJob] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)
    placement = WHO

    def __post_init__(self) -> None:
        super().__post_init__()
        self.servings = self

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def find(self, _model: str, wanted: Output, *, num_rows: int) -> Job | None:
        return None

    def submit(self, prepared: PreparedJob) -> Any:
        self.given.append(prepared)
        raise ConfideError(ErrorCode.PARTY_BUSY, "enough for this test")

    def serve(self, model: str, **said: Any) -> Any:
        self.served.append({"model": model, **said})
        raise ConfideError(ErrorCode.PARTY_BUSY, "enough for this test")

    def models(self, party: str) -> list[party_pb2.Model]:
        (model,) = super().models(party)
        model.computing_parties.extend(WHO.computing_parties)
        return [model]

    @property
    def output(self) -> Output:
        return self.given[-1].job.outputs[0]


def opened(kind: str, options: AnswerOptions) -> Output:
    """What a request in a file opens."""
    fields = {"type": "infer", "model": LABEL, "samples": "(in memory)", "output": kind}
    request = InferRequest.model_validate(COMMON | fields | options)
    return Consortium(BENIGN).prepare(request, samples=SAMPLES).job.outputs[0]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_python_opens_what_the_request_opens(kind: str, options: AnswerOptions) -> None:
    client = Asked(BENIGN)
    with pytest.raises(ConfideError):
        predict(cast(Client, client), LABEL, SAMPLES, output=kind, **options)
    assert client.output == opened(kind, options)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_command_opens_what_the_request_opens(
    kind: str, options: AnswerOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, words = Asked(BENIGN), []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    samples = tmp_path / "samples.csv"
    samples.write_text("age,pulse,pressure\n" + "50,80,120\n" * 30)
    monkeypatch.setattr("parties.cli.serve.opened_client", lambda _config: nullcontext(client))
    _same_columns(samples, client)
    said = CliRunner().invoke(
        app, ["infer", LABEL, str(samples), "--output", kind, "--config", "researcher.yaml", "--dealer", "hospital-c", *words]
    )
    assert client.given, said.output
    assert client.output == opened(kind, options)


class Unserved(Asked):
    """A researcher who names no dealer, with what is left of her servings."""

    placement = Placement()
    directory = SimpleNamespace(parties=())

    def listed(self, _parties: list[str]) -> list[ServingState]:
        return list(self.states)

    def jobs(self) -> list[Job]:
        return list(self.begun)

    states: tuple[ServingState, ...] = ()
    begun: tuple[Job, ...] = ()


SERVED = a_serving()
_SHORT = SERVED.job_id[:12]


@pytest.mark.parametrize(
    ("states", "begun", "known"),
    [
        ((), (a_serving(model_ref=ModelRef("other", "0123456789ab")), SERVED), f"the last one, {_SHORT}, is over"),
        ((ServingState(SERVED, ()),), (SERVED,), f"{_SHORT} is not warm"),
        (
            (ServingState(SERVED, tuple(WarmAt(party, True, 3, 2, None) for party in SERVED.computing_parties)),),
            (),
            f"{_SHORT} has 3 queries and 2 rows left",
        ),
        ((), (), "none was begun from this folder"),
    ],
)
def test_question_that_no_serving_answers_any_more_says_so_and_what_to_do(
    states: tuple[ServingState, ...], begun: tuple[Job, ...], known: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, samples = Unserved(BENIGN), tmp_path / "samples.csv"
    client.states, client.begun = states, begun
    monkeypatch.setattr("parties.cli.serve.opened_client", lambda _config: nullcontext(client))
    _same_columns(samples, client)
    said = CliRunner().invoke(app, ["infer", LABEL, str(samples), "--config", "researcher.yaml"]).output
    with pytest.raises(ConfideError) as caught:
        predict(cast(Client, client), LABEL, SAMPLES)
    for text in (said, str(caught.value)):
        assert known in " ".join(text.split())
        assert f"confide serve start {LABEL}" in " ".join(text.split())
        assert "--dealer" in text
    cold = CliRunner().invoke(app, ["infer", LABEL, str(samples), "--config", "researcher.yaml", "--cold"]).output
    assert "serving" not in cold  # none was asked
    assert "dealer: nobody is named" in cold


def _same_columns(samples: Path, client: Consortium) -> None:
    """Writes rows with the columns of the model's schema."""
    names = [column["name"] for column in client.schema["columns"] if column["role"] == "feature"]
    least = [str(column.get("range", ["0"])[0]) for column in client.schema["columns"] if column["role"] == "feature"]
    samples.write_text("\n".join([",".join(names), *[",".join(least)] * 30]) + "\n")


def test_serving_is_begun_with_what_the_command_says(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Asked(BENIGN)
    monkeypatch.setattr("parties.cli.serve.opened_client", lambda _config: nullcontext(client))
    words = ["--output", "label", "--noise", "0.5", "--noise-colluders", "1", "--abstain-below", "0.7", "--abstain-beyond", "0.6"]
    CliRunner().invoke(app, ["serve", "start", LABEL, "--config", "researcher.yaml", *words])
    (said,) = client.served
    assert (said["noise"], said["noise_colluders"]) == ("0.5", 1)
    assert (said["abstain_below"], said["abstain_beyond"]) == ("0.7", "0.6")


@pytest.mark.parametrize(
    ("kind", "options", "where"),
    [
        ("score", {"noise": "0.5"}, "noise"),
        ("value", {"decimals": 1}, "outputs"),
        ("label", {"noise": "0.5", "noise_colluders": 2}, "noise_colluders"),
        ("label", {"noise": "much"}, "noise"),
        ("mean", {"min_cell": 31}, "query_rows"),
        ("label", {"abstain_beyond": "1.5"}, "abstain_beyond"),
        ("mean", {"abstain_beyond": "0.5"}, "abstain_beyond"),
    ],
)
def test_what_a_job_cannot_open_is_refused_by_its_field(kind: str, options: AnswerOptions, where: str) -> None:
    with pytest.raises(ConfideError) as caught:
        predict_cold(cast(Client, Asked(BENIGN)), LABEL, SAMPLES, output=kind, placement=WHO, **options)
    assert caught.value.code is ErrorCode.INVALID_JOB
    assert [where in problem.where for problem in caught.value.problems] == [True]


def test_number_is_written_as_a_person_would_write_it() -> None:
    prepared = prepare_inference(
        cast(Client, Consortium(BENIGN)),
        LABEL,
        SAMPLES,
        output="label",
        constraint={"noise": 0.1},
        placement=WHO,
        expires_in_minutes=None,
    )
    assert prepared.job.outputs[0].noise == "0.1"


class Warm:
    """A researcher's client that knows one serving."""

    researcher = "alice"

    def __init__(self, job: Job) -> None:
        from parties.client.warm import Servings

        self.servings = Servings(cast(Any, None))
        self.servings.remember(job)
        self.servings.listed = lambda parties: []  # type: ignore[method-assign]  # nobody else has any
        self.servings._calls = cast(Any, type("Calls", (), {"directory": type("Directory", (), {"parties": ()})()})())


@pytest.mark.parametrize(
    ("changes", "options", "taken"),
    [
        ({"noise": "0.5", "noise_colluders": 1}, {"noise": 0.5}, True),  # of two computing parties one may pool
        ({"noise": "0.5", "noise_colluders": 1}, {"noise": "0.50", "noise_colluders": 1}, True),
        ({"noise": "0.5", "noise_colluders": 1}, {"noise": "0.4"}, False),
        ({"noise": "0.5", "noise_colluders": 1}, {}, False),
        ({"abstain_below": "0.7"}, {"abstain_below": 0.7}, True),
        ({"abstain_below": "0.7"}, {}, False),
        ({"abstain_beyond": "0.5"}, {"abstain_beyond": "0.50"}, True),
        ({"abstain_beyond": "0.5"}, {"abstain_beyond": 0.4}, False),
        ({"abstain_beyond": "0.5"}, {}, False),
        ({}, {"noise": "0.5"}, False),
        ({}, {"noise": "much"}, False),
        ({}, {"noise": "NaN"}, False),
        ({}, {"decimals": None, "top_k": None, "clip": None}, True),
    ],
)
def test_serving_is_taken_only_if_it_adds_just_this_noise(changes: dict[str, Any], options: AnswerOptions, taken: bool) -> None:
    job = a_serving()
    job = replace(job, outputs=(replace(job.outputs[0], kind=OutputKind.LABEL, **changes),))
    found = find_warm(cast(Client, Warm(job)), LABEL, output="label", constraint=options, num_rows=1)
    assert (found == job) is taken


def test_mean_is_answered_by_no_serving() -> None:
    assert wanted_output("mean", {}, recipient="alice") is None
