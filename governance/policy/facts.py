"""What a policy's rules see of a job: taken from the job, its plan, the directory and the agreement."""

from __future__ import annotations

import math
from decimal import Decimal

from governance.identity.directory import Directory
from governance.policy.conditions import UNBOUNDED, WITHOUT_GUARANTEE, JobFacts
from protocols.errors import ConfideError
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.private_training import RELATION

_MIB = 1 << 20


def facts_of(job: Job, plan: Plan | None, *, directory: Directory, agreement: str) -> JobFacts:
    """Returns what rules may ask about a job.

    Args:
        job: the job.
        plan: that follows from it; None if it was not derived, and then nothing is known of rounds and bytes.
        directory: who belongs to the consortium.
        agreement: name of the agreement that the job keeps to; empty if it is unknown here, and then no rule names it.
    """
    try:
        institution = directory.researcher(job.querier).institution or ""
    except ConfideError:  # not enrolled: the admission refuses the job, with that reason
        institution = ""
    training = job.training
    terms = None if training is None else training.privacy
    return JobFacts(
        job_type=job.job_type.value,
        querier=job.querier,
        institution=institution,
        purpose=job.purpose,
        agreement=agreement,
        model="" if job.model_ref is None else job.model_ref.label,
        model_name=job.model_name or "",
        dealer=job.dealer,
        datasets=tuple(f"{dataset.party}/{dataset.name}" for dataset in job.datasets),
        outputs=tuple(dict.fromkeys(output.kind.value for output in job.outputs)),
        computing_parties=job.computing_parties,
        rows=job.num_rows,
        query_rows=job.most_samples,
        epochs=0 if training is None else training.epochs,
        rounds=0 if plan is None else plan.rounds,
        payload_mib=0 if plan is None else math.ceil(plan.payload_bytes / _MIB),
        guarantee="" if training is None else WITHOUT_GUARANTEE if terms is None else RELATION,
        milli_epsilon=0 if training is None else UNBOUNDED if terms is None else math.ceil(Decimal(terms.epsilon) * 1_000),
        colluders=0 if terms is None else terms.colluders,
    )
