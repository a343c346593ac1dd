"""A private intersection between real processes, one of which is killed: nothing is left anywhere, and it can be begun again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parties.storage.database import one_transaction
from parties.storage.linking import IntersectionRecord, IntersectionState
from tests.support.tables import EXAMPLES, breast_cancer_frame
from tests.support.trial import DEALER, LEAD, Trial

pytestmark = pytest.mark.multiparty

DIALS, WAITS = LEAD, DEALER
SCHEMAS = {DIALS: EXAMPLES / "breast_cancer_columns_a_schema.yaml", WAITS: EXAMPLES / "breast_cancer_columns_b_schema.yaml"}
ROWS = 6_000  # a second of two cores for each step, so that there is time for a fault
_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def paths(breakable: Trial) -> dict[str, Path]:
    frame = breast_cancer_frame().sample(ROWS, replace=True, random_state=1).reset_index(drop=True)
    frame["benign"] = frame["benign"].astype(int)
    found = {}
    for party in (DIALS, WAITS):
        columns = [c for c in frame.columns if (c.startswith("mean_") or c == "benign") == (party == DIALS)]
        found[party] = breakable.folder / f"{party}-faults.csv"
        pd.DataFrame(frame[columns]).assign(patient_id=[f"p{n}" for n in range(ROWS)]).to_csv(found[party], index=False)
    return found


def begin(trial: Trial, paths: dict[str, Path], party: str, label: str) -> subprocess.Popen[str]:
    peer = WAITS if party == DIALS else DIALS
    command = [sys.executable, "-I", "-m", "parties.cli", "dataset", "align", "--with", peer, "--label", label, "--name", label]
    command += ["--population", label]  # the same people again, on purpose
    command += ["--config", str(trial.network.party(party).config_file), "--file", str(paths[party])]
    command += ["--schema", str(SCHEMAS[party]), "--wait", "60", "--format", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(command: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = command.communicate(timeout=_WITHIN_S)
    return dict(json.loads(out))


def record_of(trial: Trial, party: str, label: str) -> IntersectionRecord | None:
    with one_transaction(trial.network.party(party).config.folder.database_file) as tables:
        found = [r for r in tables.linking.in_states(*IntersectionState) if r.label == label]
    return found[-1] if found else None


def await_running(trial: Trial, label: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while (found := record_of(trial, WAITS, label)) is None or found.state is not IntersectionState.RUNNING:
        assert time.monotonic() < deadline, found
        assert found is None or not found.state.is_over, found
        time.sleep(0.01)


def sealed_intersections(trial: Trial, party: str) -> list[str]:
    with one_transaction(trial.network.party(party).config.folder.database_file) as tables:
        return list(tables.linking.sealed_names())


def registered(trial: Trial, party: str, label: str) -> bool:
    with one_transaction(trial.network.party(party).config.folder.database_file) as tables:
        return label in {record.name for record in tables.datasets.latest()}


def test_kill_of_the_party_that_waits_leaves_nothing_and_a_new_run_succeeds(breakable: Trial, paths: dict[str, Path]) -> None:
    commands = [begin(breakable, paths, party, "killed") for party in (WAITS, DIALS)]
    await_running(breakable, "killed")
    breakable.kill(WAITS)
    breakable.restart(WAITS)
    outcomes = [said(command) for command in commands]
    assert [outcome["status"] for outcome in outcomes] == ["error", "error"]
    assert outcomes[0]["error"]["code"] == "PARTY_RESTARTED"
    assert outcomes[1]["error"]["code"] in ("PARTY_UNREACHABLE", "UNKNOWN_SESSION")
    for party in (DIALS, WAITS):
        assert not registered(breakable, party, "killed")
        assert sealed_intersections(breakable, party) == []
    commands = [begin(breakable, paths, party, "killed") for party in (WAITS, DIALS)]
    again = [said(command) for command in commands]
    assert [outcome["status"] for outcome in again] == ["ok", "ok"]
    assert again[0]["data"]["alignment"] == again[1]["data"]["alignment"]
    assert again[0]["data"]["found"] == ROWS


def test_kill_of_the_command_that_dials_registers_nothing_at_either_side(breakable: Trial, paths: dict[str, Path]) -> None:
    waiting, dialling = (begin(breakable, paths, party, "left") for party in (WAITS, DIALS))
    await_running(breakable, "left")
    dialling.send_signal(signal.SIGKILL)
    dialling.communicate()
    # The party that waits gives a silent peer minutes; its end comes sooner.
    breakable.kill(WAITS)
    breakable.restart(WAITS)
    assert said(waiting)["error"]["code"] == "PARTY_RESTARTED"
    for party in (DIALS, WAITS):
        assert not registered(breakable, party, "left")
        assert sealed_intersections(breakable, party) == []
