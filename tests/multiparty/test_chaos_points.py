"""A few points of the fault matrix in every run; `make chaos` and `make chaos-campaign` run many.

All points run on one network, one after the other, so each also begins in what the one before left behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.cells import Cell
from tests.chaos.network import Network
from tests.chaos.point import run_point

pytestmark = pytest.mark.multiparty

POINTS = (
    "stop/computing/running",
    "altered frame/computing/running",
    "grant revoked/data owner/running",
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    running = Network(tmp_path_factory.mktemp("chaos") / "network")
    yield running
    running.down()


@pytest.mark.parametrize("name", POINTS)
def test_job_under_a_fault_ends_as_promised_and_the_next_one_completes(network: Network, name: str) -> None:
    result = run_point(network, Cell.of_name(name), seed=1)
    assert result.violations == ()
