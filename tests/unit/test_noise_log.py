"""What a party writes into its log of the test of a private training's noise, and what it does not take from its worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governance.audit.entries import EntryKind
from parties.server.noise_tests import note_noise_test
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noise_test import Finding, NoiseTest, OwnerFigures
from tests.support.consent import NOW, ConsentWorld
from tests.support.holders import HolderWorld
from tests.support.jobs import a_training
from tests.support.private_training import a_private_job, private_sgd, terms

OWNERS = ("hospital-a", "hospital-b", "hospital-c")
JOB = a_private_job(
    private_sgd(3, "1", privacy=terms(29, nominal_people=29, delta="0.001")),
    features=4,
    owners=dict(zip(OWNERS, (12, 9, 8), strict=True)),
    computing=OWNERS[:2],
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HolderWorld]:
    world = HolderWorld(tmp_path, NOW, consent=ConsentWorld(), parties=["hospital-a"])
    yield world
    world.close()


def a_result(finding: Finding = Finding.NOTHING, owners: tuple[str, ...] = OWNERS) -> dict[str, Any]:
    figures = [OwnerFigures(owner, 1_000_250, 400_000, 700_000, 30_000, Finding.NOTHING) for owner in owners]
    figures[-1] = OwnerFigures.of(owners[-1], figures[-1].numbers, finding)
    return NoiseTest(3, 1_129, 1 << 33, tuple(figures)).to_document()


def note(world: HolderWorld, document: object, *, job: Job = JOB, party: str = "hospital-a") -> None:
    with world.parties["hospital-a"].database.transaction() as tables:
        note_noise_test(tables, job, document, party=party, now=NOW)


def test_passed_test_is_logged_with_the_figures_of_every_owner(world: HolderWorld) -> None:
    note(world, a_result())
    (facts,) = world.entries("hospital-a", EntryKind.NOISE_TESTED)
    assert (facts["job"], facts["result"], facts["steps"], facts["spares"]) == (JOB.job_id, "passed", 3, 1_129)
    assert facts["deviation"] == 1 << 33
    assert list(facts["owners"]) == [f"{owner}: variance 1.000250, p 0.400000, 0.700000, 0.030000" for owner in OWNERS]


def test_owner_that_does_not_compute_logs_whose_word_it_has_and_no_figures_of_theirs(world: HolderWorld) -> None:
    """It saw no spares: what one computing party found is not what this party can sign."""
    note(world, a_result(), party="hospital-c")
    (facts,) = world.entries("hospital-a", EntryKind.NOISE_TESTED)
    assert (facts["job"], facts["result"], list(facts["said_by"])) == (JOB.job_id, "passed", list(JOB.computing_parties))
    assert "owners" not in facts
    assert not any("variance" in str(fact) for fact in facts.values())


@pytest.mark.parametrize("document", [None, {}, "passed", a_result(Finding.VARIANCE), a_result(owners=OWNERS[:2])])
def test_worker_that_finished_without_a_passed_test_is_not_believed(world: HolderWorld, document: object) -> None:
    with pytest.raises(ConfideError) as caught:
        note(world, document)
    assert caught.value.code is ErrorCode.INTERNAL
    assert not world.entries("hospital-a", EntryKind.NOISE_TESTED)


def test_other_jobs_and_parties_without_part_in_it_log_nothing(world: HolderWorld) -> None:
    note(world, None, job=a_training())
    note(world, None, party="somebody-else")
    assert not world.entries("hospital-a", EntryKind.NOISE_TESTED)
