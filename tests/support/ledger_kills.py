"""Schedules of spending jobs on a real database whose processes are killed at a random write: `python ledger_kills.py FOLDER N`.

For each of N databases some pairs of processes run the same schedule at the same time, each until it kills itself: within a
transaction, before its commit, or right after it. Then the database is opened again and judged. What was opened is noted in a
file, by whoever opened it. Prints how many processes died, how much was opened, and where more was opened than permitted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import event

from parties.storage.database import Database, Tables, open_database
from parties.storage.jobs import JobRecord
from parties.storage.ledger import LedgerStore
from tests.support.ledgers import ACCOUNTS, Job, Schedule, a_schedule

ROUNDS = 3
STEPS = 60
MOST_WRITES = 250


class Stages(MutableMapping[str, str]):
    """The stages of jobs in a transaction, kept as the snapshots of their sessions are."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __getitem__(self, job_id: str) -> str:
        return self._tables.jobs.get(job_id).snapshot

    def __setitem__(self, job_id: str, stage: str) -> None:
        self._tables.jobs.save_snapshot(job_id, snapshot=stage, state="", now=datetime.now(UTC))

    def __delitem__(self, job_id: str) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class SqlStore:
    """The party's database as a store of a schedule; `point` is called wherever the process may die."""

    def __init__(self, database: Database, point: Callable[[], None]) -> None:
        self._database = database
        self._point = point
        event.listen(database._engine, "before_cursor_execute", lambda *_: point())
        event.listen(database._engine, "commit", lambda _: point())

    @contextmanager
    def transaction(self) -> Iterator[tuple[LedgerStore, MutableMapping[str, str]]]:
        with self._database.transaction() as tables:
            yield tables.ledger, Stages(tables)
        self._point()


class NotedSchedule(Schedule):
    """Notes what it opens in a file, so that it survives the process."""

    note: Path

    def _open(self, job: Job) -> None:
        with self.note.open("a") as file:
            file.write(f"{job.job_id}\n")


def run_until_killed(folder: Path, seed: int, who: int) -> None:
    """Runs one process of a schedule; mostly it does not return."""
    rng = random.Random(f"{seed} {who}")
    left = rng.randint(1, MOST_WRITES)

    def point() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    database = open_database(folder / "confide.db")
    planned = a_schedule(seed, lambda _: SqlStore(database, point))
    schedule = NotedSchedule(rng, planned.store, planned.caps, planned.jobs)
    schedule.note = folder / "opened"
    for job in schedule.jobs:
        job.believes = rng.choice(["new", "accepted", "done"])
    schedule.run(STEPS)


def judge(folder: Path, seed: int) -> tuple[int, list[str]]:
    """Returns how many jobs were opened, and where that was too much."""
    database = open_database(folder / "confide.db")
    schedule = a_schedule(seed, lambda _: SqlStore(database, lambda: None))
    note = folder / "opened"
    for job in schedule.jobs:
        if note.exists() and job.job_id in note.read_text().split():
            for account, amount in job.charges.items():
                schedule.opened[account] += amount
            schedule.paid.add(job.job_id)
    with database.transaction() as tables:
        entries = [entry for account in ACCOUNTS for entry in tables.ledger.of_account(account)]
    database.close()
    return len(schedule.paid), schedule.overspent(entries)


def main(folder: Path, count: int) -> dict[str, object]:
    killed = opened = 0
    wrong: list[str] = []
    for seed in range(count):
        place = folder / str(seed)
        place.mkdir()
        database = open_database(place / "confide.db")
        now = datetime.now(UTC)
        with database.transaction() as tables:
            for job in a_schedule(seed, lambda _: SqlStore(database, lambda: None)).jobs:  # noqa: B023  (called at once)
                tables.jobs.add(JobRecord(job.job_id, "alice", b"{}", bytes(64), None, "new", "", now, now))
        database.close()
        for turn in range(ROUNDS):
            children = [_fork(lambda who=2 * turn + pair: run_until_killed(place, seed, who)) for pair in range(2)]  # noqa: B023
            killed += sum(os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children)
        paid, overspent = judge(place, seed)
        opened += paid
        wrong += [f"seed {seed}: {account}" for account in overspent]
    return {"killed": killed, "opened": opened, "overspent": wrong}


def _fork(run: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
