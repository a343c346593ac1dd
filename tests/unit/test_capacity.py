"""How much of a machine sessions take, and the jobs that can never fit."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from parties.config import PartyConfig
from parties.server import capacity as capacities
from parties.server.capacity import capacity, demand_room, need_of, room_for_connections
from parties.server.slots import Need
from protocols.errors import ConfideError, ErrorCode
from tests.support.jobs import a_dataset, a_training

MIB = 1 << 20


def a_config(**changes: Any) -> PartyConfig:
    return PartyConfig(api_version="confide.party/1", party="hospital-a", listen="localhost:1", state=Path("state"), **changes)


def test_capacity_configured_is_what_the_configuration_says() -> None:
    assert capacity(a_config(cores=3, memory_mib=2048)) == Need(3, 2048 * MIB)


def test_capacity_not_configured_is_part_of_the_machine() -> None:
    found = capacity(a_config())
    assert found.cores >= 1
    assert found.memory_bytes > 128 * MIB


@pytest.mark.parametrize(("party", "cores"), [("hospital-a", 1), ("hospital-b", 1), ("hospital-c", 1), ("hospital-d", 0)])
def test_need_computing_and_dealing_take_a_core_and_bringing_rows_none(party: str, cores: int) -> None:
    job = a_training(datasets=(a_dataset("hospital-d"),))
    assert need_of(job, party=party, memory_bytes=300 * MIB) == Need(cores, 300 * MIB)


def test_demand_room_job_that_can_never_fit_is_refused_with_numbers() -> None:
    room = Need(1, 512 * MIB)
    demand_room(Need(1, 512 * MIB), room, party="hospital-a")
    with pytest.raises(ConfideError) as caught:
        demand_room(Need(1, 513 * MIB), room, party="hospital-a")
    assert (caught.value.code, caught.value.party) == (ErrorCode.TOO_LARGE, "hospital-a")
    assert "513 MiB" in caught.value.what
    assert "512 MiB" in caught.value.what


@pytest.mark.parametrize(
    ("soft", "hard", "threads", "expected", "raised"),
    [
        (1024, 524_288, "max", 1024, [(65_536, 524_288)]),
        (1024, 4096, "max", 512, [(4096, 4096)]),
        (1024, 1024, "max", 128, []),
        (1_048_576, 1_048_576, "max", 1024, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "256", 128, []),
        (1024, resource.RLIM_INFINITY, None, 1024, [(65_536, resource.RLIM_INFINITY)]),
    ],
)
def test_connections_leave_half_of_descriptors_and_threads_to_everything_else(
    soft: int,
    hard: int,
    threads: str | None,
    expected: int,
    raised: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.append(limits))
    file = tmp_path / "pids.max"
    monkeypatch.setattr(capacities, "_CGROUP_THREADS", file)
    if threads is not None:
        file.write_text(f"{threads}\n")
    assert room_for_connections(1024) == expected
    assert found == raised
