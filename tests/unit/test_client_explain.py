"""What the client makes of the parties' reasons: all of them, cleaned, with parties that cannot be asked named."""

from __future__ import annotations

from typing import cast

import pytest

from parties.cli.job_words import describe_answer
from parties.client.calls import Calls
from parties.client.client import Client
from parties.client.explaining import MAX_REASONS, Answers, answers_to, ask_of_known, read_answer
from parties.client.handle import JobHandle
from parties.client.progress import Progress
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.jobs import a_training

JOB = a_training()
NOW = "2026-03-01T12:00:00Z"
REASON = jobs_pb2.Reason(code="NO_CONSENT", where="grants", what="no grant\x1b[2J covers it", remedy="ask")


def reply(**fields: object) -> jobs_pb2.ExplainJobReply:
    return jobs_pb2.ExplainJobReply(party="a", **fields)  # type: ignore[arg-type]


def test_answers_of_all_parties_stand_side_by_side_with_every_reason() -> None:
    said = {
        "a": reply(reasons=[REASON, REASON], rule="none"),
        "b": reply(approvals_needed=2, approvals_given=1, rule="trainings"),
        "c": reply(rule="otherwise"),
        "d": reply(),
    }

    def ask(party: str) -> jobs_pb2.ExplainJobReply:
        if party == "e":
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE, "it is down", party=party)
        return said[party]

    answers = answers_to(["a", "b", "c", "d", "e"], ask)
    assert answers.refuse
    assert str(answers).splitlines() == [
        "a: refuses, for 2 reason(s)",
        "  - NO_CONSENT: grants: no grant [2J covers it (ask)",
        "  - NO_CONSENT: grants: no grant [2J covers it (ask)",
        "b: waits for 1 of 2 approval(s) (rule trainings)",
        "c: takes part (rule otherwise)",
        "d: has nothing against it",
        "e: PARTY_UNREACHABLE: it is down",
    ]
    html = answers._repr_html_()
    assert html.count("NO_CONSENT") == 2
    assert [describe_answer(answer)["error"] for answer in answers][-1] == "PARTY_UNREACHABLE"
    assert not answers_to(["b", "c"], ask).refuse


@pytest.mark.parametrize(
    "broken",
    [reply(preview=b"{}"), reply(preview=b"\xff"), reply(reasons=[REASON] * (MAX_REASONS + 1))],
    ids=["an empty preview", "no preview", "too many reasons"],
)
def test_answer_that_is_none_is_refused(broken: jobs_pb2.ExplainJobReply) -> None:
    with pytest.raises(ConfideError) as caught:
        read_answer(broken, party="a")
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


ABORTED = Ending(
    JOB.job_id, 1, State.ABORTED, "PEER_LOST", State.RUNNING, "b", "the link ended", "Submit it again.", "a", NOW, True, {}
)


class Ended:
    """Calls to parties of which two show how the job ended, one does not know it, and one has not heard of the end."""

    def progress(self, job_id: str, party: str) -> Progress:
        if party == "c":
            raise ConfideError(ErrorCode.UNKNOWN_JOB, "no such job", party=party)
        ending = None if party == "d" else ABORTED
        return Progress(party, State.ABORTED.value, "", 0, 0, 0, 0, 0, "", ending)

    def explain(self, party: str, request: jobs_pb2.ExplainJobRequest) -> jobs_pb2.ExplainJobReply:
        assert (party, request.job_id) == ("d", JOB.job_id)
        return reply()


def test_explanation_of_a_job_that_has_ended_says_how_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(JOB), "participants", ("a", "b", "c", "d"))
    answers = ask_of_known(cast(Calls, Ended()), JOB)
    how = "the job has ended: aborted in phase running; at fault: b; PEER_LOST: the link ended"
    assert str(answers).splitlines() == [
        f"a: {how}",
        f"b: {how}",
        "c: UNKNOWN_JOB: no such job",
        "d: has nothing against it",
        "what to do: Submit it again.",
    ]
    assert describe_answer(answers[0])["ending"] == ABORTED.to_document()
    assert "Submit it again." in answers._repr_html_()


def test_handle_of_a_job_that_waits_explains_for_whom() -> None:
    class Waiting:
        def progress(self, job_id: str, party: str) -> Progress:
            return Progress(party, State.PROPOSED.value, "", 0, 0, 0, 0, 0, "", None, waiting_for="1 more of 2 approvers")

        def explain(self, job_id: str) -> Answers:
            return answers_to(JOB.participants[:1], lambda _: reply(approvals_needed=1, rule="trainings"))

    found = JobHandle(cast(Client, Waiting()), JOB).explain()
    assert "waits for 1 of 1 approval(s) (rule trainings)" in str(found)
    assert "trainings" in found._repr_html_()
