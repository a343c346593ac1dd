"""Samples from CSV and answers into it, the choice of a lane, and the commands' group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from parties.cli.default_command import DefaultCommandGroup
from parties.cli.infer_bars import bars
from parties.cli.main import app
from parties.client.encrypted.answers import EncryptedAnswers
from parties.client.encrypted.lanes import BYTES_PER_SECOND, choose_lane
from parties.client.encrypted.sample_files import read_samples, write_answers
from protocols.errors import ConfideError, ErrorCode
from tests.support.evaluator import a_published_model

MODEL = a_published_model()


def written(folder: Path, text: str) -> Path:
    file = folder / "samples.csv"
    file.write_text(text)
    return file


def answers(*outputs: str, values: np.ndarray) -> EncryptedAnswers:
    return EncryptedAnswers("diagnosis@0", "batch", "", ("e" * 32,), 1, 1, outputs, values)


def test_columns_are_read_by_name_whatever_their_order_and_ids_stay_beside(tmp_path: Path) -> None:
    file = written(tmp_path, "pulse,who,weight,age,height\n80,x,70.5,40,170\n90,y,60,50,160\n")
    found = read_samples(file, MODEL, id_column="who")
    assert found.values.tolist() == [[40, 170, 80, 70.5], [50, 160, 90, 60]]
    assert found.ids == ("x", "y")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("age,height,pulse\n1,2,3\n", "weight", "is missing"),
        ("age,height,pulse,weight,name\n1,2,3,4,x\n", "name", "none of the model's columns"),
        ("age,age,height,pulse,weight\n1,1,2,3,4\n", "age", "twice"),
        ("age,height,pulse,weight\n1,2,3\n", "line 2", "3 values"),
        ("age,height,pulse,weight\n1,2,3,4\n1,2,31337x,4\n", "line 3, pulse", "no finite number"),
        ("age,height,pulse,weight\n1,2,nan,4\n", "line 2, pulse", "no finite number"),
    ],
)
def test_file_that_is_not_as_the_model_takes_it_says_where_and_quotes_no_value(
    tmp_path: Path, text: str, where: str, what: str
) -> None:
    with pytest.raises(ConfideError) as caught:
        read_samples(written(tmp_path, text), MODEL)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert caught.value.problems[0].where == where
    assert what in caught.value.problems[0].what
    assert "31337" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"age,height,pulse,weight\n", b"\xff\xfe\n1\n", b'age\n"1\n'])
def test_file_without_samples_or_that_is_no_csv_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "samples.csv"
    file.write_bytes(data)
    with pytest.raises(ConfideError) as caught:
        read_samples(file, MODEL)
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_answers_are_written_in_the_declared_decimals_for_their_reader_alone(tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    values = np.array([[0.1, 0.9], [0.125, -0.5]])
    write_answers(out, answers("benign", "malignant", values=values), decimals=3, id_column="who", ids=("x", "y"))
    assert out.read_text() == "who,benign,malignant,largest\nx,0.100,0.900,malignant\ny,0.125,-0.500,benign\n"
    assert out.stat().st_mode & 0o777 == 0o600
    write_answers(out, answers("score", values=values[:, :1]), decimals=1)
    assert out.read_text() == "score\n0.1\n0.1\n"


def test_lane_is_chosen_by_the_size_of_the_request_and_the_others_are_said() -> None:
    few, many = choose_lane(MODEL.plans, 1), choose_lane(MODEL.plans, 100_000)
    assert few.lane != "batch"
    assert many.lane == "batch"
    for lane in MODEL.plans:
        assert f"{lane}: " in many.in_words()
    assert choose_lane(MODEL.plans, 1, wanted="batch").why == "as asked for"
    for rows, wanted in ((0, None), (1, "express")):
        with pytest.raises(ConfideError) as caught:
            choose_lane(MODEL.plans, rows, wanted=wanted)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_keys_that_the_owner_has_cost_nothing_more() -> None:
    fresh, ready = (choose_lane(MODEL.plans, 5, ready=ready, wanted="latency").cost for ready in ((), ("latency",)))
    keys = MODEL.plan("latency").predictions.key_bytes
    assert fresh.sent_bytes - ready.sent_bytes == keys
    assert fresh.seconds - ready.seconds == pytest.approx(keys / BYTES_PER_SECOND)
    assert fresh.numbers == ready.numbers == 5 * MODEL.plan("latency").numbers_per_answer


def test_group_means_its_default_command_where_no_command_is_named() -> None:
    group, said = typer.Typer(cls=DefaultCommandGroup), []
    group.command("shared")(lambda model, flag: said.append((model, flag)))
    group.command("run")(lambda: said.append("run"))
    for words in (["m@1", "s.csv"], ["shared", "m@1", "s.csv"], ["run"]):
        assert CliRunner().invoke(group, words).exit_code == 0
    assert said == [("m@1", "s.csv"), ("m@1", "s.csv"), "run"]


def test_inference_by_shares_goes_by_its_old_name() -> None:
    said = CliRunner().invoke(app, ["infer", "diagnosis@0123456789ab", "samples.csv", "--config", "no-such-researcher.yaml"])
    assert "no-such-researcher.yaml" in said.stderr
    assert CliRunner().invoke(app, ["infer", "diagnosis@0123456789ab"]).exit_code == 2
    assert "keygen" in CliRunner().invoke(app, ["infer", "--help"]).stdout


def test_bars_show_bytes_of_keys_and_counts_of_answers_and_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import io

    screen = io.StringIO()
    with bars(Console(file=screen, width=90, force_terminal=True, color_system=None)) as tell:
        tell("evaluation keys", 1_000_000, 2_500_000)
        tell("answers", 3, 20)
    assert "1.0/2.5 MB" in screen.getvalue()
    assert "3/20" in screen.getvalue()
    with bars() as tell:
        tell("answers", 1, 2)
    assert capsys.readouterr().err == ""
