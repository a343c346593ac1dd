"""Whether a training was prepared with what it says: each party compares it with the jobs that it knows itself.

An owner believes nobody's word about what was computed from its rows before. The job must stand in its own records, have
completed, and have used rows of the same people as the training; what it spent follows from its document. Ranges that claim to
follow from released means and deviations are made again: the job brings the shares that were opened, the party holds the
commitments to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from governance.commitments import CommittedShare
from governance.opening import open_committed
from privacy.accounting.noisy_answers import spent_together
from privacy.accounting.statement import terms_of
from privacy.preparation.standardised import CLAIM_DIGITS, claimed_job, released_schema
from protocols.errors import ConfideError, Problem
from protocols.job import Job, JobType, Preparation
from protocols.job_parts import PreparedOpening
from protocols.preparations import rows_hidden, whole_epsilon
from protocols.private_job_checks import contributors
from protocols.row_noise import MOMENT_BITS, opens_moments, rows_of_person
from protocols.session.states import State

_UNBOUNDED = ("", "0", 0, 0)


@dataclass(frozen=True)
class PastPreparation:
    """What a party knows of a job that a training was prepared with; public in the consortium.

    Attributes:
        job: its document.
        state: where it stands here.
        commitments: of its ending, by party and output.
        people: the populations of the party's own rows in it.
        rests_on: of a preparation of a private training, by id: what its model and its ranges were made of, trainings and
            released means and deviations, on rows of the training's people.
    """

    job: Job
    state: State
    commitments: Mapping[str, Mapping[str, str]]
    people: frozenset[str]
    rests_on: tuple[str, ...] = ()


def preparation_of(job: Job, openings: tuple[PreparedOpening, ...] = ()) -> Preparation:
    """Returns how a training names a job that it was prepared with, and what that job spent with all that it was prepared with.

    Args:
        job: of a type that tells of owners' rows.
        openings: of means and deviations, if the training's schema follows from them.
    """
    epsilon, delta, rows, colluders = _spent(job)
    return Preparation(job.job_id, job.job_type, epsilon, delta, rows, colluders, openings)


def preparation_problems(job: Job, known: Mapping[str, PastPreparation], *, people: frozenset[str]) -> Iterable[Problem]:
    """Yields why a party does not believe what a training was prepared with.

    Args:
        job: a training.
        known: jobs that are named or claimed and known here, by id.
        people: the populations of the party's own rows in the training; empty if it brings none, and then it may not know a job.
    """
    for preparation in job.prepared_with:
        where, past = f"prepared_with.{preparation.job[:CLAIM_DIGITS]}", known.get(preparation.job)
        if past is not None:
            yield from _past_problems(job, preparation, past, people, where)
        elif people:
            remedy = "prepare with jobs that every owner took part in, or leave it out"
            yield Problem(where, "no such job is known to this owner", remedy)
    yield from _unnamed(job, known)


def preparations_in_words(job: Job) -> tuple[str, ...]:
    """Returns a line for each job that a training was prepared with, for people."""
    return tuple(
        f"{each.job_type.value} job {each.job[:CLAIM_DIGITS]}: {_bound_in_words(each)}"
        + (", by whose means and deviations features are standardised" if each.openings else "")
        for each in job.prepared_with
    )


def _past_problems(
    job: Job, preparation: Preparation, past: PastPreparation, people: frozenset[str], where: str
) -> Iterable[Problem]:
    if past.state is not State.COMPLETED:
        remedy = "wait until it has completed everywhere, or leave it out if it never will"
        yield Problem(where, f"the job is {past.state.value} here, and not completed", remedy)
        return
    if people and not people & past.people:
        yield Problem(where, "it used no rows of the people of this training's rows here", "leave it out")
    true = preparation_of(past.job, preparation.openings)
    if true != preparation:
        said, was = (f"{each.job_type.value}, {_bound_in_words(each)}" for each in (preparation, true))
        what = f"it says {said}; the job was {was}"
        yield Problem(where, what, "write what the job was")
    terms = terms_of(job)
    if terms is not None and terms.colluders >= 2 and past.job.dealer in contributors(job):
        what = f"two owners can be its dealer {past.job.dealer} and a computing party, who had the shared rows together"
        yield Problem(where, what, "train with colluders 1, or prepare again with a dealer that brings no data")
    # Figures of a model tell of the rows that it was trained on, and the noise on them is for the rows that it was tried on.
    for earlier in sorted(set(past.rests_on) - {named.job for named in job.prepared_with}):
        what = f"it rests on job {earlier[:CLAIM_DIGITS]} over rows of the same people, which the training does not name"
        yield Problem(where, what, f"add {earlier}")
    claimed = claimed_job(str(job.schema.get("name", "")))
    is_claimed = opens_moments(past.job) and past.job.job_id.startswith(claimed) and claimed != ""
    if preparation.openings and not is_claimed:
        yield Problem(f"{where}.openings", "the schema does not claim its ranges to be from this job", "leave them out")
    elif is_claimed:
        yield from _schema_problems(job, preparation, past, where)


def _schema_problems(job: Job, preparation: Preparation, past: PastPreparation, where: str) -> Iterable[Problem]:
    """A schema that claims a job has the ranges that follow from what it released, or it is somebody's own."""
    remedy = "use the schema that `confide job result --schema` wrote for this job, or another name for another schema"
    shares = tuple(
        CommittedShare(
            session=past.job.job_id,
            attempt=past.job.attempt,
            output=past.job.outputs[0].name,
            party=opening.party,
            shape=(2, past.job.model.input_features),
            scale_bits=MOMENT_BITS,
            share=bytes.fromhex(opening.share),
            nonce=bytes.fromhex(opening.nonce),
        )
        for opening in preparation.openings
    )
    try:
        moments = open_committed(past.job, past.job.outputs[0], shares, commitments=past.commitments)
        made = released_schema(past.job, moments.astype(np.float64)).to_document()
    except ConfideError as error:
        what = f"what it released cannot be opened by what the request brings: {error.what}"
        yield Problem(f"{where}.openings", what, remedy)
        return
    if made != job.schema:
        own = job.schema.get("columns")  # of any type: what the whole schema must be is checked elsewhere
        columns = zip(made["columns"], own if isinstance(own, list) else (), strict=False)
        differing = [str(column["name"]) for column, brought in columns if column != brought]
        what = f"its ranges are not those that follow from what the job released: {', '.join(differing[:6]) or 'other columns'}"
        yield Problem("schema", what, remedy)


