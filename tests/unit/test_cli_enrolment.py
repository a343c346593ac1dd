"""The commands of enrolment and registration, as people and scripts see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from parties.cli.main import app
from parties.cli.output import EXIT_CODES, Output, OutputFormat, exit_code, table
from protocols.errors import ConfideError, ErrorCode, Kind, Problem
from tests.support.small_table import ROWS, SCHEMA

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def _data(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    envelope = json.loads(result.stdout)
    assert envelope["schema_version"] == 1
    assert envelope["status"] == "ok"
    data: dict[str, Any] = envelope["data"]
    return data


def _enrol(run: Run, party: str, *roles: str) -> str:
    options = [option for role in roles for option in ("--roles", role)]
    made = _data(
        run("party", "init", "--id", party, "--endpoint", f"{party}:7443", "--listen", "0.0.0.0:7443", "--folder", party,
            *options, "--format", "json")
    )  # fmt: skip
    approved = run("consortium", "approve", made["request"], "--fingerprint", made["fingerprint"], "--folder", "cardio")
    assert approved.exit_code == 0, approved.output
    return str(made["config"])


def test_enrolment_of_three_parties_and_a_researcher_by_commands(run: Run) -> None:
    founded = _data(run("consortium", "init", "--id", "cardio", "--folder", "cardio", "--format", "json"))
    founder = founded["founder_fingerprint"]
    configs = [_enrol(run, party, "data-owner", "computing") for party in ("hospital-a", "hospital-b")]
    configs.append(_enrol(run, "hospital-c", "data-owner", "dealer"))
    alice = _data(run("researcher", "init", "--id", "alice", "--institution", "hospital-a", "--folder", "alice",
                      "--format", "json"))  # fmt: skip
    approved = run("consortium", "approve", alice["request"], "--fingerprint", alice["fingerprint"], "--folder", "cardio",
                   "--out", "v5.json")  # fmt: skip
    assert "Version 5" in approved.stdout
    for config in configs:
        joined = run("party", "join", "--config", config, "--directory", "v5.json", "--founder-fingerprint", founder)
        assert joined.stdout == "Joined cardio, version 5 of its directory.\n"
    assert run("researcher", "join", "--config", alice["config"], "--directory", "v5.json", "--founder-fingerprint",
               founder).exit_code == 0  # fmt: skip
    shown = _data(run("party", "show", "--config", configs[0], "--format", "json"))
    assert shown["party"] == "hospital-a"
    assert [party["roles"] for party in shown["directory"]["parties"]] == [["data-owner", "computing"]] * 2 + [
        ["data-owner", "dealer"]
    ]
    assert shown["directory"]["researchers"] == [{"id": "alice", "institution": "hospital-a"}]
    assert shown["directory"] == _data(run("consortium", "show", "--folder", "cardio", "--format", "json"))


def test_party_init_in_words_shows_the_fingerprint_in_groups(run: Run) -> None:
    result = run("party", "init", "--id", "a", "--endpoint", "a:1", "--listen", "0.0.0.0:1", "--folder", "a", "--roles", "dealer")
    line = next(line for line in result.stdout.splitlines() if line.startswith("fingerprint: "))
    groups = line.removeprefix("fingerprint: ").split("-")
    assert [len(group) for group in groups] == [4] * 16


def test_approve_with_wrong_fingerprint_exits_7_and_says_so_on_stderr(run: Run) -> None:
    run("consortium", "init", "--id", "cardio", "--folder", "cardio")
    run("researcher", "init", "--id", "alice", "--folder", "alice")
    result = run("consortium", "approve", "alice/request.json", "--fingerprint", "0" * 64, "--folder", "cardio")
    assert result.exit_code == 7
    assert result.stdout == ""
    assert result.stderr.startswith("FINGERPRINT_DIFFERS: ")
    assert "what to do: " in result.stderr


def test_join_older_directory_exits_8(run: Run) -> None:
    founder = _data(run("consortium", "init", "--id", "cardio", "--folder", "cardio", "--format", "json"))["founder_fingerprint"]
    config = _enrol(run, "hospital-a", "computing")
    run("consortium", "publish", "--folder", "cardio", "--out", "old.json")
    _enrol(run, "hospital-b", "computing")
    join = ("party", "join", "--config", config, "--founder-fingerprint", founder, "--directory")
    assert run(*join, "cardio/directory.json").exit_code == 0
    result = run(*join, "old.json")
    assert result.exit_code == 8
    assert result.stderr.startswith("STALE_DIRECTORY: ")


def test_failure_as_json_is_one_envelope_with_every_problem(run: Run) -> None:
    arguments = ("party", "init", "--id", "A", "--endpoint", "x", "--listen", "0.0.0.0:1", "--folder", "a", "--roles", "dealer")
    result = run(*arguments, "--format", "json")
    error = json.loads(result.stdout)["error"]
    assert result.exit_code == 2
    assert error["code"] == "INVALID_ARGUMENT"
    assert {problem["where"] for problem in error["problems"]} == {"id", "endpoint"}
    line = json.loads(run(*arguments, "--format", "jsonl").stdout)
    assert line["status"] == "error"
    assert line["terminal"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("party", "init"),
        ("party", "fly"),
        ("consortium", "show", "--folder", "x", "--format", "xml"),
        ("party", "init", "--id", "a", "--endpoint", "a:1", "--listen", "a:1", "--folder", "a", "--roles", "queen"),
        ("party", "show", "--config", "missing.yaml"),
    ],
)
def test_wrong_usage_exits_2_with_nothing_on_stdout(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_dataset_commands_register_list_and_show(run: Run, tmp_path: Path) -> None:
    made = _data(run("party", "init", "--id", "a", "--endpoint", "a:1", "--listen", "0.0.0.0:1", "--folder", "a",
                     "--roles", "data-owner", "--format", "json"))  # fmt: skip
    (tmp_path / "rows.csv").write_text(ROWS + "99,1,true\n")
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    register = ("dataset", "register", "--config", made["config"], "--name", "tumours", "--file", "rows.csv",
                "--schema", "schema.yaml")  # fmt: skip
    refused = run(*register)
    assert refused.exit_code == 2
    assert "row 4 (line 5), column radius" in refused.stderr
    assert "99" not in refused.stderr
    registered = _data(run(*register, "--leave-out-invalid", "--format", "json"))
    assert (registered["num_rows"], registered["left_out"]) == (3, {"out_of_range": 1})
    assert _data(run("dataset", "show", "tumours", "--config", made["config"], "--format", "json")) == registered
    listed = run("dataset", "list", "--config", made["config"])
    assert [line.split()[:3] for line in listed.stdout.splitlines()] == [["name", "version", "rows"], ["tumours", "1", "3"]]
    assert run("dataset", "show", "absent", "--config", made["config"]).exit_code == 2


def test_dataset_commands_make_a_secret_and_register_aligned_parts(run: Run, tmp_path: Path) -> None:
    made = _data(run("party", "init", "--id", "a", "--endpoint", "a:1", "--listen", "0.0.0.0:1", "--folder", "a",
                     "--roles", "data-owner", "--format", "json"))  # fmt: skip
    (tmp_path / "rows.csv").write_text("patient,nodes\n17,5\n4,0\n")
    (tmp_path / "schema.yaml").write_text(
        "api_version: confide/v1\nkind: TableSchema\nname: part\ncolumns:\n  - {name: patient, role: identifier}\n"
        "  - {name: nodes, role: feature, type: integer, range: [0, 10]}\n"
    )
    assert run("dataset", "alignment-secret", "cohort.key").exit_code == 0
    assert run("dataset", "alignment-secret", "cohort.key").exit_code == 2
    register = ("dataset", "register", "--config", made["config"], "--name", "part", "--file", "rows.csv",
                "--schema", "schema.yaml", "--alignment-secret", "cohort.key")  # fmt: skip
    refused = run(*register)
    assert refused.exit_code == 2
    assert "--alignment-label" in refused.stderr
    registered = _data(run(*register, "--alignment-label", "cohort", "--format", "json"))
    assert (registered["num_rows"], len(registered["alignment"])) == (2, 64)
    assert _data(run("dataset", "show", "part", "--config", made["config"], "--format", "json")) == registered


def test_version_names_program_and_protocol(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("confide ")
    assert "protocol 1" in result.stdout


@pytest.mark.outside_world  # what a start imports shows in a fresh interpreter only
def test_start_imports_no_tensor_table_or_network_library() -> None:
    code = "import sys, parties.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"torch", "crypten", "numpy", "pandas", "pyarrow", "sklearn", "sqlalchemy", "grpc"}
    assert heavy.isdisjoint(loaded)


def test_defect_shows_its_place_and_never_its_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("canary 0.31337")

    monkeypatch.setattr("parties.consortium.init_consortium", fail)
    result = run("consortium", "init", "--id", "cardio", "--folder", "cardio")
    assert result.exit_code == 1
    assert result.stderr.startswith("INTERNAL: RuntimeError in fail, line ")
    assert "canary" not in result.stderr


def test_exit_codes_follow_the_kind_of_failure() -> None:
    assert exit_code(ConfideError(ErrorCode.INVALID_JOB)) == 2
    assert exit_code(ConfideError(ErrorCode.UNAUTHENTICATED)) == exit_code(ConfideError(ErrorCode.PEER_LOST)) == 3
    assert exit_code(ConfideError(ErrorCode.DEADLINE_PASSED)) == 4
    assert exit_code(ConfideError(ErrorCode.NO_GRANT)) == 5
    assert exit_code(ConfideError(ErrorCode.BAD_SIGNATURE)) == 7
    assert exit_code(ConfideError(ErrorCode.JOB_FAILED)) == 1
    assert EXIT_CODES[Kind.EXHAUSTED] == 6


def test_output_stream_ends_with_one_terminal_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(OutputFormat.JSONL)
    output.record({"step": 1}, "step 1")
    output.result({"steps": 1}, "done")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["terminal"] for line in lines] == [False, True]


def test_output_what_steers_a_terminal_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason that another party gave would otherwise write over what the command says."""
    reason = "no\r\x1b[2KAPPROVED \x9b1m caf\u00e9"
    Output(OutputFormat.TEXT).error(ConfideError(ErrorCode.APPROVAL_DENIED, reason))
    assert r"no\r\u001b[2KAPPROVED \u009b1m café" in capsys.readouterr().err
    Output(OutputFormat.JSON).result({"reason": reason}, "")
    said = capsys.readouterr().out
    assert json.loads(said)["data"]["reason"] == reason
    assert all(letter.isprintable() or letter == "\n" for letter in said)


def test_output_error_as_text_lists_problems_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfideError(ErrorCode.INVALID_JOB, "two problems", problems=[Problem("a", "x", "y"), Problem("", "z", "")])
    Output(OutputFormat.TEXT).error(error)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[:3] == ["INVALID_JOB: two problems", "  - a: x (y)", "  - z"]


def test_output_to_a_reader_that_has_gone_exits_without_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        with pytest.raises(typer.Exit) as raised:
            Output(OutputFormat.TEXT).result({}, "done")
        print("nothing fails now", flush=True)
    assert raised.value.exit_code == 141
    assert capfd.readouterr().err == ""


def test_table_aligns_columns_without_trailing_blanks() -> None:
    assert table(("id", "at"), [("hospital-a", "x"), ("b", "")]) == "id          at\nhospital-a  x\nb"
