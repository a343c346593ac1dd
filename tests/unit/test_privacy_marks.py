"""Wherever a model is named, its privacy stands beside it: all trainings' claims, or that there is no formal guarantee."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from governance.encrypted.published import PublishedModel
from governance.lineage.graph import ModelRecords, NodeKind, lineage_of, lineage_text
from governance.lineage.standing import TrainingFacts
from governance.preview import WITHOUT_NOISE
from governance.privacy_claims import TrainingClaim, check_claim, claim_of, claims_in_words, claims_of, together
from parties.cli.job_words import plan_in_words
from parties.client.catalogue import list_models
from parties.client.client import Client
from parties.wire.generated.confide.v1 import party_pb2
from privacy.accounting.statement import NO_GUARANTEE
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, ModelRef
from protocols.mpc.planning import derive_plan
from protocols.private_training import Unit
from protocols.session.states import State
from tests.support.described import BENIGN, Consortium
from tests.support.encrypted import a_model
from tests.support.jobs import CLAIMED, a_training, an_evaluation, sgd

CLAIM = TrainingClaim("ab" * 16, "1", "0.00001", "zero-out", "row", 1)
OTHER = TrainingClaim("cd" * 16, "0.5", "0.000001", "zero-out", "person", 3)
NONE = TrainingClaim("ef" * 16)


def a_private_training(**changes: Any) -> Job:
    terms = replace(CLAIMED, unit=Unit.PERSON, rows_per_person=2)
    return a_training(training=replace(sgd(60, 300, "0.1"), privacy=terms), **changes)


def test_claim_names_epsilon_delta_relation_and_unit() -> None:
    claim = claim_of(a_private_training())
    assert claim.in_words == "epsilon 1 at delta 0.00001, zero-out, person of at most 2 rows"
    assert claim_of(a_training()).in_words == NO_GUARANTEE


def test_plan_of_a_training_says_its_claim_and_the_ceiling_of_attacks_or_that_there_is_none() -> None:
    plan = derive_plan(a_training())
    assert f"epsilon: {NO_GUARANTEE}" in plan_in_words(plan, a_training()).splitlines()
    (line,) = [line for line in plan_in_words(plan, a_private_training()).splitlines() if line.startswith("epsilon: ")]
    assert line.startswith("epsilon: 1 at delta 0.00001, zero-out, for one person with at most 2 row(s)")
    assert "no attack finds more than" in line
    assert f"epsilon: {WITHOUT_NOISE}" in plan_in_words(derive_plan(an_evaluation()), an_evaluation()).splitlines()


def test_several_trainings_add_up_and_protect_the_narrowest_unit() -> None:
    found = together((OTHER, CLAIM))
    assert found is not None
    assert (found.epsilon, found.delta, found.unit, found.rows_per_person) == ("1.5", "0.000011", "row", 1)
    assert claims_in_words((OTHER, CLAIM)) == "epsilon 1.5 at delta 0.000011, zero-out, row (2 trainings, added up)"


@pytest.mark.parametrize("claims", [(), (NONE,), (CLAIM, NONE), (NONE, CLAIM)])
def test_one_training_without_a_guarantee_leaves_none(claims: tuple[TrainingClaim, ...]) -> None:
    assert together(claims) is None
    assert claims_in_words(claims) == NO_GUARANTEE


@pytest.mark.parametrize(
    "changes",
    [
        {"job": "ab"},
        {"epsilon": "-1"},
        {"epsilon": "much"},
        {"delta": "2"},
        {"relation": "add-remove"},
        {"unit": "household"},
        {"rows_per_person": 0},
        {"epsilon": ""},
    ],
)
def test_claim_that_no_job_makes_is_found(changes: dict[str, Any]) -> None:
    assert not list(check_claim(CLAIM, "claims.0"))
    assert not list(check_claim(NONE, "claims.0"))
    assert list(check_claim(replace(CLAIM, **changes), "claims.0"))


class Told(Consortium):
    """Holders that tell these claims of their one model."""

    def __init__(self, told: dict[str, tuple[TrainingClaim, ...]]) -> None:
        super().__init__(BENIGN)
        self.told = told

    def models(self, party: str) -> list[party_pb2.Model]:
        if party not in self.told:
            return []
        (model,) = super().models(party)
        for claim in self.told[party]:
            model.claims.add(
                job_id=claim.job,
                epsilon=claim.epsilon,
                delta=claim.delta,
                relation=claim.relation,
                unit=claim.unit,
                rows_per_person=claim.rows_per_person,
            )
        return [model]


def listed(**told: tuple[TrainingClaim, ...]) -> tuple[str, bool, str]:
    """What a researcher's list says of the privacy of a model, whether it is disputed, and its line."""
    listing = list_models(cast(Client, Told({name.replace("_", "-"): claims for name, claims in told.items()})))
    (entry,) = listing
    return entry.privacy, entry.disputed, listing.table()


