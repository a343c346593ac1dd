"""A model's owner with real evaluators, which a module's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parties.server.workers import Template
from tests.support.enquiry_world import WITHIN_S, Asker, EnquiryWorld, running_template


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No evaluation is ended because the machine has other things to do."""
    monkeypatch.setattr("parties.server.encrypted.pool._LEAST_LIMIT_S", WITHIN_S)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with running_template(tmp_path_factory.mktemp("template")) as template:
        yield template


@pytest.fixture
def world(tmp_path: Path, template: Template) -> Iterator[EnquiryWorld]:
    world = EnquiryWorld(tmp_path / "party", template)
    world.permit()
    yield world
    world.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[EnquiryWorld]:
    """A world for tests that look at one enquiry of their own alone."""
    world = EnquiryWorld(tmp_path_factory.mktemp("shared") / "party", template)
    world.permit()
    yield world
    world.close()


@pytest.fixture(scope="module")
def alice(shared: EnquiryWorld) -> Asker:
    return shared.asker()
