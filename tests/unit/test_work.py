"""What a party keeps of what its worker hands over while it runs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from parties.server.desk import Desks
from parties.server.disk import DiskWatch
from parties.server.execution import Execution, Task
from parties.server.work import Work
from parties.storage.sealed import Purpose
from parties.transport.streams import LinkTable
from parties.worker.channel import Parcel
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session import events as ev
from protocols.session.states import State
from tests.support.session_loop import LoopWorld, a_loop

HEAD = "5a" * 32


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LoopWorld]:
    with a_loop(tmp_path) as world:
        yield world


class Watched:
    """A worker's side of one session, without the worker."""

    def __init__(self, world: LoopWorld) -> None:
        self.world = world
        self.job: Job = world.a_job()
        world.propose(self.job)
        self.told: list[ev.Event] = []
        self.health: list[bool] = []
        self.work = Work(
            world.party,
            Task(self.job, b"", None, None),
            disk=DiskWatch(world.party, self.health.append),
            template=cast(Any, None),
            links=cast(Any, None),
            peers=cast(Any, None),
            tell=self.told.append,
            measure=lambda _: None,
            state=lambda: State.RUNNING,
            desks=Desks(world.party),
        )

    def hand_over(self, run: object = 3, head: object = HEAD) -> None:
        self.work._heard(Parcel({"event": "checkpoint", "run": run, "head": head}, {"state": b"shares"}))

    @property
    def held(self) -> list[tuple[int, str]]:
        with self.world.database.transaction() as tables:
            return [(kept.run, kept.head) for kept in tables.checkpoints.of_job(self.job.job_id)]


def test_checkpoint_is_sealed_under_its_job_run_and_head(world: LoopWorld) -> None:
    watched = Watched(world)
    watched.hand_over()
    assert watched.held == [(3, HEAD)]
    with world.database.transaction() as tables:
        (kept,) = tables.checkpoints.of_job(watched.job.job_id)
    assert world.party.sealed.read(Purpose.CHECKPOINT, f"{watched.job.job_id}/3/{HEAD}", kept.sealed_name) == b"shares"
    assert watched.told == []


def test_checkpoint_of_a_stopped_worker_is_not_kept(world: LoopWorld) -> None:
    watched = Watched(world)
    watched.work.stop()
    watched.hand_over()
    assert watched.held == []
    assert list((world.party.config.state / "sealed").iterdir()) == []


def test_checkpoint_that_finds_the_disk_full_is_lost_and_the_training_goes_on(world: LoopWorld) -> None:
    watched = Watched(world)
    world.disk.full = True
    watched.hand_over()
    world.disk.full = False
    assert (watched.held, watched.told, watched.health) == ([], [], [False])
    assert list((world.party.config.state / "sealed").iterdir()) == [], "a sealed file that no table names"
    watched.hand_over(run=6)
    assert watched.held == [(6, HEAD)]


@pytest.mark.parametrize(("run", "head"), [("3", HEAD), (None, HEAD), (True, HEAD), (3, "5A" * 32), (3, "../x"), (3, None)])
def test_checkpoint_of_a_wrong_form_ends_the_session(world: LoopWorld, run: object, head: object) -> None:
    """`watch` ends the session of a worker whose words cannot be understood."""
    watched = Watched(world)
    with pytest.raises(ConfideError) as caught:
        watched.hand_over(run, head)
    assert caught.value.code is ErrorCode.INTERNAL
    assert watched.held == []


def test_execution_without_descriptors_leaves_neither_worker_nor_links(world: LoopWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forked:
        is_stopped = False

        def fork(self) -> Forked:
            return self

        def stop(self) -> None:
            self.is_stopped = True

    made = iter([socket.socketpair()])

    def scarce() -> tuple[socket.socket, socket.socket]:
        for pair in made:
            return pair
        raise OSError(errno.EMFILE, "too many open files")

    links, worker, job = LinkTable(), Forked(), world.a_job()
    monkeypatch.setattr("parties.server.execution.socket.socketpair", scarce)
    with pytest.raises(OSError, match="too many open files"):
        Execution(world.party, Task(job, b"", None, None), template=cast(Any, worker), links=links, peers=cast(Any, None))
    assert worker.is_stopped
    assert links._waiting == {}


def test_worker_that_was_stopped_on_purpose_is_not_reported_as_lost(world: LoopWorld) -> None:
    watched = Watched(world)
    watched.work.stop()
    watched.work._failed(ConfideError(ErrorCode.WORKER_LOST, "the worker process ended early"))
    assert watched.told == []
