"""Aliases: what a name such as `diagnosis@live` stands for, at each holder by its own signed statement.

Forward, every holder moves by its own decision; until all have, the alias is not one answer and resolves nowhere. Backward,
one holder's decision is enough: the others follow at once, but only to a version that they had themselves put behind this
alias before, and that may still be used. So nobody brings a version into use at another holder, and anybody takes one out.

An alias's history at a holder is a stack: a move forward puts a version on top, a move back takes the top away, and a version
that falls (its consent was withdrawn) is taken away wherever it stands. If the top falls, the alias stands for nothing until
somebody moves it: which version is fit for use is a decision, not an accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby

from governance.consent.reading import refuse, require_one_form, time_text
from governance.documents import DocumentKind, SignedDocument, sign
from governance.identity.directory import Directory
from governance.identity.fields import fields_of
from governance.identity.keys import SigningKey
from governance.identity.names import check_id
from governance.statement import verify_statement
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import Problem
from protocols.job_fields import check_hex

FORMAT = "confide.alias/1"
VERSION_DIGITS = 12
# A move of one's own that is later than another holder's move back stands; clocks of honest parties may differ by this much.
CLOCK_SKEW = timedelta(minutes=5)
_NAMES = {"format", "consortium", "issuer", "model", "alias", "move", "version", "before", "time"}


class AliasName(Enum):
    """The names that a model version may go by; a closed set, so that each has one meaning everywhere."""

    LIVE = "live"  # what services use
    CANDIDATE = "candidate"  # what may become live
    RELEASED = "released"  # what has left the shares; needs evidence


class MoveKind(Enum):
    """How an alias moved."""

    SET = "set"  # forward, by this holder's own decision
    ROLL_BACK = "roll-back"  # to what it stood for before
    FALL = "fall"  # away from a version that may not be used any more


@dataclass(frozen=True)
class Move:
    """One move of an alias at a holder; public in the consortium.

    Attributes:
        kind: how.
        version: SET: the new version; ROLL_BACK: the one it left, empty for none; FALL: the one that fell.
        origin: the party that decided: the holder itself, or one that rolled back.
        time: when the holder moved it, UTC.
    """

    kind: MoveKind
    version: str
    origin: str
    time: datetime


class AliasHistory:
    """What an alias stands for at a holder, from its moves in their order."""

    def __init__(self, moves: Sequence[Move]) -> None:
        """Takes the moves, the oldest first."""
        stack: list[str | None] = []
        self._since: datetime | None = None
        for move in moves:
            if move.kind is MoveKind.SET:
                stack = [*_without(stack, None), move.version]
            elif move.kind is MoveKind.ROLL_BACK:
                stack = stack[:-1]
            elif stack:
                fell = stack[-1] == move.version
                stack = _without(stack, move.version) + ([None] if fell else [])
            self._since = move.time
        self._stack = stack
        self.moves = tuple(moves)

    @property
    def current(self) -> str | None:
        """The version that it stands for, or None."""
        return self._stack[-1] if self._stack else None

    @property
    def before(self) -> str | None:
        """The version that a move back leads to, or None if there is none."""
        return self._stack[-2] if len(self._stack) > 1 else None

    def holds(self, version: str) -> bool:
        """Returns whether the alias stands for a version, or would after some moves back."""
        return version in self._stack

    @property
    def since(self) -> datetime | None:
        """When it last moved, UTC."""
        return self._since

    def may_follow(self, statement: AliasStatement) -> bool:
        """Returns whether another holder's move back is one that this holder makes too.

        Only from the version that the other left to the one that stood here before, and not if this holder has moved the alias
        there later than the other one moved back.
        """
        if statement.move is not MoveKind.ROLL_BACK or self._since is None:
            return False
        if self._since > statement.time + CLOCK_SKEW:
            return False
        return (self.current, self.before) == (statement.before, statement.version)


@dataclass(frozen=True)
class AliasStatement:
    """What a holder says about an alias of its own; public in the consortium.

    Attributes:
        consortium: its id.
        issuer: the holder.
        model: the model's name.
        alias: which alias.
        move: how it moved.
        version: what it stands for now; None: nothing (after a fall).
        before: what it stood for until now; None: nothing.
        time: when, UTC, whole seconds.
    """

    consortium: str
    issuer: str
    model: str
    alias: AliasName
    move: MoveKind
    version: str | None
    before: str | None
    time: datetime

    @property
    def label(self) -> str:
        """How requests name the alias."""
        return f"{self.model}@{self.alias.value}"

    def to_document(self) -> Document:
        """Returns the statement as a document."""
        return {
            "format": FORMAT,
            "consortium": self.consortium,
            "issuer": self.issuer,
            "model": self.model,
            "alias": self.alias.value,
            "move": self.move.value,
            "version": self.version,
            "before": self.before,
            "time": time_text(self.time),
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes, which are what is signed and kept."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(body: bytes) -> AliasStatement:
        """Reads a statement; nothing about it is believed before its signature is verified.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault), with all problems.
        """
        problems: list[Problem] = []
        fields = fields_of(parse_canonical(body), names=_NAMES, form=FORMAT, problems=problems)
        statement = AliasStatement(
            consortium=fields.text("consortium"),
            issuer=fields.text("issuer"),
            model=fields.text("model"),
            alias=fields.choice("alias", AliasName, otherwise=AliasName.CANDIDATE),
            move=fields.choice("move", MoveKind, otherwise=MoveKind.FALL),
            version=fields.optional_text("version"),
            before=fields.optional_text("before"),
            time=fields.time("time"),
        )
        refuse(problems or _check(statement), what="the statement about an alias")
        require_one_form(statement.to_document(), body, what="the statement about an alias")
        return statement


def sign_alias(statement: AliasStatement, key: SigningKey) -> SignedDocument:
    """Signs a statement as its issuer.

    Raises:
        ConfideError: INVALID_DOCUMENT: it would be refused; all problems at once.
    """
    refuse(_check(statement), what="the statement about an alias")
    return sign(statement.to_document(), kind=DocumentKind.ALIAS, signer=statement.issuer, key=key)


def verify_alias(signed: SignedDocument, directory: Directory) -> AliasStatement:
    """Checks that the party that it names has made the statement in this consortium, and returns it.

    Whether that party holds the model is the reader's question.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault).
    """
    return verify_statement(
        signed,
        directory,
        kind=DocumentKind.ALIAS,
        read=AliasStatement.from_bytes,
        author=lambda statement: statement.issuer,
        what="statement about an alias",
    )


def _without(stack: Sequence[str | None], version: str | None) -> list[str | None]:
    """Takes a version away; what it lay between may be one version then, and a move back must lead to another one."""
    return [entry for entry, _ in groupby(entry for entry in stack if entry != version)]


def _check(statement: AliasStatement) -> Iterable[Problem]:
    yield from check_id("consortium", statement.consortium)
    yield from check_id("issuer", statement.issuer)
    yield from check_id("model", statement.model)
    for name, version in (("version", statement.version), ("before", statement.before)):
        if version is not None:
            yield from check_hex(name, version, VERSION_DIGITS)
    if (statement.version is None) != (statement.move is MoveKind.FALL):
        yield Problem("version", "an alias stands for nothing after a fall, and only then", "ask its author")
    if statement.move is MoveKind.FALL and statement.before is None:
        yield Problem("before", "an alias that falls stood for something", "ask its author")
