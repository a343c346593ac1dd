"""How much of a machine sessions take, and the jobs that can never fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parties.config import PartyConfig
from parties.server.capacity import capacity, demand_room, need_of
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
