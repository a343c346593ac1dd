"""A disk that fills up, and a few points of the fault matrix in every run; `make chaos` and `make chaos-campaign` run many.

All run on one network, one after the other, so each also begins in what the one before left behind.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from parties.client.health import is_healthy
from parties.config import load_party_config
from protocols.job import Job
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.chaos.cells import Cell
from tests.chaos.network import COMPUTING, HOSPITALS, LONG, SHORT, Network, until
from tests.chaos.point import run_point

pytestmark = pytest.mark.multiparty

POINTS = (
    "stop/computing/running",
    "altered frame/computing/running",
    "grant revoked/data owner/running",
)


WITHIN_S = 30.0


@pytest.fixture(scope="module")
def small_disks(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether this process may mount a small file system, as an administrator may in most places."""
    folder = tmp_path_factory.mktemp("mounted")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        return False
    subprocess.run(["umount", "--lazy", str(folder)], check=False)
    return True


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, small_disks: bool) -> Iterator[Network]:
    running = Network(tmp_path_factory.mktemp("chaos") / "network", small_disks=small_disks)
    yield running
    running.down()


def test_party_with_a_full_disk_ends_the_job_as_one_that_is_gone_and_recovers_without_a_restart(
    network: Network, small_disks: bool
) -> None:
    if not small_disks:
        pytest.skip("only an administrator can mount a small disk")
    # The first job of its database: what needs no new space goes on, and a log that has been written once has space.
    full, others = COMPUTING[1], [party for party in HOSPITALS if party != COMPUTING[1]]
    network.watch_as(COMPUTING[0])
    network.new_log(full)
    pid = network.pid(full)
    job = network.train(LONG, model_name="full")
    network.hers.submit(job)
    assert until(lambda: all(_state(network, job.job, party) is State.RUNNING for party in COMPUTING), within_s=WITHIN_S)
    filler = _fill(network.state(full))
    network.hers.cancel(job.job)  # a step that everybody has to store
    assert until(lambda: all(_ending(network, job.job, party) is not None for party in others), within_s=WITHIN_S)
    ended = {str(_ending(network, job.job, party)) for party in others}
    assert len(ended) == 1
    ending = _ending(network, job.job, others[0])
    assert ending is not None
    assert ending.state is State.CANCELLED
    config = load_party_config(network.config_file(full))
    assert until(lambda: not is_healthy(config, timeout_s=5), within_s=WITHIN_S)
    assert _ending(network, job.job, full) is None
    filler.unlink()
    assert until(lambda: is_healthy(config, timeout_s=5), within_s=WITHIN_S)
    assert until(lambda: _ending(network, job.job, full) == ending, within_s=WITHIN_S)
    following = network.train(SHORT, model_name="next")
    network.hers.submit(following)
    assert until(lambda: _state(network, following.job, full) is State.COMPLETED, within_s=WITHIN_S)
    assert network.pid(full) == pid
    assert '"defect"' not in network.new_log(full)


@pytest.mark.parametrize("name", POINTS)
def test_job_under_a_fault_ends_as_promised_and_the_next_one_completes(network: Network, name: str) -> None:
    result = run_point(network, Cell.of_name(name), seed=1)
    assert result.violations == ()


def _fill(folder: Path) -> Path:
    """Fills a disk to the last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def _state(network: Network, job: Job, party: str) -> State | None:
    seen = network.seen(job, party)
    return None if seen is None else State(seen[0])


def _ending(network: Network, job: Job, party: str) -> Ending | None:
    seen = network.seen(job, party)
    return None if seen is None else seen[1]
