"""The graph and the tree around a model, and what an alias stands for when its holders are asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from governance.lineage.alias import AliasName
from governance.lineage.blast import HolderAlias
from governance.lineage.graph import Edge, Lineage, ModelRecords, NodeKind, PreparedBy, lineage_of, lineage_text
from governance.lineage.receipt import DeletionReceipt
from governance.lineage.standing import Basis, End, TrainingFacts
from parties.client.aliases import resolve_alias
from parties.wire.generated.confide.v1 import party_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef
from protocols.session.states import State
from tests.support.jobs import CREATED, a_dataset, a_training, an_evaluation, an_inference

FIRST_JOB = a_training()
FIRST = FIRST_JOB.produced_model or ModelRef("", "")
FURTHER_JOB = a_training(model_ref=FIRST, model_name="further", datasets=(a_dataset("hospital-b"),))
FURTHER = FURTHER_JOB.produced_model or ModelRef("", "")
GRANT = Basis("hospital-c", "c0" * 16, CREATED + timedelta(days=3), FIRST_JOB.job_id)
REVOKED = End("hospital-c", "c0" * 16, ErrorCode.GRANT_REVOKED, True, CREATED, FIRST_JOB.job_id)
RECEIPT = DeletionReceipt("cardio", "hospital-a", FIRST, "hospital-c", "c0" * 16, "ab" * 32, CREATED)


def records(**changes: Any) -> ModelRecords:
    done = State.COMPLETED.value
    known = {
        "trainings": {
            FIRST_JOB.job_id: TrainingFacts(FIRST_JOB, (GRANT,), done),
            FURTHER_JOB.job_id: TrainingFacts(FURTHER_JOB, (), done),
        },
        "uses": [
            (an_evaluation(model_ref=FIRST), done),
            (an_inference(model_ref=FIRST), done),
            (an_inference(model_ref=FIRST, nonce="11" * 16), State.ABORTED.value),
            (an_inference(), done),
        ],
        "aliases": [HolderAlias("hospital-a", AliasName.LIVE, FIRST)],
        "ends": {},
        "receipts": [],
    }
    return ModelRecords(**(known | changes))


def kinds(lineage: Lineage) -> dict[NodeKind, int]:
    return {kind: sum(node.kind is kind for node in lineage.nodes) for kind in NodeKind}


def test_graph_of_a_model_leads_from_its_rows_to_its_uses() -> None:
    found = lineage_of(FIRST, records())
    assert kinds(found) == {
        NodeKind.DATASET: 3,
        NodeKind.PREPARATION: 3,
        NodeKind.GRANT: 1,
        NodeKind.JOB: 5,  # two trainings, an evaluation, two inferences
        NodeKind.MODEL: 2,
        NodeKind.ALIAS: 1,
        NodeKind.RECEIPT: 0,
    }
    job, model = f"job:{FIRST_JOB.job_id}", f"model:{FIRST.label}"
    dataset = "dataset:hospital-c/patients/1"
    (preparation,) = [edge.target for edge in found.edges if edge.source == dataset]
    assert {Edge(preparation, job, "input of"), Edge(f"grant:{'c0' * 16}", job, "permits"), Edge(job, model, "made")} <= set(
        found.edges
    )
    assert Edge(model, f"job:{FURTHER_JOB.job_id}", "input of") in found.edges


def test_graph_has_no_edge_to_a_node_that_it_does_not_hold() -> None:
    for ref in (FIRST, FURTHER):
        found = lineage_of(ref, records(ends={FIRST: (REVOKED,)}, receipts=[RECEIPT]))
        ids = {node.id for node in found.nodes}
        assert len(ids) == len(found.nodes)
        assert {end for edge in found.edges for end in (edge.source, edge.target)} <= ids


def test_graph_says_of_a_model_that_it_is_not_used_and_who_destroyed_it() -> None:
    document = lineage_of(FIRST, records(ends={FIRST: (REVOKED,)}, receipts=[RECEIPT])).to_document()
    (node,) = [entry for entry in document["nodes"] if entry["id"] == f"model:{FIRST.label}"]
    assert node["usable"] == "no"
    assert "was revoked" in node["why"]
    assert any(edge["relation"] == "destroyed" for edge in document["edges"])


def test_tree_names_rows_consents_uses_aliases_and_what_came_of_it() -> None:
    tree = lineage_text(FIRST, records())
    for party in ("hospital-a", "hospital-b", "hospital-c"):
        assert f"data set {party}/patients/1: 100 rows" in tree
    assert f"consent of hospital-c: grant {'c0' * 16}, derived models until 2026-03-04" in tree
    assert "used for 1 inference(s) on 5 sample(s)" in tree
    assert "live at hospital-a" in tree
    assert f"went into model {FURTHER.label}" in tree


def test_tree_of_a_further_model_shows_the_one_before_it() -> None:
    tree = lineage_text(FURTHER, records(ends={FIRST: (REVOKED,), FURTHER: (REVOKED,)}))
    assert tree.index(f"model {FURTHER.label}") < tree.index("goes on from") < tree.index(f"model {FIRST.label}")
    assert tree.count("not used any more") == 2


def test_tree_names_the_holders_whose_receipt_is_missing() -> None:
    tree = lineage_text(FIRST, records(ends={FIRST: (REVOKED,)}, receipts=[RECEIPT]))
    assert "destroyed at hospital-a" in tree
    assert "no deletion receipt of hospital-b has arrived" in tree
    assert "no deletion receipt" not in lineage_text(FIRST, records())


def says(*versions: str, alias: str = "live", name: str = "diagnosis") -> list[party_pb2.Model]:
    return [party_pb2.Model(name=name, version=version, aliases=[alias]) for version in versions]


def test_alias_that_all_holders_put_behind_one_version_resolves() -> None:
    held = {"hospital-a": says("0" * 12), "hospital-b": [*says("0" * 12), *says("1" * 12, name="other")]}
    assert resolve_alias(held, "diagnosis", AliasName.LIVE) == "0" * 12


@pytest.mark.parametrize(
    "second",
    [
        says("1" * 12),
        [],
        says("0" * 12, alias="candidate"),
        says("0" * 12, "1" * 12),
        says("0" * 12, name="other"),
        says("../../etc"),
    ],
    ids=["another", "none", "another-alias", "two", "another-model", "no-version"],
)
def test_alias_without_one_answer_of_all_holders_resolves_nowhere(second: list[party_pb2.Model]) -> None:
    with pytest.raises(ConfideError) as caught:
        resolve_alias({"hospital-a": says("0" * 12), "hospital-b": second}, "diagnosis", AliasName.LIVE)
    assert caught.value.code is ErrorCode.ALIAS_DIFFERS
    assert [problem.where for problem in caught.value.problems] == ["hospital-a", "hospital-b"]


def test_own_data_set_shows_contract_and_recipe_where_they_are_known() -> None:
    dataset = FIRST_JOB.datasets[0]
    label = f"{dataset.party}/{dataset.name}/{dataset.version}"
    made = PreparedBy(("ward", "c1" * 32), ("plain version 2", "d2" * 32), "e3" * 32)
    known = records(preparations={label: made})
    nodes = [node for node in lineage_of(FIRST, known).nodes if node.kind is NodeKind.PREPARATION]
    shown = {node.name: node.facts.get("recipe") for node in nodes}
    assert shown == {name: "plain version 2" if name.startswith(f"{label} ") else None for name in shown}
    assert list(shown.values()).count(None) == len(shown) - 1
    assert "by recipe plain version 2 (d2d2d2d2d2d2) under contract ward (c1c1c1c1c1c1)" in lineage_text(FIRST, known)
