"""What a party tells Prometheus: these names and labels and no others, and figures that grow only by what was done."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from governance.audit.entries import EntryKind
from parties.server.audit_metrics import AuditCollector
from parties.server.board import Board, Measured, Status
from parties.server.encrypted.figures import Figures
from parties.server.encrypted.metrics import EnquiryCollector, EnquiryMetrics
from parties.server.metrics import Metrics, PartyCollector
from parties.storage.audit_log import CosignatureRecord
from protocols.session.states import State
from tests.support.databases import a_database
from tests.support.jobs import a_training
from tests.support.members import a_world
from tests.support.scripts import ROOT

WORLD = a_world()
JOB = a_training()
NOW = JOB.created + timedelta(seconds=-1)
LABELS = {"peer", "kind", "method", "code", "state", "le"}


class World:
    """A party with a board, and what its listener would answer."""

    def __init__(self, folder: Path) -> None:
        self.board, self.metrics = Board(), Metrics()
        member = SimpleNamespace(certificate=WORLD.certificate_of("hospital-a"))
        party = SimpleNamespace(
            id="hospital-a",
            member=member,
            directory=WORLD.directory,
            config=SimpleNamespace(state=folder),
            database=a_database(folder / "confide.db"),
            now=lambda: NOW,
        )
        load = SimpleNamespace(num_running=1, num_waiting=2, stores=True)
        self.metrics.registry.register(PartyCollector(cast(Any, party), self.board, load, lambda: NOW))
        self.metrics.registry.register(AuditCollector(cast(Any, party), cast(Any, SimpleNamespace(halted=None))))
        self.enquiries = EnquiryMetrics(self.metrics.registry)
        self.metrics.registry.register(EnquiryCollector(lambda: Figures(waiting=3, busy=2, upload_bytes=4096)))
        self.database = party.database

    def scraped(self) -> str:
        return generate_latest(self.metrics.registry).decode()

    def value(self, sample: str) -> float:
        (found,) = re.findall(rf"(?m)^{re.escape(sample)} (\S+)$", self.scraped())
        return float(found)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_jobs_are_counted_by_state_and_every_state_is_shown(world: World) -> None:
    world.board.post(Status(JOB, State.RUNNING))
    assert world.value('confide_jobs{state="running"}') == 1
    assert len(re.findall(r"(?m)^confide_jobs\{", world.scraped())) == len(State)


def test_rounds_grow_by_what_was_measured_since(world: World) -> None:
    world.board.post(Status(JOB, State.RUNNING))
    for rounds in (5, 12, 12):
        world.board.update(JOB.job_id, measured=Measured(rounds=rounds))
        assert world.value("confide_mpc_rounds_total") == rounds


def test_rounds_of_a_short_job_that_ended_between_two_scrapes_are_counted(world: World) -> None:
    world.board.post(Status(JOB, State.COMPLETED, measured=Measured(rounds=7)))
    assert world.value("confide_mpc_rounds_total") == 7


def test_rounds_that_another_process_counted_before_are_not_counted_again(world: World) -> None:
    earlier = replace(JOB, created=NOW - timedelta(hours=1))
    world.board.post(Status(earlier, State.COMPLETED, measured=Measured(rounds=7)))
    assert world.value("confide_mpc_rounds_total") == 0


def test_releases_that_end_on_the_schedule_are_counted(world: World) -> None:
    assert world.value("confide_releases_ended_total") == 0
    world.metrics.release_ended()
    assert world.value("confide_releases_ended_total") == 1


def test_figures_of_the_party_are_read_anew(world: World) -> None:
    assert world.value("confide_sessions_running") == 1
    assert world.value("confide_queue_depth") == 2
    assert world.value("confide_storage_writable") == 1
    assert world.value("confide_directory_version") == 3
    assert world.value("confide_disk_free_bytes") > 0
    until = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=90)
    assert world.value("confide_cert_expiry_seconds") == pytest.approx((until - NOW).total_seconds(), abs=1)


def test_calls_and_bytes_are_counted_by_method_and_peer(world: World) -> None:
    world.metrics.call_ended("/confide.v1.PartyService/Hello", "OK", 0.003)
    world.metrics.carried("hospital-b", "sent", 100)
    world.metrics.carried("hospital-b", "sent", 23)
    labels = 'code="OK",method="/confide.v1.PartyService/Hello"'
    assert world.value(f"rpc_server_call_duration_seconds_count{{{labels}}}") == 1
    assert world.value('confide_peer_bytes_total{kind="sent",peer="hospital-b"}') == 123


def test_peer_that_left_the_directory_is_dropped_and_one_that_is_down_shows_it(world: World) -> None:
    world.metrics.peer_answered("hospital-b", 0.5)
    world.metrics.peer_answered("hospital-c", 0.25)
    world.metrics.peer_answered("hospital-b", None)
    assert world.value('confide_peer_up{peer="hospital-b"}') == 0
    world.metrics.forget_peers(["hospital-b"])
    assert "hospital-c" not in world.scraped()
    assert world.value('confide_peer_rtt_seconds{peer="hospital-b"}') == 0.5


def test_job_that_waits_for_people_shows_for_how_long(world: World) -> None:
    assert world.value("confide_approval_pending_seconds") == 0
    earlier = replace(JOB, created=NOW - timedelta(seconds=90))
    world.board.post(Status(earlier, State.PROPOSED, waiting_for="1 more of 2 approvers"))
    assert world.value("confide_approval_pending_seconds") == 90


def test_audit_log_shows_how_far_its_witnesses_are_behind(world: World) -> None:
    with world.database.transaction() as tables:
        tables.audit.append_many([(EntryKind.ALIAS, {"number": n}) for n in range(3)], now=NOW)
        tables.audit.add_checkpoint(size=2, root=tables.audit.root(2), note=b"note", now=NOW - timedelta(seconds=7))
        tables.audit.add_cosignature(2, CosignatureRecord("hospital-b", "line", NOW))
    assert world.value("confide_audit_entries") == 3
    assert world.value('confide_audit_witness_lag{peer="hospital-b"}') == 1
    assert world.value("confide_audit_checkpoint_age_seconds") == 7
    assert world.value("confide_audit_forks") == 0
    assert world.value("confide_state_rolled_back") == 0


def test_evaluators_show_what_they_are_occupied_with_and_how_requests_end(world: World) -> None:
    for code in ("OK", "OK", "PARTY_BUSY"):
        world.enquiries.ended(code)
    world.enquiries.evaluated(0.25)
    assert world.value('confide_encrypted_requests_total{code="OK"}') == 2
    assert world.value('confide_encrypted_requests_total{code="PARTY_BUSY"}') == 1
    assert world.value("confide_evaluation_seconds_sum") == 0.25
    assert world.value("confide_evaluators_busy") == 2
    assert world.value("confide_evaluation_queue_depth") == 3
    assert world.value("confide_encrypted_upload_bytes") == 4096


def test_no_metric_names_a_job_a_person_a_data_set_or_a_model(world: World) -> None:
    world.board.post(Status(JOB, State.RUNNING, measured=Measured(phase="training", rounds=3)))
    world.metrics.call_ended("/confide.v1.JobsService/SubmitJob", "NOT_ENOUGH_ROWS", 0.1)
    text = world.scraped()
    assert set(re.findall(r'[{,](\w+)="', text)) <= LABELS
    for word in (JOB.job_id, JOB.querier, *(dataset.name for dataset in JOB.datasets), str(JOB.model_name)):
        assert f'"{word}"' not in text


def test_operators_page_lists_exactly_the_metrics_that_there_are(world: World) -> None:
    told = set(re.findall(r"(?m)^# TYPE (\S+)", world.scraped()))
    told = {name for name in told if not name.endswith("_created")}
    page = (ROOT / "docs" / "operators.md").read_text()
    listed = {name.split("{")[0] for name in re.findall(r"(?m)^\| `((?:confide|rpc)_[^`]+)` \|", page)}
    assert listed == told
