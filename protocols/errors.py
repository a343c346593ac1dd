"""The closed vocabulary of failures.

Every failure that a person or another party can see is one `ConfideError` with one `ErrorCode`. A code is stable and never
reused; it says whose fault the failure is, so that nobody has to read a traceback to know who must act. Details are public
text: never put a row, a weight, a share or a key into one.

    ConfideError
      +-- code: ErrorCode        what happened, whose fault, what to do
      +-- problems: (Problem...) every finding of a composite check at once
      +-- party                  the party at fault, where that is provable
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.error_codes import ErrorCode as ErrorCode
from protocols.error_kinds import Fault as Fault
from protocols.error_kinds import Kind as Kind


@dataclass(frozen=True)
class Problem:
    """One finding of a check.

    Attributes:
        where: the field, row and column, module or file; empty if the whole.
        what: what is wrong, without any secret value.
        remedy: what to do about it.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """One line for people."""
        head = f"{self.where}: " if self.where else ""
        return f"{head}{self.what}" + (f" ({self.remedy})" if self.remedy else "")


class ConfideError(Exception):
    """A failure with a stable code; see the module for its parts."""

    def __init__(
        self, code: ErrorCode, what: str = "", *, problems: Iterable[Problem] = (), remedy: str = "", party: str = ""
    ) -> None:
        self.code = code
        self.what = what or code.entry.summary
        self.problems = tuple(problems)
        self.remedy = remedy or code.entry.remedy
        self.party = party
        super().__init__(self.what)

    def __str__(self) -> str:
        """Everything a person needs: what, every problem, what to do."""
        lines = [f"{self.code.name}: {self.what}"]
        lines += [f"  - {problem}" for problem in self.problems]
        lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)
