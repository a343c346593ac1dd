"""Profiles: strict, chosen by argument, then environment, then the file; and never written by Confide."""

from __future__ import annotations

from pathlib import Path

import pytest

from parties.client.profiles import load_profile, profiles_file
from protocols.errors import ConfideError, ErrorCode

TWO = """\
api_version = "confide.profiles/1"
active = "cardio"

[profiles.cardio]
researcher = "alice/researcher.yaml"
computing_parties = ["hospital-a", "hospital-b"]
dealer = "hospital-c"

[profiles.onco]
researcher = "/somewhere/researcher.yaml"
"""


def written(folder: Path, text: str = TWO) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def refusal(file: Path, name: str | None = None) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        load_profile(name, file, environment={})
    return caught.value


def test_active_profile_is_used_when_nothing_is_named(tmp_path: Path) -> None:
    profile = load_profile(path=written(tmp_path), environment={})
    assert profile.name == "cardio"
    assert profile.researcher_config == tmp_path / "alice" / "researcher.yaml"
    assert (profile.computing_parties, profile.dealer) == (("hospital-a", "hospital-b"), "hospital-c")


def test_environment_wins_over_the_active_profile_and_the_argument_over_both(tmp_path: Path) -> None:
    file = written(tmp_path, TWO + '\n[profiles.neuro]\nresearcher = "n.yaml"\n')
    environment = {"CONFIDE_CONFIG": str(file), "CONFIDE_PROFILE": "onco"}
    assert load_profile(environment=environment).name == "onco"
    assert load_profile("neuro", environment=environment).name == "neuro"


def test_profile_without_placement_names_nobody(tmp_path: Path) -> None:
    profile = load_profile("onco", written(tmp_path), environment={})
    assert (profile.computing_parties, profile.dealer) == ((), "")


def test_loading_a_profile_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path)
    load_profile("onco", file, environment={})
    assert file.read_text() == TWO


def test_file_lies_where_the_environment_says_else_in_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profiles_file({}) == tmp_path / ".config" / "confide" / "config.toml"
    assert profiles_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/confide/config.toml")
    assert profiles_file({"CONFIDE_CONFIG": "/y.toml", "XDG_CONFIG_HOME": "/x"}) == Path("/y.toml")


def test_unknown_profile_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    error = refusal(written(tmp_path), "neuro")
    assert error.code is ErrorCode.INVALID_CONFIG
    assert "cardio, onco" in error.remedy


def test_no_active_profile_and_none_named_is_refused(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, TWO.replace('active = "cardio"\n', "")))
    assert error.code is ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('dealer = "hospital-c"', 'dealer = "hospital-c"\ninsecure = true'),
        ('dealer = "hospital-c"', "dealer = 3"),
        ('dealer = "hospital-c"', 'dealer = "Hospital C"'),
        ('researcher = "alice/researcher.yaml"\n', ""),
        ("confide.profiles/1", "confide.profiles/2"),
        ("[profiles.cardio]", "[profiles.cardio"),
        ("[profiles.onco]", "[profiles.cardio]"),
    ],
)
def test_file_with_anything_unknown_or_wrong_is_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in TWO
    error = refusal(written(tmp_path, TWO.replace(old, new)))
    assert error.code is ErrorCode.INVALID_CONFIG


def test_file_that_is_missing_is_refused_with_its_name(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.toml")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert "none.toml" in error.what
