"""Ten thousand structure-aware mutations of encrypted inference, of what an owner sends and of what a researcher sends.

    python -m tests.fuzz.hostile owner --cases 10000
    python -m tests.fuzz.hostile asker --cases 10000
    python -m tests.fuzz.hostile owner --cases 1 --first 4711

`owner` sends to the researcher's real client, `asker` to the owner's real service and evaluators. A case is a number, from which
all of it follows. Each must end with what was asked for or with a refusal of our own, a refusal within a second of processor
time, and no process may die or grow by a gigabyte. Cases run in processes of their own, some hundred in each, so that one that
dies is told with the case that it died of.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import parties  # noqa: F401  (before gRPC)
from tests.fuzz import hostile_asker, hostile_owner
from tests.fuzz.limits import MAX_SECONDS_AN_INPUT, TRIES

MAX_GROWTH_MIB = 1024
CASES_A_PROCESS = 500
TAKEN = "taken"
FOUND = "FOUND"


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        number: of the case.
        code: `taken`, a code of a refusal, or FOUND.
        seconds: of processor time of the process that was attacked.
        peak_mib: by how much it has grown since its first case.
        what: of a finding.
    """

    number: int
    code: str
    seconds: float
    peak_mib: int
    what: str = ""


def main() -> int:
    """Prints how the cases ended, and every finding; returns 1 if there was one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("owner", "asker"))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    began, outcomes = time.monotonic(), list[Outcome]()
    stop = arguments.first + arguments.cases
    with tempfile.TemporaryDirectory(prefix="confide-hostile-") as scratch:
        first = arguments.first
        while first < stop:
            last = min(first + CASES_A_PROCESS, stop)
            outcomes += run_apart(arguments.side, first, last, Path(scratch))
            first = outcomes[-1].number + 1
            print(f"{len(outcomes)} of {arguments.cases}", file=sys.stderr, flush=True)
    found = [each for each in outcomes if each.code == FOUND]
    refused = [each.seconds for each in outcomes if each.code not in (TAKEN, FOUND)]
    for each in found:
        print(f"FOUND in case {each.number} of {arguments.side}: {each.what}")
    for code, count in Counter(each.code for each in outcomes).most_common():
        print(f"{count:>8}  {code}")
    slowest, growth = max(refused, default=0.0), max(each.peak_mib for each in outcomes)
    print(
        f"{len(outcomes)} cases in {time.monotonic() - began:.0f} s, {len(found)} finding(s); the slowest refusal took"
        f" {slowest:.2f} s, and no process grew by more than {growth} MiB"
    )
    return 1 if found else 0


def run_apart(side: str, first: int, last: int, scratch: Path) -> list[Outcome]:
    """Runs cases in a process of their own; one that it dies of is the last, and a finding."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as sink:
            _run(side, first, last, scratch, lambda outcome: print(json.dumps(asdict(outcome)), file=sink, flush=True))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as source:
        outcomes = [Outcome(**json.loads(line)) for line in source if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    if status:
        number = outcomes[-1].number + 1 if outcomes else first
        what = f"the process ended with status {os.waitstatus_to_exitcode(status)}"
        outcomes.append(Outcome(number, FOUND, 0.0, 0, what))
    return outcomes


def _run(side: str, first: int, last: int, scratch: Path, tell: Callable[[Outcome], None]) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        if side == "owner":
            hostile_owner.run_case(-1, folder)  # what is loaded and cached once is no cost of a case
            _run_each(lambda number: hostile_owner.run_case(number, folder), first, last, tell, tries=TRIES)
            return
        party = hostile_asker.Party(folder)
        try:
            _run_each(party.run_case, first, last, tell, tries=1)
        finally:
            party.close()


def _run_each(case: Callable[[int], str], first: int, last: int, tell: Callable[[Outcome], None], *, tries: int) -> None:
    before = _peak_mib()
    for number in range(first, last):
        code, what, seconds = FOUND, "", float("inf")
        for _ in range(tries):  # a slow one again, as `limits.check` does
            began = time.process_time()
            try:
                code = case(number)
            except Exception as error:  # whatever it is, it is a finding
                what = f"{type(error).__name__}: {error} | {traceback.format_exc(limit=-3)}"
            seconds = min(seconds, time.process_time() - began)
            if seconds <= MAX_SECONDS_AN_INPUT:
                break
        growth = _peak_mib() - before
        if code not in (TAKEN, FOUND) and seconds > MAX_SECONDS_AN_INPUT:
            code, what = FOUND, f"it was refused after {seconds:.2f} s"
        if growth > MAX_GROWTH_MIB:
            code, what = FOUND, f"the process has grown by {growth} MiB"
        tell(Outcome(number, code, seconds, growth, what))


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
