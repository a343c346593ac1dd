"""What a worker process can reach while it computes: its sockets, its environment, its arguments, its memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from parties.client.client import PreparedJob
from parties.server.workers import Template, derive_plan
from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.training import Optimiser, OptimiserKind
from tests.support.jobs import TRAINING, a_training
from tests.support.processes import children, session_workers
from tests.support.trial import HOSPITALS, LONG_TRAINING, SECOND, Trial

pytestmark = pytest.mark.multiparty

INTERNET = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6")


# Before the job that computes while the others look: it would slow this one down.


def test_plan_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    # Half a gigabyte of weights, which Adam joins several times over, in a job of two kilobytes.
    widths = [3, 8_000, 8_000, 1]
    layers = {f"layer_{i}": Linear(width) for i, width in enumerate(widths[1:])}
    adam = replace(TRAINING, optimiser=Optimiser(OptimiserKind.ADAM, "0.01", beta1="0.9", beta2="0.999", epsilon="0.0001"))
    template = Template(tmp_path / "log")
    try:
        with pytest.raises(ConfideError, match="more than 2048 MiB") as caught:
            derive_plan(a_training(model=ModelSpec.chain(widths[0], **layers), training=adam), template=template)
    finally:
        template.stop()
    assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.fixture(scope="module")
def running(trial: Trial) -> Iterator[PreparedJob]:
    """A job that computes while the tests look."""
    prepared = trial.train(LONG_TRAINING, model_name="looked-at")
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    yield prepared
    trial.client.cancel(prepared.job)
    trial.endings(prepared.job)


@pytest.fixture(params=HOSPITALS)
def worker(request: pytest.FixtureRequest, trial: Trial, running: PreparedJob) -> int:
    """The process id of one party's worker."""
    (pid,) = session_workers(trial.network.party(request.param).pid)
    return pid


def socket_inodes(pid: int) -> set[str]:
    """The sockets that a process holds; only root may look, since a worker is not dumpable."""
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except PermissionError:
        pytest.skip("only root may look into a worker")
    return {found.group(1) for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}


def internet_inodes(pid: int) -> set[str]:
    """All network sockets that the process's network namespace knows."""
    found = set()
    for table in INTERNET:
        path = Path(f"/proc/{pid}/net/{table}")
        if path.exists():
            found |= {line.split()[9] for line in path.read_text().splitlines()[1:]}
    return found


def test_party_process_holds_network_sockets_so_that_the_next_test_can_fail(trial: Trial, running: PreparedJob) -> None:
    pid = trial.network.party(HOSPITALS[0]).pid
    assert socket_inodes(pid) & internet_inodes(pid)


def test_running_worker_holds_local_sockets_alone(worker: int) -> None:
    held = socket_inodes(worker)
    assert held
    assert not held & internet_inodes(worker)


def test_running_worker_s_environment_holds_the_fixed_variables_alone(worker: int) -> None:
    try:
        environment = Path(f"/proc/{worker}/environ").read_bytes()
    except PermissionError:
        pytest.skip("only root may look into a worker")
    names = {entry.split(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert names == {
        "PATH",
        "LANG",
        "PYTHONDONTWRITEBYTECODE",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "ARROW_NUM_THREADS",
        "ARROW_DEFAULT_MEMORY_POOL",
        "MALLOC_MMAP_MAX_",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_TOP_PAD_",
    }


def test_running_worker_s_arguments_say_nothing_about_its_session(worker: int) -> None:
    arguments = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    assert arguments[1:] == [b"-I", b"-m", b"parties.worker", b""]


def test_running_worker_is_confined_and_not_traceable(worker: int) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"], status["TracerPid"]) == ("2", "1", "0")
    assert re.search(r"(?m)^Max core file size +0 +0 ", Path(f"/proc/{worker}/limits").read_text())


def test_template_and_worker_memory_holds_no_key_of_the_party(trial: Trial, running: PreparedJob) -> None:
    process = trial.network.party(SECOND)
    keys = process.config.folder.root / "keys"
    secrets = [b"".join((keys / name).read_bytes().splitlines()[1:-1]) for name in ("tls.pem", "signing.pem")]
    storage_key = (keys / "storage.key").read_bytes()
    # The party process holds its storage key, so the search can find one.
    assert any(storage_key in part for part in memory(process.pid))
    for template in children(process.pid):
        for pid in (template, *children(template)):
            assert not any(secret in part for part in memory(pid) for secret in (*secrets, storage_key))


def memory(pid: int) -> Iterator[bytes]:
    """What a process holds in its private writable memory, area by area."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as source:
            for line in maps:
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p ", line)
                if found is not None and line.rsplit(" ", 1)[1] not in ("[vvar]", "[vsyscall]"):
                    start, stop = int(found.group(1), 16), int(found.group(2), 16)
                    source.seek(start)
                    yield source.read(stop - start)
    except PermissionError:
        pytest.skip("only root may look into a worker")
