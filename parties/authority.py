"""How a governed command is authorised: a person of the institution signs for it, and the policy must permit her.

Every command that binds the institution takes the folder of a person, calls `authorise` before it does anything, and keeps the
signed document with `keep_authorisation` in the transaction of what it does. So nothing happens in an institution's name without
a name under it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from governance.audit.entries import EntryKind, Fact
from governance.documents import SignedDocument
from governance.people.authorisation import Authorisation, check_authorisation, read_authorisation, sign_authorisation
from governance.people.roles import Action
from governance.policy.rules import Policy
from parties.config import PartyConfig
from parties.people import PersonFolder
from parties.policy_file import load_policy
from parties.storage.database import Tables
from protocols.canonical import sha256_hex


def authorise(config: PartyConfig, person_folder: Path, action: Action, subject: str, now: datetime) -> SignedDocument:
    """Has a person sign that the party is to do something, and checks that she may.

    Args:
        config: the party's.
        person_folder: the person's, with her secret key.
        action: what the party is to do.
        subject: to what: the digest or the name of the document, job, model or data set, at most 256 characters; public.
        now: the time, UTC, whole seconds.

    Raises:
        ConfideError: NOT_AUTHORISED (the person's fault): the policy does not list her, with this key, in a role that may;
            BAD_SIGNATURE: it lists her with another key; INVALID_CONFIG: the policy or her folder.
    """
    policy = load_policy(config.policy)
    person, key = PersonFolder(person_folder).load()
    asked = Authorisation(config.party, person, action, subject, policy.digest, now.replace(microsecond=0))
    signed = sign_authorisation(asked, key)
    require_authorised(signed, config.party, policy, action, subject)
    return signed


def require_authorised(signed: SignedDocument, party: str, policy: Policy, action: Action, subject: str) -> Authorisation:
    """Checks an authorisation against a policy.

    Raises:
        ConfideError: NOT_AUTHORISED, BAD_SIGNATURE or INVALID_DOCUMENT, see `check_authorisation`.
    """
    return check_authorisation(signed, party=party, action=action, subject=subject, people=policy.persons)


def keep_authorisation(tables: Tables, signed: SignedDocument, *, now: datetime) -> str:
    """Keeps an authorisation, with its entry in the audit log, in the transaction of what it permits.

    Args:
        tables: of that transaction.
        signed: what `authorise` returned.
        now: the time, UTC.

    Returns:
        The digest of the signed document, 64 hexadecimal digits.
    """
    said, digest = read_authorisation(signed), sha256_hex(signed.to_bytes())
    tables.authorisations.add(signed, now=now)
    facts: dict[str, Fact] = {
        "person": said.person,
        "action": said.action.value,
        "subject": said.subject,
        "authorisation": digest,
    }
    tables.audit.append(EntryKind.AUTHORISATION, facts, now=now)
    return digest
