"""Who computes and who deals, and under which agreement."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class Placement:
    """Who computes and who deals, and under which agreement; what is left empty is taken from elsewhere.

    A dealer that colludes with a computing party reads everything: choose them with care.

    Attributes:
        computing_parties: party ids in order; the first leads.
        dealer: party id.
        agreement: name or digest; empty for the one in force that covers the job.
        purpose: one of the agreement's; empty for its only one.
    """

    computing_parties: tuple[str, ...] = ()
    dealer: str = ""
    agreement: str = ""
    purpose: str = ""

    @property
    def beside_holders(self) -> Placement:
        """This placement without computing parties: a model's holders compute, whoever is named here."""
        return replace(self, computing_parties=())

    def or_else(self, default: Placement) -> Placement:
        """Returns this placement with what it leaves open taken from another."""
        return Placement(
            self.computing_parties or default.computing_parties,
            self.dealer or default.dealer,
            self.agreement or default.agreement,
            self.purpose or default.purpose,
        )

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
