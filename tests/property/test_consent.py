"""Whatever limits an owner sets: a job inside all of them is covered, and one step outside any of them is refused by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from governance.consent.covering import Asset, mismatches
from governance.consent.facts import JobFacts
from governance.consent.grant import Grant
from governance.consent.limits import OutputRule, ParameterLimits
from governance.consent.revocation import Effect, Revocation
from protocols.job import Job, JobType, Output, OutputKind
from protocols.training import OptimiserKind
from tests.support.consent import NOW, PATIENTS, a_grant, a_revocation, jobs, standing
from tests.support.jobs import MODEL_REF, TRAINING, a_dataset

JOBS = jobs()
FACTS = JobFacts("hospital-b", frozenset({"hospital-a", "hospital-b", "hospital-c"}), 300)
ROWS, MODEL = Asset(PATIENTS, ()), Asset(PATIENTS, (MODEL_REF,))
COUNT = st.integers(1, 200)


@st.composite
def trainings(draw: st.DrawFn) -> Job:
    """A training with any epochs, batch size and optimiser."""
    kind = draw(st.sampled_from(OptimiserKind))
    rows = draw(st.integers(1, 500))
    training = replace(TRAINING, epochs=draw(COUNT), batch_size=draw(COUNT), optimiser=replace(TRAINING.optimiser, kind=kind))
    return replace(JOBS[JobType.TRAIN], training=training, datasets=(a_dataset(num_rows=rows), a_dataset("hospital-b")))


@st.composite
def predictions(draw: st.DrawFn) -> Job:
    """An inference with any number of samples and any constraint of its probabilities."""
    output = Output(
        "prediction",
        OutputKind.PROBABILITY,
        "alice",
        top_k=draw(st.integers(0, 8)),
        decimals=draw(st.none() | st.integers(0, 9)),
        clip=f"0.{draw(st.integers(0, 4))}",
    )
    return replace(JOBS[JobType.INFER], query_rows=draw(COUNT), outputs=(output,))


limits = st.builds(
    ParameterLimits,
    max_epochs=st.none() | COUNT,
    max_steps=st.none() | st.integers(1, 50_000),
    min_batch_size=st.none() | COUNT,
    max_query_rows=st.none() | COUNT,
    optimisers=st.sampled_from([(), (OptimiserKind.SGD,), (OptimiserKind.ADAM,), tuple(OptimiserKind)]),
)
rules = st.builds(
    OutputRule,
    kind=st.just(OutputKind.PROBABILITY),
    top_k=st.integers(0, 8),
    decimals=st.none() | st.integers(0, 9),
    clip=st.integers(0, 4).map(lambda digit: f"0.{digit}"),
)


def named(job: Job, grant: Grant, asset: Asset) -> set[str]:
    return {
        finding.problem.where.split(".", 2)[-1].rsplit(".", 1)[-1]
        for finding in mismatches(job, asset, standing(grant), FACTS, NOW)
    }


@given(trainings(), limits)
def test_training_is_refused_for_exactly_the_bounds_that_it_leaves(job: Job, bounds: ParameterLimits) -> None:
    assert job.training is not None
    training = job.training
    steps = training.epochs * -(-job.num_rows // training.batch_size)
    left = {
        "max_epochs": bounds.max_epochs is not None and training.epochs > bounds.max_epochs,
        "max_steps": bounds.max_steps is not None and steps > bounds.max_steps,
        "min_batch_size": bounds.min_batch_size is not None and training.batch_size < bounds.min_batch_size,
        "optimisers": bool(bounds.optimisers) and training.optimiser.kind not in bounds.optimisers,
    }
    assert named(job, a_grant(parameters=bounds), ROWS) == {name for name, is_left in left.items() if is_left}


@given(predictions(), limits, rules)
def test_prediction_is_refused_for_exactly_the_bounds_that_it_leaves(job: Job, bounds: ParameterLimits, rule: OutputRule) -> None:
    (output,) = job.outputs
    assert job.query_rows is not None
    left = {
        "max_query_rows": bounds.max_query_rows is not None and job.query_rows > bounds.max_query_rows,
        "top_k": rule.top_k > 0 and (output.top_k == 0 or output.top_k > rule.top_k),
        "decimals": rule.decimals is not None and (output.decimals is None or output.decimals > rule.decimals),
        "clip": float(output.clip) < float(rule.clip),
    }
    assert named(job, a_grant(parameters=bounds, outputs=(rule,)), MODEL) == {name for name, is_left in left.items() if is_left}


@given(limits, st.lists(rules, max_size=1), st.sampled_from([None, "0.5", "3"]), st.integers(1, 900))
def test_any_grant_reads_back_as_it_was_written(
    bounds: ParameterLimits, outputs: list[OutputRule], cap: str | None, uses: int
) -> None:
    grant = a_grant(parameters=bounds, outputs=tuple(outputs), epsilon_cap=cap, max_uses=uses)
    assert Grant.from_bytes(grant.to_bytes()) == grant


@settings(max_examples=50)
@given(st.integers(-10, 10), st.integers(0, 3), st.booleans())
def test_grant_covers_from_its_first_to_before_its_last_second_while_uses_are_left(
    seconds: int, uses: int, revoked: bool
) -> None:
    grant = a_grant(max_uses=2, valid_from=NOW, expires=NOW + timedelta(seconds=5))
    ended: Revocation | None = a_revocation(grant.grant_id, effect=Effect.STOP) if revoked else None
    stands = standing(grant, uses=uses, revocation=ended)
    found = mismatches(JOBS[JobType.TRAIN], ROWS, stands, FACTS, NOW + timedelta(seconds=seconds))
    assert (not found) == (0 <= seconds < 5 and uses < 2 and not revoked)
