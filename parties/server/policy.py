"""The party's policy as it is now: the file may be changed while the party serves."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from threading import Lock

import structlog

from governance.audit.entries import EntryKind, Fact
from governance.policy.rules import Policy
from parties.policy_file import load_policy
from parties.storage.database import Tables
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError

_log = structlog.get_logger()


class CurrentPolicy:
    """The policy as it is now; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Reads the policy.

        Raises:
            ConfideError: INVALID_CONFIG or INVALID_ARGUMENT (the operator's fault): a party without a policy does not serve.
        """
        self._path = path
        self._lock = Lock()
        self._seen = _stamp(path)
        self._current = load_policy(path)

    def get(self) -> Policy:
        """Returns the newest policy; a file that is not valid, or gone, is not taken over, and the last good one stays."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                try:
                    found = load_policy(self._path)
                except ConfideError as error:
                    _log.error("policy_refused", code=error.code.name, what=str(error))
                else:
                    if found.digest != self._current.digest:
                        _log.info("policy", digest=found.digest)
                    self._current = found
            return self._current


def note_policy(tables: Tables, policy: Policy, *, now: datetime) -> None:
    """Keeps the policy that decides from now on, with its entry in the audit log, unless it is the one that did before.

    Called in the transaction of every decision, so that no decision stands in the log before its policy.
    """
    document = canonical_bytes(policy.to_document())
    if tables.policies.add(digest=policy.digest, document=document, now=now):
        facts: dict[str, Fact] = {"policy": policy.digest, "rules": len(policy.rules), "people": len(policy.people)}
        tables.audit.append(EntryKind.POLICY, facts, now=now)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
