"""Targets that read licences of released weights."""

from __future__ import annotations

from datetime import timedelta

from governance.licence import Licence, Use, require_licence
from protocols.canonical import canonical_bytes
from tests.fuzz.target import Target
from tests.support.members import NOW
from tests.support.released import PARTIES, a_release, licence_of

_JOB = a_release()
_COMMITMENTS = {"hospital-a": "0" * 64, "hospital-b": "1" * 64}
_USE = Use("alice", "prognosis", canonical_bytes(_JOB.model.to_document()), NOW + timedelta(days=1))


def _seeds() -> list[bytes]:
    return [licence_of(_JOB, party, _COMMITMENTS).to_bytes() for party in PARTIES]


def _use(body: bytes) -> object:
    """Beside the other party's genuine one."""
    return require_licence([Licence.from_bytes(body), licence_of(_JOB, "hospital-b", _COMMITMENTS)], _USE)


TARGETS = (Target("licence", Licence.from_bytes, _seeds), Target("licence-use", _use, lambda: _seeds()[:1]))
