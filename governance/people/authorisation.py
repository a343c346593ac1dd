"""An authorisation: a person's signature under one governed action, so that nobody acts for an institution unnamed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from governance.documents import DocumentKind, SignedDocument, sign, verify
from governance.identity.fields import fields_of, finish
from governance.identity.keys import SigningKey
from governance.people.person import People
from governance.people.roles import Action, require_permitted
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import TIME_FORMAT

FORMAT = "confide.authorisation/1"
_NAMES = {"format", "party", "person", "action", "subject", "policy", "time"}


@dataclass(frozen=True)
class Authorisation:
    """What a person signed; public among the people of the institution.

    Attributes:
        party: the institution that acts.
        person: who has it act.
        action: what she has it do.
        subject: to what: the digest or the name of the document, job, model or data set, at most 256 characters.
        policy: digest of the policy that lists her, 64 hexadecimal digits.
        time: when, UTC, whole seconds.
    """

    party: str
    person: str
    action: Action
    subject: str
    policy: str
    time: datetime

    def to_document(self) -> dict[str, object]:
        """Returns the authorisation as a document."""
        return {
            "format": FORMAT,
            "party": self.party,
            "person": self.person,
            "action": self.action.value,
            "subject": self.subject,
            "policy": self.policy,
            "time": self.time.strftime(TIME_FORMAT),
        }


def sign_authorisation(authorisation: Authorisation, key: SigningKey) -> SignedDocument:
    """Signs an authorisation with the person's own key."""
    return sign(authorisation.to_document(), kind=DocumentKind.AUTHORISATION, signer=authorisation.person, key=key)


def read_authorisation(signed: SignedDocument) -> Authorisation:
    """Reads an authorisation strictly; does not verify it.

    Raises:
        ConfideError: INVALID_DOCUMENT (its author's fault), with every problem.
    """
    problems: list[Problem] = []
    fields = fields_of(signed.document, names=_NAMES, form=FORMAT, problems=problems)
    found = Authorisation(
        party=fields.text("party"),
        person=fields.text("person"),
        action=fields.choice("action", Action, otherwise=Action.DENY_JOB),
        subject=fields.text("subject"),
        policy=fields.text("policy"),
        time=fields.time("time"),
    )
    finish(problems, what="the authorisation")
    return found


def check_authorisation(signed: SignedDocument, *, party: str, action: Action, subject: str, people: People) -> Authorisation:
    """Checks that somebody who may have signed this very action at this very party.

    Args:
        signed: the document.
        party: the party that is to act.
        action: what it is to do.
        subject: to what.
        people: whom the party's policy lists.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE; NOT_AUTHORISED: the person is not listed, may not do this, or signed
            something else.
    """
    found = read_authorisation(signed)
    person = people.get(found.person)
    verify(signed, kind=DocumentKind.AUTHORISATION, signer=person.id, key=person.key)
    if (found.party, found.action, found.subject) != (party, action, subject):
        what = f"{person.id} signed {found.action.value} of {found.subject} at {found.party}, not {action.value} of {subject}"
        raise ConfideError(ErrorCode.NOT_AUTHORISED, what)
    require_permitted(action, person.roles, person=person.id)
    return found
