"""Asks several parties at once and reports all their failures together, or one after the other until one answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from protocols.errors import ConfideError, ErrorCode, Problem

Value = TypeVar("Value")


def ask_everybody(parties: Sequence[str], ask: Callable[[str], Value]) -> list[Value]:
    """Returns every party's answer, in their order.

    Raises:
        ConfideError: the failure of the one that failed; of several, one with the code of the first and all their problems.
    """
    answers = answers_of_everybody(parties, ask)
    failed = [(party, answer) for party, answer in zip(parties, answers, strict=True) if isinstance(answer, ConfideError)]
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        problems = [
            Problem(f"{party} {problem.where}".strip(), problem.what, problem.remedy)
            for party, error in failed
            for problem in (error.problems or (Problem("", error.what, error.remedy),))
        ]
        raise ConfideError(failed[0][1].code, f"{len(failed)} parties refuse", problems=problems)
    return [answer for answer in answers if not isinstance(answer, ConfideError)]


def answers_of_everybody(parties: Sequence[str], ask: Callable[[str], Value]) -> list[Value | ConfideError]:
    """Returns every party's answer or failure, in their order; asks all at once."""

    def answer(party: str) -> Value | ConfideError:
        try:
            return ask(party)
        except ConfideError as error:
            return error

    if not parties:
        return []
    with ThreadPoolExecutor(len(parties), thread_name_prefix="ask") as pool:
        return list(pool.map(answer, parties))


def tell_anybody(parties: Sequence[str], tell: Callable[[str], object]) -> None:
    """Tells the first party that takes it.

    Raises:
        ConfideError: the failure of the last one, if none does; PARTY_UNREACHABLE if there is none.
    """
    lost = ConfideError(ErrorCode.PARTY_UNREACHABLE, "no party can be asked")
    for party in parties:
        try:
            tell(party)
            return
        except ConfideError as error:
            lost = error
    raise lost
