"""Grants: only from a job that every participant countersigned with the very plan that ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

from governance.release import grants
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Output, OutputKind
from tests.support.jobs import a_training, an_evaluation

PLAN, OTHER = "a" * 64, "b" * 64
JOB = an_evaluation()
ALL_SIGNED = dict.fromkeys(JOB.participants, PLAN)


def test_grants_job_signed_by_all_gives_one_grant_for_each_output() -> None:
    outputs = (Output("one", OutputKind.LABEL, "alice"), Output("two", OutputKind.LABEL, "alice"))
    job = an_evaluation(outputs=outputs)
    made = grants(job, plan_digest=PLAN, countersignatures=ALL_SIGNED)
    assert [(grant.output, grant.recipient, grant.job_id) for grant in made] == [
        ("one", "alice", job.job_id),
        ("two", "alice", job.job_id),
    ]
    assert len({grant.grant_id for grant in made}) == 2


def test_grants_training_opens_nothing() -> None:
    job = a_training()
    assert grants(job, plan_digest=PLAN, countersignatures=dict.fromkeys(job.participants, PLAN)) == ()


@pytest.mark.parametrize("party", JOB.participants)
@pytest.mark.parametrize("signed", [None, OTHER, "", PLAN.upper(), PLAN[:63]])
def test_grants_one_participant_has_not_signed_this_plan_is_refused(party: str, signed: str | None) -> None:
    signatures = {
        name: digest for name, digest in (ALL_SIGNED | {party: signed or ""}).items() if (name, signed) != (party, None)
    }
    with pytest.raises(ConfideError) as caught:
        grants(JOB, plan_digest=PLAN, countersignatures=signatures)
    assert (caught.value.code, caught.value.party) == (ErrorCode.NO_GRANT, party)


def test_grants_everybody_signed_another_plan_than_ran_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        grants(JOB, plan_digest=PLAN, countersignatures=dict.fromkeys(JOB.participants, OTHER))
    assert caught.value.code is ErrorCode.NO_GRANT


def test_grants_signatures_of_others_change_nothing() -> None:
    with_others = ALL_SIGNED | {"hospital-z": OTHER}
    made = grants(JOB, plan_digest=PLAN, countersignatures=with_others)
    assert made == grants(JOB, plan_digest=PLAN, countersignatures=ALL_SIGNED)


def test_grant_id_is_the_same_at_every_party_and_differs_with_job_plan_and_output() -> None:
    def grant_id(job: object = JOB, plan: str = PLAN) -> str:
        return grants(job, plan_digest=plan, countersignatures=dict.fromkeys(JOB.participants, plan))[0].grant_id  # type: ignore[arg-type]  # a job

    renamed = replace(JOB, outputs=(Output("other", OutputKind.CORRECT_COUNT, "alice"),))
    found = [grant_id(), grant_id(plan=OTHER), grant_id(replace(JOB, nonce="0" * 32)), grant_id(renamed)]
    assert grant_id() == found[0]
    assert len(set(found)) == 4
