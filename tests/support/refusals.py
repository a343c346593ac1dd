"""What a refused job looks like: one ending everywhere, a reason, and nothing that any worker has computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.states import State
from tests.support.trial import Trial


def refusal(act: Callable[[], object]) -> ConfideError:
    """What a call was refused with."""
    with pytest.raises(ConfideError) as caught:
        act()
    return caught.value


def states_in_log(trial: Trial, party: str, job: Job) -> set[str]:
    """The states of a job that a party has logged."""
    lines = [line for line in trial.party_log(party).splitlines() if job.job_id in line and '"session"' in line]
    return {state.value for state in State if any(f'"state": "{state.value}"' in line for line in lines)}


def assert_rejected_everywhere(trial: Trial, job: Job, code: ErrorCode, *, state: State = State.REJECTED) -> None:
    """All parties show one ending, no worker has computed, and nothing is left."""
    endings = trial.endings(job)
    assert len({str(ending.to_document()) for ending in endings.values()}) == 1
    ending = endings[job.lead]
    assert (ending.state, ending.code, ending.phase) == (state, code.name, State.PROPOSED)
    assert ending.cause
    assert ending.remedy
    for party in job.participants:
        logged = states_in_log(trial, party, job)
        assert state.value in logged
        assert logged <= {"proposed", "agreed", "stopping", state.value}
