"""A person of an institution, as its policy lists her."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from governance.identity.keys import VerifyingKey
from governance.identity.names import check_id
from governance.people.roles import INCOMPATIBLE, PersonRole
from protocols.errors import ConfideError, ErrorCode, Problem


@dataclass(frozen=True)
class Person:
    """Somebody who may act for an institution; public among its people.

    Attributes:
        id: unique at the institution; 1 to 63 of a-z, 0-9 and -.
        roles: what she does there; at least one.
        key: public key of what she signs.
        member: the researcher id under which she asks for jobs herself, or None; she never approves those.
    """

    id: str
    roles: frozenset[PersonRole]
    key: VerifyingKey
    member: str | None = None

    def is_author(self, querier: str, querier_key: VerifyingKey | None) -> bool:
        """Returns whether a job of this querier is this person's own request: by her member id, or by one key for both."""
        return self.member == querier or self.key == querier_key


class People:
    """The people of one institution, by id."""

    def __init__(self, people: Iterable[Person]) -> None:
        self._by_id: Mapping[str, Person] = {person.id: person for person in people}

    def __iter__(self) -> Iterator[Person]:
        return iter(self._by_id.values())

    def find(self, person: str) -> Person | None:
        """Returns a person, or None."""
        return self._by_id.get(person)

    def get(self, person: str) -> Person:
        """Returns a person.

        Raises:
            ConfideError: NOT_AUTHORISED: nobody of this id is listed.
        """
        found = self.find(person)
        if found is None:
            raise ConfideError(ErrorCode.NOT_AUTHORISED, f"{person[:63]} is not among the people of the policy")
        return found

    def with_role(self, role: PersonRole) -> tuple[Person, ...]:
        """Returns everybody who holds a role, in the order of the list."""
        return tuple(person for person in self._by_id.values() if role in person.roles)


def check_people(people: Sequence[Person]) -> Iterable[Problem]:
    """Yields what is wrong with a list of people; `where` counts them from 0."""
    ids: dict[str, int] = {}
    keys: dict[str, int] = {}
    for number, person in enumerate(people):
        where = f"people.{number}"
        yield from check_id(f"{where}.id", person.id)
        if not person.roles:
            yield Problem(f"{where}.roles", f"{person.id} holds no role", "name at least one")
        if person.roles >= INCOMPATIBLE:
            both = " and ".join(sorted(role.value for role in INCOMPATIBLE))
            what = f"{person.id} is {both}: who runs the machines does not approve what runs on them"
            yield Problem(f"{where}.roles", what, "give one of the two roles to somebody else")
        if ids.setdefault(person.id, number) != number:
            yield Problem(f"{where}.id", f"{person.id} is listed twice", "remove one")
        # Two people with one key could stand for each other, and one could approve twice.
        if keys.setdefault(person.key.hex, number) != number:
            yield Problem(f"{where}.key", f"the key is that of people.{keys[person.key.hex]}", "each person makes an own key")
