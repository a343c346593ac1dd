"""One consortium of real processes for all tests that leave it as it is; tests that break things start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parties.config import load_researcher_config
from parties.harness import RESEARCHER, free_ports
from tests.support.callers import Caller, calling
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
