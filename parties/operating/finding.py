"""What a check found: PASS, WARN or FAIL, in one sentence, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from parties import defect
from protocols.errors import ConfideError


class Verdict(Enum):
    """How a check went."""

    PASS = "PASS"  # noqa: S105  (no password)
    WARN = "WARN"  # it works now and may not for long, or could not be checked
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        check: what was looked at, in a few words.
        verdict: how it went.
        what: what was found; no secret.
        remedy: what to do; empty if nothing.
    """

    check: str
    verdict: Verdict
    what: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Verdict:
    """Returns the worst verdict; PASS of nothing."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.PASS)


def checked(check: str, look: Callable[[], Finding]) -> Finding:
    """Runs one check; whatever it fails with becomes its finding, so that one failure hides no other."""
    try:
        return look()
    except ConfideError as error:
        problems = "".join(f"; {problem}" for problem in error.problems)
        return Finding(check, Verdict.FAIL, f"{error.code.name}: {error.what}{problems}", error.remedy)
    except OSError as error:
        return Finding(check, Verdict.FAIL, f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": "))
    except Exception as error:  # a defect in one check must not hide the others' findings
        return Finding(check, Verdict.FAIL, defect.place(error), "Report it.")
