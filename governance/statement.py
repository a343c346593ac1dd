"""What all documents have in common by which a party says something of its own to its consortium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from governance.documents import DocumentKind, SignedDocument, verify
from governance.identity.directory import Directory
from protocols.errors import ConfideError, ErrorCode


class Statement(Protocol):
    """A document that names the consortium that it is made in."""

    @property
    def consortium(self) -> str:
        """Id of the consortium."""


S = TypeVar("S", bound=Statement)


def verify_statement(
    signed: SignedDocument,
    directory: Directory,
    *,
    kind: DocumentKind,
    read: Callable[[bytes], S],
    author: Callable[[S], str],
    what: str,
) -> S:
    """Checks that the party that a statement names as its author has signed it, in this consortium, and returns it.

    Args:
        signed: what arrived.
        directory: whose keys are believed.
        kind: the only kind that is accepted here.
        read: reads the body strictly.
        author: says whom a statement names as its author.
        what: the statement in words, without an article, for example `grant`.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    verify(signed, kind=kind, signer=signed.signer, key=directory.party(signed.signer).signing_key)
    statement = read(signed.body)
    if author(statement) != signed.signer:
        wrong = f"{signed.signer} signed a {what} of {author(statement)}"
        raise ConfideError(ErrorCode.BAD_SIGNATURE, wrong, party=signed.signer)
    if statement.consortium != directory.consortium:
        wrong = f"the {what} is one in the consortium {statement.consortium}, not in {directory.consortium}"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, wrong, party=signed.signer)
    return statement
