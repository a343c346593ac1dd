"""What a model rests on, and when it is not used any more; the blast radius of a revocation."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from governance.lineage.alias import AliasName
from governance.lineage.blast import HolderAlias, OpenJob, blast_radius
from governance.lineage.standing import Basis, TrainingFacts, Withdrawal, ends, next_end, trainings_behind
from protocols.errors import ErrorCode
from protocols.job import Job, ModelRef, Resumption
from protocols.session.states import State
from tests.support.jobs import CREATED, a_dataset, a_training, an_evaluation

NOW = CREATED + timedelta(days=1)
GRANT_A, GRANT_B, GRANT_C = "a0" * 16, "b0" * 16, "c0" * 16


def facts(job: Job, *grants: tuple[str, str], until: timedelta | None = None, state: State = State.COMPLETED) -> TrainingFacts:
    end = None if until is None else CREATED + until
    return TrainingFacts(job, tuple(Basis(party, grant, end, job.job_id) for party, grant in grants), state.value)


def known(*trainings: TrainingFacts) -> dict[str, TrainingFacts]:
    return {each.job.job_id: each for each in trainings}


FIRST = facts(a_training(), ("hospital-a", GRANT_A), ("hospital-c", GRANT_C), until=timedelta(days=10))
FURTHER = facts(
    a_training(
        model_ref=FIRST.job.produced_model, model_name="further", datasets=(a_dataset("hospital-b"),), agreement="b1" * 32
    ),
    ("hospital-b", GRANT_B),
    until=timedelta(days=5),
)
THIRD = facts(a_training(model_ref=FURTHER.job.produced_model, model_name="third", datasets=(a_dataset("hospital-b"),)))
ALL = known(FIRST, FURTHER, THIRD)


def withdrawal(issuer: str, subject: str, *, delete: bool = False) -> Withdrawal:
    return Withdrawal(issuer, subject, delete, NOW - timedelta(hours=1))


def label_of(training: TrainingFacts) -> str:
    ref = training.job.produced_model
    return "" if ref is None else ref.label


def test_trainings_behind_a_model_that_was_continued_twice_are_all_found() -> None:
    assert trainings_behind(THIRD.job.job_id, ALL) == (THIRD, FURTHER, FIRST)


def test_trainings_behind_a_resumed_training_include_the_attempt_that_failed() -> None:
    failed = facts(a_training(nonce="11" * 16), ("hospital-a", GRANT_A), state=State.ABORTED)
    resumed = facts(a_training(resumes=Resumption(failed.job.job_id, "f" * 64, 3, 2)), ("hospital-a", GRANT_B))
    assert trainings_behind(resumed.job.job_id, known(failed, resumed)) == (resumed, failed)


def test_model_without_an_ended_consent_may_be_used() -> None:
    assert ends(trainings_behind(THIRD.job.job_id, ALL), [], now=NOW) == ()


@pytest.mark.parametrize("training", [FIRST, FURTHER, THIRD], ids=["direct", "derived", "derived-again"])
def test_revoked_grant_ends_every_model_that_rests_on_it_with_its_name(training: TrainingFacts) -> None:
    (end,) = ends(trainings_behind(training.job.job_id, ALL), [withdrawal("hospital-c", GRANT_C, delete=True)], now=NOW)
    assert (end.issuer, end.subject, end.code, end.delete) == ("hospital-c", GRANT_C, ErrorCode.GRANT_REVOKED, True)
    assert GRANT_C in end.sentence


def test_grant_of_a_further_training_does_not_end_the_model_before_it() -> None:
    assert ends(trainings_behind(FIRST.job.job_id, ALL), [withdrawal("hospital-b", GRANT_B)], now=NOW) == ()


def test_revocation_by_another_party_than_the_issuer_ends_nothing() -> None:
    assert ends(trainings_behind(THIRD.job.job_id, ALL), [withdrawal("hospital-b", GRANT_C)], now=NOW) == ()


def test_grant_whose_time_for_derived_models_is_over_ends_them_by_the_clock() -> None:
    behind = trainings_behind(FURTHER.job.job_id, ALL)
    assert next_end(behind, now=NOW) == CREATED + timedelta(days=5)
    assert ends(behind, [], now=CREATED + timedelta(days=5) - timedelta(seconds=1)) == ()
    (end,) = ends(behind, [], now=CREATED + timedelta(days=5))
    assert (end.subject, end.code, end.delete) == (GRANT_B, ErrorCode.GRANT_EXPIRED, False)


def test_agreement_revoked_by_an_owner_of_the_rows_ends_the_model() -> None:
    (end,) = ends([FIRST], [withdrawal("hospital-c", FIRST.job.agreement)], now=NOW)
    assert (end.issuer, end.code) == ("hospital-c", ErrorCode.NO_AGREEMENT)


def test_agreement_revoked_by_a_party_without_rows_leaves_the_model() -> None:
    assert ends([FURTHER], [withdrawal("hospital-a", FURTHER.job.agreement)], now=NOW) == ()


def test_ends_do_not_depend_on_the_order_in_which_withdrawals_arrived() -> None:
    arrived = [
        withdrawal("hospital-a", GRANT_A),
        withdrawal("hospital-c", GRANT_C),
        withdrawal("hospital-c", GRANT_C, delete=True),
        withdrawal("hospital-b", GRANT_C),
        withdrawal("hospital-b", GRANT_B),
    ]
    behind = trainings_behind(THIRD.job.job_id, ALL)
    expected = ends(behind, arrived, now=NOW)
    assert [(end.subject, end.delete) for end in expected] == [(GRANT_B, False), (GRANT_A, False), (GRANT_C, True)]
    shuffled = random.Random(7)
    for _ in range(20):
        shuffled.shuffle(arrived)
        assert ends(behind, arrived, now=NOW) == expected


def test_blast_radius_names_rows_jobs_models_and_aliases_that_would_end() -> None:
    made = FURTHER.job.produced_model
    running = an_evaluation(model_ref=made)
    elsewhere = an_evaluation(model_ref=ModelRef("other", "0" * 12), agreement="c1" * 32)
    radius = blast_radius(
        issuer="hospital-c",
        subject=GRANT_C,
        trainings=ALL,
        open_jobs=[
            OpenJob(running, State.RUNNING, ()),
            OpenJob(elsewhere, State.RUNNING, (GRANT_A,)),
            OpenJob(a_training(nonce="77" * 16), State.AGREED, (GRANT_C,)),
        ],
        aliases=[
            HolderAlias("hospital-a", AliasName.LIVE, made or ModelRef("", "")),
            HolderAlias("hospital-a", AliasName.LIVE, ModelRef("other", "0" * 12)),
        ],
    )
    assert radius.datasets == ("hospital-c/patients/1",)
    assert radius.running == (running.job_id,)
    assert radius.queued == (a_training(nonce="77" * 16).job_id,)
    assert [ref.label for ref in radius.models] == sorted(label_of(each) for each in ALL.values())
    assert radius.aliases == ("further@live at hospital-a",)
    assert all(ref.label in radius.to_text() for ref in radius.models)


def test_blast_radius_of_a_grant_that_nothing_rests_on_says_so() -> None:
    radius = blast_radius(issuer="hospital-c", subject="00" * 16, trainings=ALL, open_jobs=[], aliases=[])
    assert radius.models == radius.running == radius.queued == radius.aliases == ()
    assert "nothing that is known here would end" in radius.to_text()


def test_blast_radius_leaves_out_trainings_that_left_no_model() -> None:
    aborted = facts(a_training(nonce="22" * 16), ("hospital-c", GRANT_C), state=State.ABORTED)
    radius = blast_radius(issuer="hospital-c", subject=GRANT_C, trainings=known(aborted), open_jobs=[], aliases=[])
    assert radius.models == ()
