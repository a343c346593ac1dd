"""Consent that everybody can prove, and state that nobody can take back: real processes, real logs, real witnesses."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from governance.audit.entries import EntryKind, read_entry
from governance.audit.manifest import verify_manifest
from parties.config import load_party_config
from protocols.canonical import parse_canonical
from protocols.job import Job
from protocols.session.messages import Countersignature, SessionMessage
from tests.support.trial import HOSPITALS, SECOND, SHORT_TRAINING, Trial

pytestmark = pytest.mark.multiparty

COSIGNED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def trial(breakable: Trial) -> Trial:
    return breakable


@pytest.fixture(scope="module")
def completed(trial: Trial) -> Job:
    return trial.complete(trial.train(SHORT_TRAINING, model_name="proven")).job


def entries(trial: Trial, party: str) -> list[EntryKind]:
    with trial.tables(party) as tables:
        return [read_entry(entry.body).kind for entry in tables.audit.entries(0, tables.audit.size())]


def test_completed_job_leaves_everybody_s_proven_consent_at_every_party(trial: Trial, completed: Job) -> None:
    now = datetime.now(UTC)
    for party in HOSPITALS:
        config = trial.network.party(party).config
        with trial.tables(party) as tables:
            records = tables.jobs.countersignatures(completed.job_id)
        assert [record.party for record in records] == sorted(HOSPITALS)
        for record in records:
            said = SessionMessage.from_document(parse_canonical(record.document)).body
            assert isinstance(said, Countersignature)
            manifest = verify_manifest(
                said.manifest,
                party=record.party,
                job=completed,
                plan_digest=said.plan_digest,
                directory=config.folder.member.load_directory(),
                witnesses=[other for other in HOSPITALS if other != record.party],
                now=now,
            )
            assert len(manifest.grants) == 1


def test_completed_job_stands_in_every_log_from_its_arrival_to_its_end(trial: Trial, completed: Job) -> None:
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            found = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
        told = [entry.kind for entry in found if entry.facts.get("job") == completed.job_id]
        wanted = [EntryKind.JOB_RECEIVED, EntryKind.COUNTERSIGNED, EntryKind.SESSION_ENDED]
        assert [kind for kind in told if kind in wanted] == wanted


def test_log_that_grew_without_a_job_is_cosigned_by_all_within_a_minute(trial: Trial, completed: Job) -> None:
    """The session's end is an entry that no later job covers."""
    deadline = time.monotonic() + COSIGNED_WITHIN_S
    for party in HOSPITALS:
        others = {other for other in HOSPITALS if other != party}
        while True:
            with trial.tables(party) as tables:
                latest, size = tables.audit.latest_checkpoint(), tables.audit.size()
            if latest is not None and latest.size == size and {each.witness for each in latest.cosignatures} == others:
                break
            assert time.monotonic() < deadline, f"the log of {party} is not cosigned"
            time.sleep(0.2)


def serve(state: Path) -> subprocess.CompletedProcess[str]:
    """Starts a party and waits for its end."""
    command = [sys.executable, "-I", "-m", "parties.cli", "party", "serve", "--config", str(state.parent / "party.yaml")]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def replace_state(state: Path, source: Path) -> None:
    shutil.rmtree(state)
    shutil.copytree(source, state)


def test_backup_that_is_older_than_what_others_have_seen_is_refused_at_start(trial: Trial, completed: Job) -> None:
    config = load_party_config(trial.folder / SECOND / "party.yaml")
    old, newest = trial.folder / "old", trial.folder / "newest"
    trial.kill(SECOND)
    shutil.copytree(config.state, old)
    trial.restart(SECOND)
    trial.complete(trial.train(SHORT_TRAINING, model_name="second"))
    trial.kill(SECOND)
    shutil.copytree(config.state, newest)

    replace_state(config.state, old)
    whole = serve(config.state)
    assert whole.returncode == 7, whole.stderr
    assert "STATE_ROLLED_BACK" in whole.stderr
    assert "hospital-a" in whole.stderr

    shutil.copy(newest / "log-head", config.state / "log-head")
    database_alone = serve(config.state)
    assert database_alone.returncode == 7, database_alone.stderr
    assert str(config.state / "log-head") in database_alone.stderr

    replace_state(config.state, newest)
    trial.restart(SECOND)
    assert EntryKind.STARTED in entries(trial, SECOND)[-5:]
