"""What model cards and lineage say of a model whose rows were joined of different columns of the same people."""

from __future__ import annotations

from dataclasses import replace

from governance.lineage.card import card_of
from governance.lineage.graph import ModelRecords, NodeKind, lineage_of, lineage_text
from governance.lineage.standing import TrainingFacts
from protocols.job import ModelRef
from protocols.session.states import State
from tests.support.jobs import CREATED, a_training
from tests.support.parts import ALIGNMENT, a_part, in_parts

JOB = in_parts(a_training())
MODEL = JOB.produced_model or ModelRef("", "")
MADE = TrainingFacts(JOB, (), State.COMPLETED.value)
RECORDS = ModelRecords(trainings={JOB.job_id: MADE}, uses=[], aliases=[], ends={}, receipts=[])


def test_card_names_the_columns_of_every_part() -> None:
    card = card_of(MODEL, RECORDS, party="hospital-a", made_by=MADE, restrictions=(), log=(), now=CREATED)
    assert card.rows == {"hospital-a": 100, "hospital-c": 100}
    assert card.to_document()["parts"] == [
        "hospital-a/patients/1: radius, the label",
        "hospital-c/patients/1: texture, area",
    ]
    assert "- of the same people: hospital-c/patients/1: texture, area" in card.to_markdown()


def test_card_counts_several_parts_of_one_owner_once() -> None:
    parts = (a_part("hospital-a"), replace(a_part("hospital-c"), party="hospital-a", name="others"))
    made = TrainingFacts(in_parts(a_training(), *parts), (), State.COMPLETED.value)
    known = ModelRecords(trainings={made.job.job_id: made}, uses=[], aliases=[], ends={}, receipts=[])
    ref = made.job.produced_model or ModelRef("", "")
    card = card_of(ref, known, party="hospital-a", made_by=made, restrictions=(), log=(), now=CREATED)
    assert card.rows == {"hospital-a": 100}


def test_lineage_shows_which_part_brought_what_and_that_they_are_aligned() -> None:
    text = lineage_text(MODEL, RECORDS)
    assert "hospital-a/patients/1: 100 rows with 1 feature(s) and the label of the same people" in text
    assert "hospital-c/patients/1: 100 rows with 2 feature(s) of the same people" in text
    nodes = [node for node in lineage_of(MODEL, RECORDS).nodes if node.kind is NodeKind.DATASET]
    assert [node.facts["alignment"] for node in nodes] == [ALIGNMENT, ALIGNMENT]
