"""An operator's commands and listener against real parties."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from parties.config import load_party_config
from parties.harness import free_ports, make_consortium
from parties.operating import doctor
from parties.operating.finding import Verdict
from tests.support.command import confide, confide_alone
from tests.support.trial import DEALER, HOSPITALS, LEAD, SECOND, Completed, Trial

pytestmark = pytest.mark.multiparty


def config_of(trial: Trial, party: str) -> Path:
    return trial.network.party(party).config_file


@contextmanager
def another_config(trial: Trial, party: str, **changes: str) -> Iterator[Path]:
    """A configuration beside the party's own, for the same state folder, as a mistaken operator may have written it."""
    text = config_of(trial, party).read_text()
    for field, value in changes.items():
        text = re.sub(rf"(?m)^{field}: .*$", f"{field}: {value}", text)
    file = config_of(trial, party).with_name("another.yaml")
    file.write_text(text)
    try:
        yield file
    finally:
        file.unlink()


def test_status_shows_peers_holdings_and_the_last_endings(trial: Trial, trained: Completed) -> None:
    found = confide("status", "--config", config_of(trial, LEAD), "--format", "json").data
    assert (found["party"], found["serving"]) == (LEAD, True)
    assert {peer["party"] for peer in found["peers"]} == {SECOND, DEALER}
    assert all(peer["reachable"] and peer["directory_version"] == found["directory_version"] for peer in found["peers"])
    assert found["datasets"] >= 2
    assert found["models"] >= 1
    assert found["free_bytes"] > 0
    assert found["used_bytes"] > 0
    assert len(found["endings"]) >= 1
    screen = confide("status", "--config", config_of(trial, LEAD)).out
    assert f"{LEAD} serves" in screen
    assert trained.prepared.job.job_id in screen or len(found["endings"]) == 5


def test_status_of_a_party_that_does_not_serve_says_so_and_who_is_down(tmp_path: Path) -> None:
    make_consortium(tmp_path, HOSPITALS)
    config = tmp_path / LEAD / "party.yaml"
    found = confide("status", "--config", config, "--timeout", "2", "--format", "json").data
    assert (found["serving"], found["open_jobs"], found["endings"]) == (False, [], [])
    assert {peer["code"] for peer in found["peers"]} <= {"PARTY_UNREACHABLE", "PEER_SILENT"}
    assert f"{LEAD} does NOT serve" in confide("status", "--config", config, "--timeout", "2").out


def test_doctor_passes_a_sound_party_and_names_every_check(trial: Trial) -> None:
    said = confide_alone("doctor", "--config", config_of(trial, SECOND), "--format", "json", within_s=180)
    found = {finding["check"]: finding for finding in said.data["findings"]}
    assert {name: finding for name, finding in found.items() if finding["verdict"] == "FAIL"} == {}
    assert said.exit_code == 0
    assert {"directory", "database", "port", "CrypTen", "confinement of workers", f"peer {LEAD}", f"clock against {LEAD}"} <= set(
        found
    )
    assert "served by this party" in found["port"]["what"]
    assert "opens with this party's key" in found["sealed files"]["what"]


def test_doctor_finds_a_port_that_is_not_the_one_served(trial: Trial) -> None:
    (port,) = free_ports(1)
    with another_config(trial, SECOND, listen=f"127.0.0.1:{port}") as file:
        found = doctor._port(load_party_config(file), datetime.now(UTC))
    assert found.verdict is Verdict.FAIL
    assert f"127.0.0.1:{port}" in found.what


def test_diagnose_measures_both_ways_and_passes_on_loopback(trial: Trial) -> None:
    said = confide(
        "net", "diagnose", "--config", config_of(trial, LEAD), "--idle", "1", "--max-round-trip", "5000", "--format", "json",
    )  # fmt: skip
    found = {peer["peer"]: peer for peer in said.data["peers"]}
    assert set(found) == {SECOND, DEALER}
    for peer in found.values():
        assert [finding for finding in peer["findings"] if finding["verdict"] != "PASS"] == []
        checks = {finding["check"] for finding in peer["findings"]}
        assert "links" in checks
        for way in ("there", "back"):
            for figure in ("round trip", "sending", "receiving", "largest message", "idle limit", "clock", "certificate"):
                assert f"{way}: {figure}" in checks
    assert said.exit_code == 0


def test_diagnose_fails_where_a_threshold_is_missed(trial: Trial) -> None:
    said = confide(
        "net", "diagnose", "--config", config_of(trial, LEAD), "--peer", DEALER, "--idle", "0.5", "--min-bandwidth", "1000000",
        "--max-round-trip", "5000", "--format", "json",
    )  # fmt: skip
    (peer,) = said.data["peers"]
    wrong = {finding["check"] for finding in peer["findings"] if finding["verdict"] == "FAIL"}
    assert wrong == {"there: sending", "there: receiving", "back: sending", "back: receiving"}
    assert said.exit_code == 1


def test_diagnose_of_a_party_that_is_not_in_the_directory_is_refused(trial: Trial) -> None:
    said = confide("net", "diagnose", "--config", config_of(trial, LEAD), "--peer", "hospital-x", "--format", "json")
    assert (said.failure["code"], said.exit_code) == ("NOT_ENROLLED", 2)
    assert said.failure["page"] == "docs/errors/NOT_ENROLLED.md"


def test_catalogue_lists_what_requests_may_name(trial: Trial, trained: Completed) -> None:
    config = trial.network.researcher_config
    found = confide("catalogue", "list", "--config", config, "--format", "json").data
    assert {f"{party}/train" for party in HOSPITALS} <= {dataset["name"] for dataset in found["datasets"]}
    model = trained.prepared.job.produced_model
    assert model is not None
    assert model.label in {entry["name"] for entry in found["models"]}
    assert found["unheard"] == {}
    shown = confide("catalogue", "show", model.label, "--config", config, "--format", "json").data
    assert shown["computing_parties"] == [LEAD, SECOND]
    assert {"name": "benign", "role": "label", "expected": "true or false"} in shown["columns"]
    unknown = confide("catalogue", "show", f"{LEAD}/nothing", "--config", config, "--format", "json")
    assert (unknown.failure["code"], unknown.exit_code) == ("UNKNOWN_DATASET", 2)


def test_listener_tells_how_the_party_works_and_nothing_about_jobs(trial: Trial, trained: Completed) -> None:
    listen = load_party_config(config_of(trial, DEALER)).metrics
    assert listen is not None
    with urllib.request.urlopen(f"http://{listen}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    figures = {name: float(value) for name, value in re.findall(r"(?m)^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text)}
    assert figures["confide_storage_writable"] == 1
    assert figures[f'confide_peer_bytes_total{{kind="sent",peer="{SECOND}"}}'] > 0
    assert figures['confide_jobs{state="completed"}'] >= 1
    assert any(name.startswith("rpc_server_call_duration_seconds_count") for name in figures)
    assert trained.prepared.job.job_id not in text


def test_listener_is_bound_where_it_is_configured_alone(trial: Trial) -> None:
    listen = load_party_config(config_of(trial, DEALER)).metrics
    assert listen is not None
    port = int(listen.rpartition(":")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_log_lines_are_json_with_known_fields_and_calls_have_ids(trial: Trial, trained: Completed) -> None:
    lines = [json.loads(line) for line in trial.party_log(LEAD).splitlines()]
    assert any(line["event"] == "ended" and line["job"] == trained.prepared.job.job_id for line in lines)
    assert [line for line in lines if "dropped" in line] == []
