"""What `confide grant` says of grants for published models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from parties.cli.output import Json, Output, table
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from governance.encrypted.grant import EncryptedGrant
    from parties.config import PartyConfig
    from parties.encrypted_grants import IssuedEncryptedGrant

_SHOWN = 12


def create_from(config: PartyConfig, person: Path, file: Path, output: Output, *, time: datetime) -> None:
    """Issues the grant for a published model that a file says."""
    from parties.encrypted_grant_files import load_encrypted_grant_terms
    from parties.encrypted_grants import create_encrypted_grant

    record = create_encrypted_grant(config, person, load_encrypted_grant_terms(file), now=time)
    text = [f"Issued grant {record.grant.grant_id} for {record.grant.ref.label}.", *in_words(record.grant, learnt=record.learnt)]
    output.result(_data(record.grant, learnt=record.learnt), "\n".join(text))


def list_data(found: Sequence[IssuedEncryptedGrant], time: datetime) -> list[Json]:
    """Returns grants for the JSON formats."""
    return [_data(each.record.grant, learnt=each.record.learnt) | {"standing": each.standing(time)} for each in found]


def list_text(found: Sequence[IssuedEncryptedGrant], time: datetime) -> str:
    """Returns grants for people."""
    rows = [
        (
            each.record.grant.grant_id[:_SHOWN],
            each.record.grant.ref.label,
            f"{each.record.learnt} of {each.record.grant.max_answers}",
            each.record.grant.expires.strftime(TIME_FORMAT),
            each.standing(time),
        )
        for each in found
    ]
    return table(("grant", "for published model", "numbers learnt", "until", "standing"), rows)


def show(found: IssuedEncryptedGrant, output: Output, time: datetime) -> None:
    """Prints a grant for a published model: what it permits, who asked under it, and how it stands."""
    grant, learnt = found.record.grant, found.record.learnt
    enquiries: list[Json] = []
    lines = [f"grant {grant.grant_id}, {found.standing(time)}", *in_words(grant, learnt=learnt)]
    if found.revocation is not None:
        lines.append(f"revoked: {found.revocation.reason}")
    for each in found.enquiries:
        asked, ended = each.enquiry, each.reason if each.ended is not None else None
        enquiries.append(
            {
                "enquiry": asked.enquiry_id,
                "querier": asked.querier,
                "max_answers": asked.max_answers,
                "answered": each.answered,
                "requests": each.requests,
                "ended": ended,
            }
        )
        stands = f"ended: {ended}" if each.ended is not None else "open"
        lines.append(f"enquiry {asked.enquiry_id[:_SHOWN]} by {asked.querier}: {each.answered} of {asked.max_answers}, {stands}")
    revocation = None if found.revocation is None else dict(found.revocation.to_document())
    standing = {"standing": found.standing(time), "revocation": revocation, "enquiries": enquiries}
    output.result({**_data(grant, learnt=learnt), **standing}, "\n".join(lines))


def in_words(grant: EncryptedGrant, *, learnt: int) -> list[str]:
    """Returns what a grant permits, in lines for people."""
    named = {
        "for": grant.ref.label,
        "under agreement": grant.agreement[:_SHOWN],
        "purposes": ", ".join(grant.purposes),
        "recipients": ", ".join(grant.recipients),
        "numbers learnt or set aside": f"{learnt} of {grant.max_answers}, at most {grant.max_answers_per_key} under one key",
        "requests": f"at most {grant.max_requests_per_hour} an hour and recipient",
        "the model": "counts as known to them" if grant.counts_as_known else "is to stay unknown to them",
        "valid": f"{grant.valid_from.strftime(TIME_FORMAT)} to {grant.expires.strftime(TIME_FORMAT)}",
    }
    return [f"  {name}: {value}" for name, value in named.items()]


def _data(grant: EncryptedGrant, *, learnt: int) -> dict[str, Json]:
    said = {field: value for field, value in grant.to_document().items() if field != "format"}
    return {"grant": grant.grant_id, **said, "learnt": learnt}
