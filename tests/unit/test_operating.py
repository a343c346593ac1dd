"""Verdicts of the operator's checks: each threshold from both sides, and no check that hides another."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from parties.cli.main import app
from parties.cli.status import age_in_words
from parties.client.measure import SIZES, Measurement
from parties.operating import diagnose, doctor
from parties.operating.clocks import ClockReading
from parties.operating.diagnose import Thresholds
from parties.operating.finding import Finding, Verdict, checked, worst
from parties.operating.own import PeerAnswer, local_endpoint
from parties.storage.state import MemberFolder
from protocols.errors import ConfideError, ErrorCode, Problem
from tests.support.members import a_world

NOW = datetime(2026, 3, 2, tzinfo=UTC)
LIMITS = Thresholds()
MEMBER = cast(Any, SimpleNamespace(directory=SimpleNamespace(version=7)))
SOUND = Measurement(
    round_trip_s=LIMITS.max_round_trip_s,
    sent_bytes_per_s=LIMITS.min_bytes_per_s,
    received_bytes_per_s=LIMITS.min_bytes_per_s,
    largest_message_bytes=SIZES[0],
    idle_s=20.0,
    outlived_idle=True,
    clock_offset_s=-LIMITS.max_clock_offset_s,
    clock_error_s=0.0,
    certificate_until=NOW + timedelta(days=LIMITS.min_certificate_days),
    protocol_version=1,
    software_version="0.1.0",
    directory_version=7,
)


def wrong(found: Measurement) -> set[str]:
    findings = diagnose._figures("there", found, MEMBER, LIMITS, NOW)
    return {finding.check.removeprefix("there: ") for finding in findings if finding.verdict is not Verdict.PASS}


def test_connection_at_every_threshold_passes() -> None:
    assert wrong(SOUND) == set()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"round_trip_s": LIMITS.max_round_trip_s * 1.01}, "round trip"),
        ({"sent_bytes_per_s": LIMITS.min_bytes_per_s * 0.99}, "sending"),
        ({"received_bytes_per_s": LIMITS.min_bytes_per_s * 0.99}, "receiving"),
        ({"largest_message_bytes": SIZES[1]}, "largest message"),
        ({"outlived_idle": False}, "idle limit"),
        ({"clock_offset_s": -LIMITS.max_clock_offset_s - 0.1}, "clock"),
        ({"certificate_until": NOW + timedelta(days=LIMITS.min_certificate_days, seconds=-1)}, "certificate"),
        ({"protocol_version": 2}, "version"),
        ({"directory_version": 6}, "directory"),
    ],
)
def test_connection_just_beyond_a_threshold_fails_there_and_only_there(changes: dict[str, Any], expected: str) -> None:
    assert wrong(replace(SOUND, **changes)) == {expected}


def test_clock_within_its_error_of_the_threshold_passes() -> None:
    assert wrong(replace(SOUND, clock_offset_s=LIMITS.max_clock_offset_s + 1, clock_error_s=1.0)) == set()


@pytest.mark.outside_world  # a port of loopback
def test_port_that_nobody_serves_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = diagnose._reach(f"127.0.0.1:{port}")
    assert (found.verdict, "refused" in found.what) == (Verdict.FAIL, True)


@pytest.mark.outside_world  # a port of loopback
def test_what_answers_without_tls_fails_the_handshake(tmp_path: Path) -> None:
    world = a_world()
    folder = MemberFolder(tmp_path)
    folder.certificate_file.write_text(world.certificate_of("hospital-a"))
    folder.tls_key_file.parent.mkdir()
    folder.tls_key_file.write_bytes(world.hospital_a.tls.export_secret_pem())
    member = cast(Any, SimpleNamespace(directory=world.directory))
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = Thread(target=answer)
        thread.start()
        endpoint = f"127.0.0.1:{plain.getsockname()[1]}"
        found = diagnose._shake_hands(folder, member, "hospital-b", endpoint, LIMITS, NOW)
        thread.join()
    assert (found.check, found.verdict) == ("TLS", Verdict.FAIL)


@pytest.mark.parametrize(
    ("offset_s", "verdict"), [(29.0, Verdict.PASS), (-31.0, Verdict.WARN), (299.0, Verdict.WARN), (301.0, Verdict.FAIL)]
)
def test_clock_verdict_follows_what_admission_permits(offset_s: float, verdict: Verdict) -> None:
    assert doctor._clock(ClockReading("hospital-b", None, offset_s, 0.0)).verdict is verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (PeerAnswer("b", "b:1", None, 0.001, "0.1.0", 1, 7), Verdict.PASS),
        (PeerAnswer("b", "b:1", None, 0.001, "0.1.0", 1, 6), Verdict.WARN),
        (PeerAnswer("b", "b:1", None, 0.001, "0.2.0", 2, 7), Verdict.FAIL),
        (PeerAnswer("b", "b:1", ConfideError(ErrorCode.PARTY_UNREACHABLE)), Verdict.WARN),
    ],
)
def test_peer_verdict_follows_versions(answer: PeerAnswer, verdict: Verdict) -> None:
    assert doctor._peer(answer, MEMBER).verdict is verdict


@pytest.mark.parametrize(("free", "verdict"), [(300 << 30, Verdict.PASS), (1 << 30, Verdict.WARN), (200 << 20, Verdict.FAIL)])
def test_disk_verdict_follows_free_space(monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor._disk(cast(Any, SimpleNamespace(state=Path("/x")))).verdict is verdict


def _raising(error: Exception) -> Iterator[Finding]:
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfideError(ErrorCode.FILE_MODE, "x has mode 0644", problems=[Problem("a", "b", "c")]), "FILE_MODE: x has mode 0644"),
        (PermissionError(13, "Permission denied", "/x"), "Permission denied"),
        (ValueError("4711-canary"), "ValueError"),
    ],
)
def test_check_that_fails_in_any_way_becomes_a_finding_without_quoting_values(error: Exception, told: str) -> None:
    found = checked("files", lambda: next(_raising(error)))
    assert found.verdict is Verdict.FAIL
    assert told in found.what
    assert "canary" not in found.what + found.remedy


def test_worst_verdict_decides() -> None:
    def of(*verdicts: Verdict) -> Verdict:
        return worst(Finding("", verdict, "") for verdict in verdicts)

    assert of() is Verdict.PASS
    assert of(Verdict.PASS, Verdict.WARN) is Verdict.WARN
    assert of(Verdict.FAIL, Verdict.WARN, Verdict.PASS) is Verdict.FAIL


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("0.0.0.0:7443", "127.0.0.1:7443"), ("[::]:7443", "[::1]:7443"), ("10.0.0.5:7443", "10.0.0.5:7443")],
)
def test_wildcard_address_is_asked_on_loopback(listen: str, expected: str) -> None:
    assert local_endpoint(cast(Any, SimpleNamespace(listen=listen))) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-1.0, "0 s"), (59.9, "59 s"), (61.0, "1 min 1 s"), (7_260.0, "2 h 1 min"), (90_000.0, "1 d 1 h")]
)
def test_age_is_told_in_its_largest_two_units(seconds: float, expected: str) -> None:
    assert age_in_words(seconds) == expected


def test_doctor_with_a_wrong_configuration_says_so_and_exits_with_one(tmp_path: Path) -> None:
    file = tmp_path / "party.yaml"
    file.write_text("api_version: confide.party/1\nparty: Hospital A\nlisten: 127.0.0.1:1\nstate: state\nsecure: false\n")
    said = CliRunner().invoke(app, ["doctor", "--config", str(file), "--format", "json"])
    assert said.exit_code == 1
    (finding,) = json.loads(said.stdout)["data"]["findings"]
    assert (finding["check"], finding["verdict"]) == ("configuration", "FAIL")
    assert "party.yaml:2" in finding["what"]
    assert "party.yaml:5" in finding["what"]
