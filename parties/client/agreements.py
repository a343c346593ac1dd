"""Which agreement a request is made under: the one that it names, or the one that is in force at everybody who takes part.

A client that chooses wrongly is refused by the parties; nothing here is a protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from governance.consent.agreement import Agreement, SignedAgreement, why_not_in_force
from governance.consent.facts import facts_of
from governance.consent.matching import agreement_problems
from governance.consent.reading import time_text
from parties.client.everybody import answers_of_everybody, ask_everybody
from parties.client.listing import Listing
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import governance_pb2
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType

if TYPE_CHECKING:
    from parties.client.client import Client

AGREEMENT_HEADS = ("agreement", "digest", "purposes", "parties", "in force at", "until")
# What stands in a job while it is being prepared.
NO_AGREEMENT = "0" * 64
NO_PURPOSE = "not-chosen"
AGREE_WITHIN_MINUTES = 2
_LEAST_DIGITS = 8
_DIGITS = 64
_SHOWN = 12


@dataclass(frozen=True)
class AgreementEntry:
    """An agreement as the parties show it; public.

    Attributes:
        signed: with the signatures that were shown.
        in_force_at: parties that regard it as in force now.
    """

    signed: SignedAgreement
    in_force_at: tuple[str, ...]

    @property
    def agreement(self) -> Agreement:
        """What it says."""
        return self.signed.agreement

    def cells(self) -> tuple[str, ...]:
        """Returns its line in a listing."""
        agreement = self.agreement
        return (
            agreement.name,
            self.signed.digest[:_SHOWN],
            ", ".join(agreement.purposes),
            ", ".join(agreement.parties),
            ", ".join(self.in_force_at) or "nobody",
            time_text(agreement.expires),
        )


def list_agreements(client: Client, parties: Sequence[str] = ()) -> Listing[AgreementEntry]:
    """Returns the agreements that these parties know, all parties if none is named; those not heard are named beside it."""
    asked = tuple(parties) or tuple(party.id for party in client.directory.parties)
    shown: dict[str, list[governance_pb2.Agreement]] = {}
    unheard: dict[str, str] = {}
    for party, answer in zip(asked, answers_of_everybody(asked, client.calls.agreements), strict=True):
        if isinstance(answer, ConfideError):
            unheard[party] = answer.what
        else:
            shown[party] = answer
    entries = sorted(_merge(shown), key=lambda entry: (entry.agreement.name, entry.signed.digest))
    return Listing(AGREEMENT_HEADS, entries, unheard=unheard)


def under_agreement(client: Client, job: Job, *, agreement: str | None, purpose: str | None, now: datetime) -> Job:
    """Returns a job with agreement and purpose filled in.

    Args:
        client: the researcher's connections.
        job: complete but for these two.
        agreement: its digest, the beginning of it, or its name; None for the one that is in force at every participant, and if
            there are several, the one that covers the job.
        purpose: None for the agreement's only one.
        now: the time, UTC.

    Raises:
        ConfideError: NO_AGREEMENT: none is in force, or none covers the job; INVALID_JOB: several do, or it has several
            purposes; a participant that cannot be asked.
    """
    if agreement is not None and len(agreement) == _DIGITS and purpose is not None:
        return replace(job, agreement=agreement, purpose=purpose)  # nothing is left to ask for; the parties decide
    shown = dict(zip(job.participants, ask_everybody(job.participants, client.calls.agreements), strict=True))
    known = [entry for entry in _merge(shown) if set(job.participants) <= set(entry.in_force_at)]
    known = [
        entry for entry in known if not any(why_not_in_force(entry.signed, directory=client.directory, revoked_by={}, now=now))
    ]
    if agreement is not None:
        known = [entry for entry in known if _is_named(entry, agreement)]
    if not known:
        named = "no agreement" if agreement is None else f"no agreement {agreement[:_DIGITS]}"
        what = f"{named} is in force at {', '.join(job.participants)}"
        raise ConfideError(ErrorCode.NO_AGREEMENT, what, remedy="Look at `confide catalogue agreements`; ask who has not signed.")
    choices = [replace(job, agreement=entry.signed.digest, purpose=_purpose(entry.agreement, purpose)) for entry in known]
    if len(choices) > 1:
        choices = _covering(client, choices, known)
    if not choices[0].purpose:
        purposes = ", ".join(known[0].agreement.purposes)
        raise ConfideError(ErrorCode.INVALID_JOB, f"the agreement has several purposes: {purposes}", remedy="Name one of them.")
    return choices[0]


def agreement_at(
    client: Client, party: str, job_type: JobType, *, agreement: str | None, purpose: str | None, now: datetime
) -> tuple[str, str]:
    """Returns digest and purpose of the agreement under which one party is asked something of a type.

    Args:
        client: the researcher's connections.
        party: who is asked.
        job_type: what for.
        agreement: its digest, the beginning of it, or its name; None for the one that is in force there and permits the type.
        purpose: None for the agreement's only one.
        now: the time, UTC.

    Raises:
        ConfideError: NO_AGREEMENT: none is in force there that permits it; INVALID_ARGUMENT: several do, or it has several
            purposes; a party that cannot be asked.
    """
    if agreement is not None and len(agreement) == _DIGITS and purpose is not None:
        return agreement, purpose
    known = [
        entry
        for entry in _merge({party: client.calls.agreements(party)})
        if party in entry.in_force_at
        and not any(why_not_in_force(entry.signed, directory=client.directory, revoked_by={}, now=now))
        and (job_type in entry.agreement.job_types if agreement is None else _is_named(entry, agreement))
    ]
    if not known:
        named = f"no agreement that permits {job_type.value}" if agreement is None else f"no agreement {agreement[:_DIGITS]}"
        remedy = "Look at `confide catalogue agreements`; ask who has not signed."
        raise ConfideError(ErrorCode.NO_AGREEMENT, f"{named} is in force at {party}", remedy=remedy)
    if len(known) > 1:
        names = ", ".join(f"{entry.agreement.name} {entry.signed.digest[:_SHOWN]}" for entry in known)
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"several agreements permit it: {names}", remedy="Name one of them.")
    found = _purpose(known[0].agreement, purpose)
    if not found:
        purposes = ", ".join(known[0].agreement.purposes)
        what = f"the agreement has several purposes: {purposes}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name one of them.")
    return known[0].signed.digest, found


def agree_by(created: datetime, *, expires: datetime, minutes: int | None) -> datetime:
    """Returns until when everybody must have countersigned a job.

    Args:
        created: when the job was made.
        expires: when it ends at the latest.
        minutes: what the request says; None where no people are waited for.
    """
    return min(created + timedelta(minutes=minutes or AGREE_WITHIN_MINUTES), expires)


def _covering(client: Client, choices: list[Job], known: list[AgreementEntry]) -> list[Job]:
    institution = {entry.id: entry.institution for entry in client.directory.researchers}.get(client.researcher)
    covering, against = [], []
    for job, entry in zip(choices, known, strict=True):
        facts = facts_of(job, institution=institution, sources=())
        problems = tuple(agreement_problems(job, entry.agreement, facts, ()))
        against += [Problem(f"{entry.agreement.name} {p.where}", p.what, p.remedy) for p in problems]
        if not problems:
            covering.append(job)
    if len(covering) == 1:
        return covering
    names = ", ".join(f"{entry.agreement.name} {entry.signed.digest[:_SHOWN]}" for entry in known)
    if covering:
        raise ConfideError(ErrorCode.INVALID_JOB, f"several agreements cover the request: {names}", remedy="Name one of them.")
    raise ConfideError(ErrorCode.NO_AGREEMENT, f"none of the agreements covers the request: {names}", problems=against)


def _purpose(agreement: Agreement, purpose: str | None) -> str:
    if purpose is not None:
        return purpose
    return agreement.purposes[0] if len(agreement.purposes) == 1 else ""


def _is_named(entry: AgreementEntry, named: str) -> bool:
    by_digest = len(named) >= _LEAST_DIGITS and entry.signed.digest.startswith(named)
    return by_digest or entry.agreement.name == named


def _merge(shown: dict[str, list[governance_pb2.Agreement]]) -> list[AgreementEntry]:
    """Brings together what parties show: one entry for each body, with all signatures that anybody has."""
    found: dict[str, SignedAgreement] = {}
    in_force: dict[str, list[str]] = {}
    for party, listed in shown.items():
        for message in listed:
            signed = SignedAgreement.unsigned(message.body)
            signed = found.get(signed.digest, signed)
            for signature in message.signatures:
                signed = signed.with_signature(from_wire(signature))
            found[signed.digest] = signed
            in_force.setdefault(signed.digest, []).extend([party] if message.in_force else [])
    return [AgreementEntry(signed, tuple(in_force[digest])) for digest, signed in found.items()]
