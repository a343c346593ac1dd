"""Messages that must arrive: kept with the session's state and repeated until they are delivered or answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.session import documents as read
from protocols.session.messages import Body, read_body
from protocols.session.timing import Timing


@dataclass
class Letter:
    """One message to one party.

    Attributes:
        to: the addressee.
        body: what it says.
        wants_answer: repeated until answered; otherwise until delivered.
        token: of its latest sending; 0 before the first.
        tries: how often it was sent.
        due: Unix time in seconds of the next sending.
    """

    to: str
    body: Body
    wants_answer: bool
    token: int = 0
    tries: int = 0
    due: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """Returns what is kept over a restart."""
        return {"to": self.to, "kind": self.body.KIND, "body": self.body.to_document(), "wants_answer": self.wants_answer}

    @staticmethod
    def from_document(document: object) -> Letter:
        """Reads a kept letter, due at once; raises INVALID_DOCUMENT."""
        found = read.fields(document, "to", "kind", "body", "wants_answer")
        return Letter(read.identifier(found["to"]), read_body(found["kind"], found["body"]), read.flag(found["wants_answer"]))


class Outbox:
    """The letters of one session at one participant; at most one of a kind to a party, the latest."""

    def __init__(self, letters: tuple[Letter, ...] = ()) -> None:
        self._letters = list(letters)

    @property
    def letters(self) -> tuple[Letter, ...]:
        """All letters, in the order they were posted."""
        return tuple(self._letters)

    def post(self, letter: Letter) -> None:
        """Adds a letter; it replaces one of the same kind to the same party."""
        self.drop(type(letter.body), to=letter.to)
        self._letters.append(letter)

    def drop(self, *kinds: type[Body], to: str = "") -> None:
        """Removes letters of these kinds, to one party or (empty) to all."""
        self._letters = [x for x in self._letters if not (isinstance(x.body, kinds) and to in ("", x.to))]

    def clear(self) -> None:
        """Removes all letters."""
        self._letters = []

    def delivered(self, token: int, now: float, timing: Timing) -> None:
        """Notes that the sending with this token arrived."""
        for letter in self._letters:
            if letter.token == token:
                letter.due = now + timing.answer_s
        self._letters = [x for x in self._letters if x.token != token or x.wants_answer]

    def undelivered(self, token: int, now: float, timing: Timing) -> None:
        """Notes that the sending with this token failed; it is repeated after the back-off."""
        for letter in self._letters:
            if letter.token == token:
                letter.due = now + timing.send_backoff_s[min(letter.tries, len(timing.send_backoff_s)) - 1]

    def hurry(self, to: str, now: float) -> None:
        """Makes the letters to this party due at once."""
        for letter in self._letters:
            if letter.to == to:
                letter.due = now
