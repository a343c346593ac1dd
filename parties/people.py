"""A person's own folder: her signing key, made where she works, and the id under which policies list her.

<folder>/keys/signing.pem    secret key, mode 0600, made here, never copied anywhere
<folder>/person.json         her id and public key; nothing secret
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from governance.identity.fields import Fields, finish
from governance.identity.keys import SigningKey, VerifyingKey, generate_signing_key
from governance.identity.names import check_id
from governance.people.person import Person
from governance.people.roles import INCOMPATIBLE, PersonRole
from parties.storage.files import make_folder, read_public, write_public, write_secret
from parties.storage.state import MemberFolder
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode, Problem

FORMAT = "confide.person/1"
_MAX_BYTES = 4096


@dataclass(frozen=True)
class PersonFolder:
    """Where a person keeps her key."""

    root: Path

    @property
    def description_file(self) -> Path:
        """Her id and public key."""
        return self.root / "person.json"

    @property
    def signing_key_file(self) -> Path:
        """Her secret key; as that of a member."""
        return MemberFolder(self.root).signing_key_file

    def create(self, person: str) -> VerifyingKey:
        """Makes the folder and a key in it.

        Raises:
            ConfideError: JOB_CONFLICT: there is a key already; INVALID_ARGUMENT: the id is none.
        """
        problems = list(check_id("id", person))
        if problems:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{person[:63]!r} cannot be a person's id", problems=problems)
        if self.signing_key_file.exists():
            raise ConfideError(ErrorCode.JOB_CONFLICT, f"{self.root} holds a person's key already; nothing is overwritten")
        make_folder(self.signing_key_file.parent)
        key = generate_signing_key()
        write_secret(self.signing_key_file, key.export_secret_pem())
        document = {"format": FORMAT, "id": person, "key": key.public.hex}
        write_public(self.description_file, canonical_bytes(document))
        return key.public

    def load(self) -> tuple[str, SigningKey]:
        """Reads her id and secret key.

        Raises:
            ConfideError: FILE_MODE, INVALID_CONFIG, INVALID_DOCUMENT or INVALID_ARGUMENT (the person's to mend).
        """
        problems: list[Problem] = []
        document = parse_canonical(read_public(self.description_file, max_bytes=_MAX_BYTES))
        fields = Fields(document, names={"format", "id", "key"}, where="", problems=problems)
        person, public = fields.text("id"), fields.verifying_key("key")
        if fields.text("format") != FORMAT:
            problems.append(Problem("format", f"this version reads {FORMAT}", "use the same version of Confide"))
        finish([*problems, *check_id("id", person)], what=str(self.description_file))
        key = MemberFolder(self.root).load_signing_key()
        if key.public != public:
            raise ConfideError(ErrorCode.INVALID_CONFIG, f"{self.description_file} does not belong to the key beside it")
        return person, key


def make_person(folder: Path, person: str, roles: Iterable[PersonRole], *, member: str | None = None) -> Person:
    """Makes a person's folder, and returns her as a policy lists her.

    Args:
        folder: hers.
        person: her id at the institution.
        roles: what she does there.
        member: the researcher id under which she asks for jobs herself, if she does.

    Raises:
        ConfideError: as `PersonFolder.create`; INVALID_ARGUMENT also for a person whom no policy could list.
    """
    held = frozenset(roles)
    problems = [] if member is None else list(check_id("member", member))
    if held >= INCOMPATIBLE:
        both = " and ".join(sorted(role.value for role in INCOMPATIBLE))
        problems.append(Problem("roles", f"nobody is {both}", "give one of the two roles to somebody else"))
    if problems:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"no policy could list {person[:63]!r} so", problems=problems)
    return Person(person, held, PersonFolder(folder).create(person), member)
