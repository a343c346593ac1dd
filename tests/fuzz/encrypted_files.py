"""Targets that read what a researcher keeps of encrypted inference: key files, closed and opened, and submitted requests.

They are hers alone (mode 0600), and what stands inside a key file is authenticated. They are read as if neither were so: a file
may be restored from a medium that has lost a part of it, or come from somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from parties.client.encrypted.keys import make_key
from parties.client.encrypted.local_keys import KeyFiles
from parties.client.encrypted.pending_files import Pending, PendingRequests, read_pending
from parties.client.encrypted.published import EncryptedModel
from parties.client.encrypted.unlocking import Means, Unlock
from protocols.ckks.engine import Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.secrets import SecretBytes
from tests.fuzz.ckks import ALTERATION_BYTES, alteration, altered
from tests.fuzz.files import FOLDER
from tests.fuzz.target import Target
from tests.support.ckks import stream
from tests.support.encrypted import an_enquiry
from tests.support.evaluator import a_published_model

_NAME = "mine"
_UNLOCK = Unlock(Means.KEY_FILE, SecretBytes(bytes(32)))


@cache
def _model() -> EncryptedModel:
    """A published model in the batch lane alone, whose plan lists no slots: a record of it fits into an input."""
    model = a_published_model()
    plans = {"batch": model.published.plans["batch"]}
    return EncryptedModel(replace(model.published, plans=plans), {"batch": model.plan("batch")})


@cache
def _files() -> tuple[KeyFiles, bytes]:
    """A folder with one key, and the bytes of its file."""
    files, model = KeyFiles(FOLDER / "query-keys"), _model()
    files.store(make_key(model.published, "batch", model.plan("batch"), now=datetime.now(UTC), name=_NAME), model, _UNLOCK)
    return files, _path(files).read_bytes()


def _path(files: KeyFiles) -> Path:
    return files.folder / f"{_NAME}.key"


def _open(recipe: bytes) -> object:
    """What `confide infer keys` and `run` do with a key file."""
    files, sound = _files()
    with open(os.open(_path(files), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(altered(sound, recipe, (sound[::-1],)))
    files.about(_NAME)
    with files.opened(_NAME, _model(), _UNLOCK) as key:
        return key.openings_left


def _header(data: bytes) -> object:
    """A header of the file's author's choice, before the content of a sound file."""
    files, sound = _files()
    at = sound.index(b"}") + 1
    with open(os.open(_path(files), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(sound[:8] + len(data).to_bytes(4, "little") + data + sound[at:])
    files.about(_NAME)
    with files.opened(_NAME, _model(), _UNLOCK) as key:
        return key.openings_left


def _headers() -> Sequence[bytes]:
    _, sound = _files()
    return [sound[12 : sound.index(b"}") + 1]]


@cache
def _content() -> tuple[Engine, bytes]:
    engine = Engine(_model().plan("batch").parameters)
    return engine, KeyOwner(engine, engine.make_secret_key(), stream("key file"), answers_opened=3).key_file().reveal()


def _read_content(recipe: bytes) -> object:
    """What is done with a key file once it is opened; what is taken encrypts."""
    engine, sound = _content()
    owner = KeyOwner.from_key_file(engine, SecretBytes(altered(sound, recipe, (sound[::-1],))), os.urandom)
    return owner.answers_opened, len(owner.key_file().reveal()) == len(sound)


def _recipes() -> Sequence[bytes]:
    """Nothing altered; and a bit of the count."""
    return [b"", bytes(ALTERATION_BYTES - 1), alteration(0, argument=1, place=52)]


def _records() -> Sequence[bytes]:
    model = _model()
    enquiry = an_enquiry(model.published, lane="batch")
    pending = Pending(enquiry, model, _NAME, "batch: 1 query", "5a" * 32, "ab" * 32, (("1" * 32, 3), ("2" * 32, 1)))
    kept = PendingRequests(FOLDER / "encrypted-requests")
    kept.add(pending)
    return [(kept.folder / enquiry.enquiry_id / "request.json").read_bytes()]


def _read_record(data: bytes) -> object:
    return read_pending(data, Path("request.json"))


TARGETS = (
    Target("query-key-file", _open, lambda: [b"", bytes(ALTERATION_BYTES - 1)]),
    Target("query-key-header", _header, _headers),
    Target("query-key-content", _read_content, _recipes),
    Target("request-record", _read_record, _records),
)
