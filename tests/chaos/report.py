"""Writes docs/faults.md from the table of promises and the recorded results: `python -m tests.chaos.report`.

New results of campaigns (`build/chaos/*.jsonl`) are taken over into `recorded.jsonl` first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from tests.chaos.cells import Cell, Fault, Phase, Role
from tests.chaos.promises import TABLE, Blame, Promise, possible_cells, promise_of, row_of
from tests.chaos.records import CAMPAIGNS, RECORDED, ROOT, Result, latest, read_results

PAGE = ROOT / "docs" / "faults.md"

MEANING: Mapping[Fault, str] = {
    Fault.KILL: "the party's process is killed and stays away until the others have ended the job",
    Fault.RESTART: "the party's process is killed and started again at once; one that needs more than 8 s counts as gone",
    Fault.STOP: "the party's process is stopped (SIGSTOP) and goes on after the others have ended the job",
    Fault.PAUSE: "the party's process is stopped for 4 s",
    Fault.PARTITION: "nothing arrives at the member and nothing from it; no connection breaks",
    Fault.CUT: "every connection of the member breaks; after at most 1 s new ones are possible",
    Fault.DELAY: "for 4 s everything from and to the member takes 50 to 300 ms longer",
    Fault.DISK: "the file system of the party's state folder is full until the others have ended the job",
    Fault.CLOCK_AHEAD: "the member's clock jumps 40 minutes ahead; 5 minutes are permitted",
    Fault.CLOCK_BEHIND: "the member's clock jumps 40 minutes back",
    Fault.EXPIRED: "the member's certificate ends",
    Fault.WRONG_ROLE: "the party comes back with a researcher's certificate; the researcher comes with a party's",
    Fault.REVOKED: "everybody else takes over a directory without the member",
    Fault.CONSENT: "the owner's steward revokes its grants, by the command, while the party serves",
    Fault.VERSION: "the party comes back with workers of another protocol version",
    Fault.REPLAYED: "the party sends an earlier frame again; between jobs and outside computation: an earlier control message",
    Fault.REORDERED: "the party sends two frames, or control messages, in the wrong order",
    Fault.DUPLICATED: "the party sends a frame, or a control message, twice; the researcher submits twice",
    Fault.ALTERED: "one bit of a frame or control message is flipped before TLS; of the researcher's job after she signed it",
    Fault.OVERSIZED: "a frame of more than 1 MiB, or a control message or job of more than 4 MiB",
    Fault.SECOND_SERVE: "`confide party serve` is started again on the same state folder",
}
_HEAD = """\
# Faults: the promised and the observed end

This page is generated: `make faults-page`. The promises are data (`tests/chaos/promises.py`); what was observed comes from the
chaos harness, which runs four hospitals as real processes with real TLS, every connection through a proxy of its own.

`make chaos` runs 50 points (seeded: cell, moment) in about ten minutes on a quiet machine, `make chaos-campaign` 200; a campaign
that was stopped goes on where it stood, its results are in `build/chaos/`. One cell alone:
`.venv/bin/python -m tests.chaos.campaign --cell "stop/dealer/running"`. A full disk is a small file system that is
really full; only root can mount one, so other users leave those cells out.

## What is promised in every cell

- All parties that are up, and the researcher, show the same ending within 30 s of the fault, or the job completes.
- The member that was hit shows the same ending once it is back, or never heard of the job.
- Nothing of a job that did not complete is kept: no model, output, grant or stray sealed file at any party.
- No worker outlives its job, and no party logs a defect.
- The next job completes.

