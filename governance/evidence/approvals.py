"""Approvals of releases: people's signatures under a bundle of evidence, and which of them count."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from governance.documents import SignedDocument
from governance.people.authorisation import check_authorisation, read_authorisation
from governance.people.roles import Action, is_permitted
from governance.policy.release import Quorum
from governance.policy.rules import GROUPS, Policy
from protocols.errors import ConfideError


def approvers_of(policy: Policy, quorum: Quorum) -> frozenset[str]:
    """Returns the ids of the people whom a quorum names and who may approve a release at all."""
    roles = {GROUPS[name] for name in quorum.of if name in GROUPS}
    named = [person for person in policy.people if person.id in quorum.of or person.roles & roles]
    return frozenset(person.id for person in named if is_permitted(Action.APPROVE_RELEASE, person.roles))


def counted(
    signed: Iterable[SignedDocument],
    bundle: str,
    *,
    party: str,
    policy: Policy,
    among: Collection[str],
    between: tuple[datetime, datetime] | None = None,
) -> frozenset[str]:
    """Returns who has approved this very bundle, of those who may; other documents are passed over.

    Args:
        signed: authorisations of all kinds.
        bundle: its digest.
        party: the party that is to release.
        policy: its policy, whose people count.
        among: ids of those who may.
        between: not before the first and not after the second, UTC; None for whenever.
    """
    found: set[str] = set()
    for document in signed:
        try:
            said = read_authorisation(document)
            if (said.action, said.subject) != (Action.APPROVE_RELEASE, bundle) or said.person not in among:
                continue
            if between is not None and not between[0] <= said.time <= between[1]:
                continue
            check_authorisation(document, party=party, action=Action.APPROVE_RELEASE, subject=bundle, people=policy.persons)
        except ConfideError:
            continue  # of somebody who is not listed any more, or with another key
        found.add(said.person)
    return frozenset(found)
