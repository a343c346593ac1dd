"""Two consortia of real processes: `trial` for all tests that leave it as it is, `breakable` for those that kill parties.

Starting one takes seconds of two cores, so modules share them. With several test processes (`--dist
loadfile --no-loadscope-reorder`) each module goes to one of them whole, and all modules on the breakable one to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from parties.config import load_researcher_config
from parties.harness import RESEARCHER, free_ports
from tests.support.callers import Caller, calling
from tests.support.processes import descendants, is_running
from tests.support.trial import (
    DEALER,
    DEMO_TRAINING,
    HOSPITALS,
    OTHER_RESEARCHER,
    Completed,
    Split,
    Trial,
    found_consortium,
    split_rows,
)

# Modules whose tests kill parties, cut them off or fill their slots, and repair what they did.
ON_BREAKABLE = frozenset(
    {
        "test_alignment_faults",
        "test_concurrent_jobs",
        "test_consent_proof",
        "test_encrypted_faults",
        "test_faults",
        "test_missing_noise",
        "test_noisy_sums",
        "test_proxies",
        "test_resume",
        "test_revocation",
        "test_serving_faults",
    }
)
# What takes longest, in this order; it begins first, so that no process ends long after another.
LONGEST_FIRST = (
    "breakable",
    "test_consent_matrix",
    "test_chaos_points",
    "test_refused_jobs",
    "test_canaries",
    "test_client_library",
)


def _group_of(module: str) -> str:
    return "breakable" if module in ON_BREAKABLE else module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts modules in the order in which they are to begin."""
    ranks = {group: rank for rank, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(_group_of(item.path.stem), len(ranks)))


class ByConsortium(LoadFileScheduling):
    """Gives every module to one process whole, and all modules on the breakable consortium to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(Path(nodeid.split("::", 1)[0]).stem)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByConsortium | None:
    """Distributes by consortium where files are asked for."""
    return ByConsortium(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def split() -> Split:
    return split_rows()


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory, split: Split) -> Iterator[Trial]:
    """Three hospitals with their rows registered; taken down whatever happens."""
    folder: Path = tmp_path_factory.mktemp("trial")
    found_consortium(folder)
    with (folder / DEALER / "party.yaml").open("a") as config:
        config.write(f"metrics: 127.0.0.1:{free_ports(1)[0]}\n")
    running = Trial(folder)
    try:
        for party in HOSPITALS:
            running.register(party, "train", split.train[party])
            running.register(party, "holdout", split.holdout[party])
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def everlasting(tmp_path_factory: pytest.TempPathFactory, split: Split) -> Iterator[Trial]:
    """What `breakable` is before every module: its parties have room for two sessions at once, whatever the machine."""
    folder: Path = tmp_path_factory.mktemp("breakable")
    found_consortium(folder)
    for party in HOSPITALS:
        with (folder / party / "party.yaml").open("a") as config:
            config.write("cores: 2\nmemory_mib: 4096\n")
    running = Trial(folder)
    try:
        for party in HOSPITALS:
            running.register(party, "train", split.train[party].head(50))
        yield running
    finally:
        workers = [pid for running_party in running.network.parties for pid in descendants(running_party.pid)]
        running.down()
    assert not any(is_running(pid) for pid in workers), "processes outlive their party"
    assert [party for party in HOSPITALS if '"defect"' in running.party_log(party)] == []


@pytest.fixture(scope="module")
def breakable(everlasting: Trial) -> Trial:
    """A consortium that a module may break and leaves working; every party owns fifty rows, `train`."""
    everlasting.bring_up()
    return everlasting


@pytest.fixture(scope="session")
def trained(trial: Trial) -> Completed:
    """A model that was trained jointly with the demo's settings."""
    return trial.plan_and_complete(trial.train(DEMO_TRAINING))


@pytest.fixture(scope="module")
def researcher(trial: Trial) -> Iterator[Caller]:
    """Calls of the researcher whose jobs the tests submit, past the client that would check them first."""
    with calling(load_researcher_config(trial.folder / RESEARCHER / "researcher.yaml")) as caller:
        yield caller


@pytest.fixture(scope="module")
def other(trial: Trial) -> Iterator[Caller]:
    """Calls of another researcher of the consortium."""
    with calling(load_researcher_config(trial.folder / OTHER_RESEARCHER / "researcher.yaml")) as caller:
        yield caller