The network: two hospitals compute (one leads), one deals, one owns rows and does not compute, and a researcher queries. Phases
are those of [the session](protocols/session.md); *idle* means that the fault is there when the job is submitted. The short
phases are hit exactly, by a party program of the tests that holds back one event of the session until the fault is there.
"""


def render(recorded: Mapping[Cell, Result]) -> str:
    """Returns the page."""
    cells = possible_cells()
    seen = [recorded[cell] for cell in cells if cell in recorded]
    kept = sum(not result.violations for result in seen)
    lines = [_HEAD, "## Observed", ""]
    lines.append(
        f"{len(seen)} of {len(cells)} cells have been run; {kept} ended as promised. The other {len(cells) - len(seen)} are"
        " promised on the ground of the same rule and have not been run yet."
    )
    aborted = [result.within_s for result in seen if result.ending[0] not in ("", "COMPLETED") and not result.violations]
    if aborted:
        lines.append(f"From the fault to the same ending everywhere: at most {max(aborted):.1f} s.")
    lines += ["", "In the tables: what was promised, then what was seen and after how many seconds, where the cell has been run."]
    for fault in Fault:
        lines += ["", f"### {fault.value}", "", f"{_sentence(MEANING[fault])}", ""]
        lines += _table(fault, recorded)
        lines += ["", *_reasons(fault)]
    broken = [result for result in seen if result.violations]
    if broken:
        lines += ["", "## Not as promised", ""]
        lines += [f"- `{result.cell.name}`: {'; '.join(_plain(text) for text in result.violations)}" for result in broken]
    return "\n".join(lines).rstrip() + "\n"


def _table(fault: Fault, recorded: Mapping[Cell, Result]) -> Iterator[str]:
    roles = [role for role in Role if any(promise_of(Cell(fault, role, phase)) for phase in Phase)]
    yield "| | " + " | ".join(phase.value for phase in Phase) + " |"
    yield "|---|" + "---|" * len(Phase)
    for role in roles:
        yield f"| {role.value} | " + " | ".join(_entry(Cell(fault, role, phase), recorded) for phase in Phase) + " |"


def _entry(cell: Cell, recorded: Mapping[Cell, Result]) -> str:
    promise = promise_of(cell)
    if promise is None:
        return "-"
    result = recorded.get(cell)
    if result is None:
        return _in_short(promise)
    if result.violations:
        return f"{_in_short(promise)}; **not as promised**"
    return f"{_in_short(promise)}; {_seen(result)}"


def _in_short(promise: Promise) -> str:
    if not promise.states:
        return "refused"
    return " or ".join(sorted(state.name for state in promise.states))


def _seen(result: Result) -> str:
    state, code, at_fault = result.ending
    if not state:
        return f"seen: refused with {code}"
    if state == "COMPLETED":
        return f"seen: COMPLETED, {result.within_s:.1f} s"
    return f"seen: {state} {code}, at fault {at_fault or 'nobody'}, {result.within_s:.1f} s"


def _reasons(fault: Fault) -> Iterator[str]:
    for row in TABLE:
        hit = [cell for cell in (Cell(fault, role, phase) for role in Role for phase in Phase) if row_of(cell) is row]
        if not hit:
            continue
        roles = ", ".join(role.value for role in Role if any(cell.role is role for cell in hit))
        phases = ", ".join(phase.value for phase in Phase if any(cell.phase is phase for cell in hit))
        if row.promise is None:
            yield f"- {roles}, {phases}: nothing to hit: {row.because}."
        else:
            codes = ", ".join(sorted(code for code in row.promise.codes if code))
            blame = "" if row.promise.completes or row.promise.blame is Blame.NOBODY else f"; at fault: {row.promise.blame.value}"
            yield f"- {roles}, {phases}: {_in_short(row.promise)}{f' ({codes})' if codes else ''}{blame}: {row.promise.because}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:300]


def main() -> int:
    campaigns = sorted(CAMPAIGNS.glob("*.jsonl"), key=lambda file: file.stat().st_mtime) if CAMPAIGNS.exists() else []
    results = [*read_results(RECORDED), *(result for file in campaigns for result in read_results(file))]
    recorded = latest(results)
    RECORDED.write_text("".join(recorded[cell].to_line() for cell in possible_cells() if cell in recorded), encoding="utf-8")
    PAGE.write_text(render(recorded), encoding="utf-8")
    print(f"{PAGE}: {len(recorded)} cells")
    return 0


if __name__ == "__main__":
    sys.exit(main())
