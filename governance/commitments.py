"""Commitments to output shares, as parties and querier compare them before anything is opened (`protocols.commitments`)."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.commitments import NONCE_BYTES as NONCE_BYTES
from protocols.commitments import CommittedShare as CommittedShare
from protocols.commitments import check_opening as check_opening
from protocols.commitments import commitment_of as commitment_of
from protocols.errors import ConfideError, ErrorCode


def one_set(shown: Mapping[str, Mapping[str, Mapping[str, str]]], *, outputs: frozenset[str]) -> Mapping[str, Mapping[str, str]]:
    """Returns the one set of commitments that all computing parties show; to be called before any share is fetched.

    A party accepts a completed ending only with its own commitments in it, so a set that all of them show is what each of them
    committed to before any share was opened.

    Args:
        shown: for each computing party, the set in the ending that it signed: commitments by party and output.
        outputs: names of the job's outputs.

    Raises:
        ConfideError: COMMITMENT_DIFFERS: a set lacks a commitment (the fault of the party named), or two parties show different
            sets (then somebody ordered the messages of the session falsely; who did is not provable from here).
    """
    first, reference = next(iter(shown.items()))
    for party, commitments in shown.items():
        if {p: frozenset(found) for p, found in commitments.items()} != dict.fromkeys(shown, outputs):
            what = f"the ending that {party} shows has not one commitment of each computing party to each output"
            raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what, party=party)
        if commitments != reference:
            what = f"{first} and {party} were shown different sets of commitments; nothing was opened"
            raise ConfideError(ErrorCode.COMMITMENT_DIFFERS, what)
    return reference
