"""The result of the test of the noise of rows' owners, from the worker into the audit log, where evidence is taken from.

A computing party has seen the spares and writes down what it found. An owner that does not compute has seen none: it has the word
of the computing parties that nothing is wrong, and writes down that, and whose word it is. Figures in its log would be another
party's under its signature.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from governance.audit.entries import EntryKind, Fact
from parties.storage.database import Tables
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.mpc.noise_test import MILLION, NoiseTest, OwnerFigures
from protocols.private_job_checks import contributors
from protocols.row_noise import adds_row_noise

PASSED = "passed"


def note_noise_test(tables: Tables, job: Job, document: Any, *, party: str, now: datetime) -> None:
    """Notes what a worker says of the test of the noise; of jobs without noise, and at a dealer without rows, nothing.

    Raises:
        ConfideError: INTERNAL (ours) if the worker finished without a test that passed.
    """
    trains = job.training is not None and job.training.privacy is not None
    if not (trains or adds_row_noise(job)) or party not in (*job.computing_parties, *contributors(job)):
        return
    try:
        tested = NoiseTest.from_document(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfideError(ErrorCode.INTERNAL, "the worker made no test of the owners' noise") from error
    if not tested.has_passed or tuple(figures.owner for figures in tested.owners) != contributors(job):
        raise ConfideError(ErrorCode.INTERNAL, "the worker finished a job whose noise did not pass its test")
    facts: dict[str, Fact] = {"job": job.job_id, "result": PASSED}
    facts |= {"steps": tested.steps, "spares": tested.spares, "deviation": tested.deviation}
    if party in job.computing_parties:
        facts["owners"] = [_in_words(figures) for figures in tested.owners]
    else:
        facts["said_by"] = list(job.computing_parties)
    tables.audit.append(EntryKind.NOISE_TESTED, facts, now=now)


def _in_words(figures: OwnerFigures) -> str:
    """The figures of an owner; the variance is over the one that was agreed, p of variance, means and pairs of steps."""
    shown = [f"{number / MILLION:.6f}" for number in figures.numbers]
    return f"{figures.owner}: variance {shown[0]}, p {', '.join(shown[1:])}"
