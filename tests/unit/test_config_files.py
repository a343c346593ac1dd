"""Configuration files: strict, with file, line and field of every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from parties.config import (
    PartyConfig,
    load_party_config,
    load_researcher_config,
    write_party_config,
    write_researcher_config,
)
from protocols.errors import ConfideError, ErrorCode

PARTY = "api_version: confide.party/1\nparty: hospital-a\nlisten: 0.0.0.0:7443\nstate: state\n"


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "party.yaml"
    path.write_text(text)
    return path


def _refused(tmp_path: Path, text: str, read: Callable[[Path], object] = load_party_config) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        read(_write(tmp_path, text))
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert all(str(tmp_path / "party.yaml") in problem.where for problem in caught.value.problems)
    return caught.value


def test_config_with_needed_fields_only_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load_party_config(_write(tmp_path, PARTY))
    assert config.party == "hospital-a"
    assert config.listen == "0.0.0.0:7443"
    assert config.min_evaluation_rows == 20
    assert config.log_level == "info"
    assert config.folder.database_file == tmp_path / "state" / "confide.db"


def test_config_absolute_state_folder_stays(tmp_path: Path) -> None:
    assert load_party_config(_write(tmp_path, PARTY.replace("state: state", "state: /var/lib/x"))).state == Path("/var/lib/x")


def test_config_written_by_init_loads(tmp_path: Path) -> None:
    written = write_party_config(tmp_path / "party.yaml", party="no", listen="[::1]:7443")  # "no" is YAML for false
    assert written == load_party_config(tmp_path / "party.yaml")
    assert written.party == "no"
    researcher = write_researcher_config(tmp_path / "researcher.yaml", researcher="alice")
    assert researcher == load_researcher_config(tmp_path / "researcher.yaml")


def test_config_is_frozen(tmp_path: Path) -> None:
    config: PartyConfig = load_party_config(_write(tmp_path, PARTY))
    with pytest.raises(ValidationError):
        config.min_evaluation_rows = 1  # type: ignore[misc]


def test_config_unknown_field_is_refused_with_line_and_name(tmp_path: Path) -> None:
    error = _refused(tmp_path, PARTY + "insecure: true\n")
    assert [problem.where for problem in error.problems] == [f"{tmp_path}/party.yaml:5 insecure"]
    assert "unknown field" in str(error)


def test_config_several_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = "api_version: confide.party/2\nparty: Hospital A\nlisten: 7443\nmin_evaluation_rows: 1\nlog_level: loud\n"
    error = _refused(tmp_path, text)
    lines = {problem.where.split(":")[-1] for problem in error.problems}
    assert lines == {"1 api_version", "2 party", "3 listen", "1 state", "4 min_evaluation_rows", "5 log_level"}


@pytest.mark.parametrize(
    "line",
    [
        "min_evaluation_rows: 9",
        "min_evaluation_rows: '20'",
        "min_evaluation_rows: 20.0",
        "min_evaluation_rows: true",
        "max_rows: 0",
        "max_query_rows: 100000000",
        "listen: 0.0.0.0",
        "party: founder",
        "state: [a]",
    ],
)
def test_config_unsafe_or_mistyped_value_is_refused(tmp_path: Path, line: str) -> None:
    field = line.split(":")[0]
    kept = "".join(f"{other}\n" for other in PARTY.splitlines() if not other.startswith(f"{field}:"))
    error = _refused(tmp_path, kept + line + "\n")
    assert field in error.problems[0].where


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PARTY + "party: hospital-b\n", "twice"),
        (PARTY.replace("hospital-a", "&x hospital-a"), "anchors"),
        (PARTY.replace("hospital-a", "!!python/name:os.system x"), "anchors, aliases and tags"),
        (PARTY + "1: 2\n", "name must be a text"),
        ("- a\n- b\n", "must hold fields"),
        ("", "missing field"),
        ("a: [1\nb: {", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
    ],
)
def test_config_beyond_plain_yaml_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in str(_refused(tmp_path, text))


def test_config_error_never_repeats_the_value(tmp_path: Path) -> None:
    error = _refused(tmp_path, PARTY.replace("hospital-a", "'PASSWORD hunter2'") + "password: hunter2\n")
    assert "hunter2" not in str(error)
    assert "hunter2" not in str(_refused(tmp_path, "password: [hunter2\nx: }"))


def test_config_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", _write(tmp_path, "#" * 70_000)):
        with pytest.raises(ConfideError) as caught:
            load_party_config(path)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_researcher_config_for_a_party_is_refused(tmp_path: Path) -> None:
    error = _refused(tmp_path, PARTY, load_researcher_config)
    assert {problem.where.split(" ")[-1] for problem in error.problems} >= {"api_version", "party", "listen", "researcher"}