def _unnamed(job: Job, known: Mapping[str, PastPreparation]) -> Iterable[Problem]:
    """A schema that claims a job without naming it would leave out what that spent."""
    claimed = claimed_job(str(job.schema.get("name", "")))
    named = {preparation.job for preparation in job.prepared_with}
    for past in known.values():
        if claimed and past.job.job_id.startswith(claimed) and opens_moments(past.job) and past.job.job_id not in named:
            what = f"the schema claims ranges from job {claimed}, which the training does not name"
            yield Problem("prepared_with", what, f"add {past.job.job_id}")


def _spent(job: Job) -> tuple[str, str, int, int]:
    terms = terms_of(job)
    if terms is not None:
        epsilon, delta = whole_epsilon(job, terms)
        return _text(epsilon), _text(delta), rows_hidden(job, terms), terms.colluders
    found = spent_together(job) if job.outputs else None
    if job.job_type is JobType.TRAIN or found is None:
        return _UNBOUNDED
    return _text(found.epsilon), _text(found.delta), rows_of_person(job), job.outputs[0].noise_colluders


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _bound_in_words(preparation: Preparation) -> str:
    if not preparation.epsilon:
        return "without a bound on epsilon"
    unit = f"for {preparation.rows} row(s) of a person, against {preparation.colluders} owner(s) who pool"
    return f"epsilon {preparation.epsilon} at delta {preparation.delta} {unit}"
