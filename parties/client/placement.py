"""Who computes and who deals."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class Placement:
    """Who computes and who deals. A dealer that colludes with a computing party reads everything: choose them with care."""

    computing_parties: tuple[str, ...] = ()
    dealer: str = ""

    def or_else(self, default: Placement) -> Placement:
        """Returns this placement with what it leaves open taken from another."""
        return Placement(self.computing_parties or default.computing_parties, self.dealer or default.dealer)

    def require(self) -> Placement:
        """Returns this placement if it is complete.

        Raises:
            ConfideError: INVALID_JOB: nobody is named to compute or to deal; there is no guess about whom to trust.
        """
        named = (("computing_parties", self.computing_parties), ("dealer", self.dealer))
        problems = [Problem(name, "nobody is named", "pass it, or set it in the profile") for name, value in named if not value]
        if problems:
            raise ConfideError(ErrorCode.INVALID_JOB, "the request does not say who takes part", problems=problems)
        return self