def test_researchers_list_shows_the_claim_of_every_model() -> None:
    privacy, disputed, table = listed(hospital_a=(CLAIM,), hospital_b=(CLAIM,))
    assert privacy == "epsilon 1 at delta 0.00001, zero-out, row"
    assert not disputed
    assert privacy in table
    assert listed(hospital_a=(NONE,), hospital_b=(NONE,))[0] == NO_GUARANTEE
    assert NO_GUARANTEE in listed(hospital_a=(NONE,))[2]


def test_holder_that_says_nothing_or_nonsense_gives_no_guarantee() -> None:
    assert listed(hospital_a=())[0] == NO_GUARANTEE
    assert listed(hospital_a=(replace(CLAIM, epsilon="\x1b[2J1"),))[0] == NO_GUARANTEE


def test_holders_that_claim_different_things_are_disputed_and_give_no_guarantee() -> None:
    assert listed(hospital_a=(CLAIM,), hospital_b=(replace(CLAIM, epsilon="0.1"),))[:2] == (NO_GUARANTEE, True)


def test_lineage_shows_the_claim_of_each_training_and_of_the_model() -> None:
    first = a_private_training()
    ref = first.produced_model
    assert ref is not None
    further = a_training(model_ref=ref, model_name="further")
    label = further.produced_model or ModelRef("", "")
    known = {job.job_id: TrainingFacts(job, (), State.COMPLETED.value) for job in (first, further)}
    records = ModelRecords(known, [], [], {}, [])
    said = {node.name: node.facts["privacy"] for node in lineage_of(label, records).nodes if node.kind is NodeKind.MODEL}
    assert said == {ref.label: claim_of(first).in_words, label.label: NO_GUARANTEE}
    jobs = {node.name: node.facts["privacy"] for node in lineage_of(label, records).nodes if node.kind is NodeKind.JOB}
    assert jobs == {first.job_id: claim_of(first).in_words, further.job_id: NO_GUARANTEE}
    tree = lineage_text(label, records)
    assert tree.index(f"privacy: {NO_GUARANTEE}") < tree.index(f"privacy: {claim_of(first).in_words}")


def test_published_model_of_the_owners_own_has_no_guarantee_whatever_it_says() -> None:
    own = a_model()
    assert own.privacy == NO_GUARANTEE
    claimed = replace(own, claims=(CLAIM,))
    with pytest.raises(ConfideError) as caught:
        PublishedModel.from_bytes(claimed.to_bytes())
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert [problem.where for problem in caught.value.problems] == ["claims"]


def test_published_released_weights_say_what_their_licence_claims() -> None:
    model = a_model(origin=ModelRef("diagnosis", "0123456789ab"), claims=claims_of([a_private_training()]))
    read = PublishedModel.from_bytes(model.to_bytes())
    assert read == model
    assert read.privacy == "epsilon 1 at delta 0.00001, zero-out, person of at most 2 rows"


@pytest.mark.parametrize("changes", [{"claims": (CLAIM, CLAIM)}, {"origin": ModelRef("Not a name", "0123456789ab")}])
def test_description_of_released_weights_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    model = replace(a_model(origin=ModelRef("diagnosis", "0123456789ab"), claims=(CLAIM,)), **changes)
    with pytest.raises(ConfideError) as caught:
        PublishedModel.from_bytes(model.to_bytes())
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
