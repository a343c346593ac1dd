"""The researcher's commands against real parties."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.command import Said, confide, confide_alone
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, LONG_TRAINING, Completed, Split, Trial

pytestmark = pytest.mark.multiparty


class Researcher:
    """Writes requests and runs `confide job` in the format json."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def write(self, name: str, **fields: object) -> Path:
        request = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER, **fields}
        file = self._trial.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(request))
        return file

    def job(self, command: str, *arguments: str | Path) -> Said:
        return confide("job", command, *arguments, *self._options("json"))

    def job_alone(self, command: str, *arguments: str | Path, output_format: str = "json") -> Said:
        """Runs the command as a process of its own."""
        return confide_alone("job", command, *arguments, *self._options(output_format))

    def _options(self, output_format: str) -> list[str | Path]:
        return ["--config", self._trial.network.researcher_config, "--format", output_format]


@pytest.fixture(scope="module")
def researcher(trial: Trial) -> Researcher:
    return Researcher(trial)


@pytest.fixture(scope="module")
def training(researcher: Researcher) -> Path:
    return researcher.write(
        "train",
        type="train",
        datasets=[f"{party}/train" for party in HOSPITALS],
        model_name="by-command",
        manifest="model.json",
        weights="model.safetensors",
        training={"epochs": 2, "batch_size": 100, "learning_rate": "0.5"},
    )


@pytest.fixture(scope="module")
def submitted(researcher: Researcher, training: Path) -> Said:
    """A training that was submitted by command and waited for by nobody yet."""
    return researcher.job_alone("submit", training)


def test_plan_command_shows_rounds_bytes_and_what_is_opened(researcher: Researcher, training: Path) -> None:
    plan = researcher.job("plan", training).data
    assert plan["rounds"] > 0
    assert plan["outputs"] == []
    assert [item["name"] for item in plan["kept_as_shares"]] == ["linear.weight", "linear.bias"]
    by_direction = sum(d["input_bytes"] + d["opening_bytes"] + d["correction_bytes"] for d in plan["directions"])
    assert plan["payload_bytes"] == by_direction


def test_submit_watch_and_show_end_with_the_planned_rounds_and_bytes(
    researcher: Researcher, training: Path, submitted: Said
) -> None:
    job = submitted.data["job"]
    watched = researcher.job_alone("watch", job[:12], output_format="text")
    assert watched.exit_code == 0, watched.error
    *records, last = watched.lines
    assert all(line["terminal"] is False for line in records)
    assert records[-1]["data"]["state"] == "completed"
    assert (last["terminal"], last["status"], last["data"]["ending"]["state"]) == (True, "ok", "completed")
    plan = researcher.job("plan", training).data
    said = researcher.job("show", job).data["parties"]
    assert {party["rounds"] for party in said if party["party"] in COMPUTING} == {plan["rounds"]}
    assert sum(party["payload_bytes"] for party in said) == plan["payload_bytes"]
    assert len({party["plan_digest"] for party in said}) == 1
    assert all(Ending.from_document(party["ending"]).state is State.COMPLETED for party in said)


def test_wait_and_list_show_a_completed_job(researcher: Researcher, submitted: Said) -> None:
    job = submitted.data["job"]
    waited = researcher.job("wait", job)
    assert (waited.exit_code, waited.data["ending"]["state"]) == (0, "completed")
    listed = {entry["job"]: entry["state"] for entry in researcher.job("list").data["jobs"]}
    assert listed[job] == "completed"


def test_infer_command_opens_one_label_per_sample(researcher: Researcher, trial: Trial, trained: Completed, split: Split) -> None:
    split.samples.to_csv(trial.folder / "samples.csv", index=False)
    request = researcher.write("infer", type="infer", model=trained.model, samples="samples.csv")
    job = researcher.job("submit", request).data["job"]
    assert researcher.job("wait", job).exit_code == 0
    labels = researcher.job("result", job).data["outputs"]["prediction"]
    assert len(labels) == len(split.samples)
    assert set(labels) <= {0, 1}


def test_evaluate_command_opens_one_count(researcher: Researcher, trial: Trial, trained: Completed) -> None:
    datasets = [f"{party}/holdout" for party in HOSPITALS]
    request = researcher.write("evaluate", type="evaluate", model=trained.model, datasets=datasets)
    job = researcher.job("submit", request).data["job"]
    assert researcher.job("wait", job).exit_code == 0
    (count,) = researcher.job("result", job).data["outputs"]["correct"]
    assert 0 < count <= trial.client.job(job).num_rows


def test_cancel_command_ends_a_running_job_as_cancelled(researcher: Researcher, trial: Trial) -> None:
    prepared = trial.train(LONG_TRAINING, model_name="never")
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    assert researcher.job("cancel", prepared.job.job_id).exit_code == 0
    waited = researcher.job("wait", prepared.job.job_id)
    assert (waited.exit_code, waited.failure["code"]) == (1, "CANCELLED")
    assert {ending.state for ending in trial.endings(prepared.job).values()} == {State.CANCELLED}


def test_command_about_an_unknown_job_fails_with_its_code(researcher: Researcher) -> None:
    said = researcher.job_alone("show", "0" * 32)
    assert (said.exit_code, said.failure["code"]) == (2, "UNKNOWN_JOB")
    assert "UNKNOWN_JOB" in said.error
