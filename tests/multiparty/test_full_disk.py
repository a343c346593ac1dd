"""A party whose disk fills up while a job runs: the others end the job, and it comes back by itself when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from parties.client.health import is_healthy
from protocols.session.states import State
from tests.support.trial import HOSPITALS, LONG_TRAINING, SECOND, SHORT_TRAINING, Split, Trial, found_consortium

pytestmark = pytest.mark.multiparty


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Puts a folder on a file system of its own; skips the test where that is not permitted."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only an administrator can mount a small disk")
    try:
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, split: Split) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("full")
    found_consortium(folder)
    with small_disk(folder / SECOND / "state", "16m"):
        running = Trial(folder)
        try:
            for party in HOSPITALS:
                running.register(party, "train", split.train[party].head(50))
            yield running
        finally:
            running.down()


def fill(folder: Path) -> Path:
    """Fills a disk to the last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def await_health(trial: Trial, *, serving: bool) -> None:
    deadline = time.monotonic() + 30
    while is_healthy(trial.network.party(SECOND).config, timeout_s=5) is not serving:
        assert time.monotonic() < deadline, f"health is not {serving}"
        time.sleep(0.2)


def test_party_with_a_full_disk_ends_the_job_as_one_that_is_gone_and_recovers_without_a_restart(trial: Trial) -> None:
    pid = trial.network.party(SECOND).pid
    prepared = trial.train(LONG_TRAINING, model_name="full")
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    filler = fill(trial.network.party(SECOND).config.state)
    trial.client.cancel(prepared.job)  # a step that everybody has to store
    others = [party for party in HOSPITALS if party != SECOND]
    ended = trial.endings(prepared.job, parties=others)
    assert {ending.state for ending in ended.values()} == {State.CANCELLED}
    await_health(trial, serving=False)
    assert trial.client.progress(prepared.job.job_id, SECOND).ending is None
    filler.unlink()
    await_health(trial, serving=True)
    assert trial.endings(prepared.job)[SECOND] == ended[others[0]]
    trial.complete(trial.train(SHORT_TRAINING, model_name="next"))
    assert trial.network.party(SECOND).pid == pid
    assert '"defect"' not in trial.party_log(SECOND)
