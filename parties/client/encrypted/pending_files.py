"""What a researcher keeps of requests whose answers wait at the model's owner; mode 0600, in a folder of hers.

Of each the enquiry, the model as it was published, a salted digest of the samples, and for every query its id and number of rows.
No sample and nothing that was decrypted is in it. Answers stand beside it as they arrive, encrypted as they are, since their
owner forgets them once they are sent. A name that has served is kept for good.

    requests/ENQUIRY/request.json, REQUEST.answer
    requests/names/NAME                             the enquiry's id
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from governance.encrypted.enquiry import Enquiry
from governance.encrypted.published import PublishedModel
from parties.client.encrypted.published import EncryptedModel
from parties.storage.files import make_folder, read_secret, write_secret
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.wire import MAX_MESSAGE_BYTES
from protocols.errors import ConfideError, ErrorCode

_MAX_RECORD_BYTES = 64 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAMES = "names"
_FIELDS = {"enquiry", "published", "key", "why", "salt", "samples", "requests"}


@dataclass(frozen=True)
class Pending:
    """A submitted request.

    Attributes:
        enquiry: what its owner decided about.
        model: as it was published then.
        key: name of the key file that opens the answers.
        why: how the lane was chosen, in words.
        salt: of the samples' digest, 64 hexadecimal digits.
        samples: SHA-256 of salt and samples, 64 hexadecimal digits.
        requests: id and number of rows of each query, in the order of the samples.
    """

    enquiry: Enquiry
    model: EncryptedModel
    key: str
    why: str
    salt: str
    samples: str
    requests: tuple[tuple[str, int], ...]

    @property
    def num_rows(self) -> int:
        """Of all queries."""
        return sum(rows for _, rows in self.requests)


class PendingRequests:
    """The submitted requests of one researcher: a folder for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pending: Pending, *, name: str = "") -> None:
        """Keeps a request before anybody is asked.

        Args:
            pending: the request.
            name: the researcher's own for it; empty for none.

        Raises:
            ConfideError: INVALID_ARGUMENT: not a name.
        """
        named = None if not name else self._named(name)
        make_folder(self._at(pending.enquiry.enquiry_id))
        record = {
            "enquiry": pending.enquiry.to_bytes().decode(),
            "published": pending.model.published.to_bytes().decode(),
            "key": pending.key,
            "why": pending.why,
            "salt": pending.salt,
            "samples": pending.samples,
            "requests": [list(request) for request in pending.requests],
        }
        write_secret(self._at(pending.enquiry.enquiry_id) / "request.json", json.dumps(record).encode())
        if named is not None:  # last: a name of a request that is not there has served
            make_folder(named.parent)
            write_secret(named, pending.enquiry.enquiry_id.encode())

    def named(self, name: str) -> Pending | None:
        """Returns the request of a name, or None if the name has never served.

        Raises:
            ConfideError: JOB_CONFLICT: it has served, and the answers were fetched; INVALID_ARGUMENT: not a name; STATE_DAMAGED.
        """
        enquiry_id = self._enquiry_of(name)
        if enquiry_id is None:
            return None
        if enquiry_id not in self.ids():
            what = f"the id {name} has served: the answers to enquiry {enquiry_id} were fetched"
            raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy="Choose another id.")
        return self._read(self._at(enquiry_id) / "request.json")

    def find(self, enquiry_id: str) -> Pending:
        """Returns a request by the name that it was given, or by its id, of which an unambiguous beginning is enough.

        Raises:
            ConfideError: UNKNOWN_JOB: none was submitted from here that begins so; STATE_DAMAGED.
        """
        enquiry_id = (self._enquiry_of(enquiry_id) if _NAME.fullmatch(enquiry_id) else None) or enquiry_id
        found = [each for each in self.ids() if each.startswith(enquiry_id)] if enquiry_id else []
        if len(found) != 1:
            what = "several requests begin" if found else "no request that was submitted from this folder begins"
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{what} with {enquiry_id[:32]!r}")
        return self._read(self._at(found[0]) / "request.json")

    def ids(self) -> list[str]:
        """Returns the enquiries of all requests whose answers were not fetched yet."""
        return sorted(path.name for path in self.folder.glob("*") if _ID.fullmatch(path.name))

    def answer(self, enquiry_id: str, request: str) -> bytes | None:
        """Returns an answer that has arrived, encrypted as it is; None if it has not."""
        path = self._at(enquiry_id) / f"{request}.answer"
        return read_secret(path, max_bytes=MAX_MESSAGE_BYTES) if path.exists() else None

    def keep_answer(self, enquiry_id: str, request: str, answer: bytes) -> None:
        """Keeps an answer that has arrived."""
        write_secret(self._at(enquiry_id) / f"{request}.answer", answer)

    def remove(self, enquiry_id: str, *, name: str = "") -> None:
        """Forgets a request with its answers, and a name that has not served."""
        if name:
            self._named(name).unlink(missing_ok=True)
        shutil.rmtree(self._at(enquiry_id))

    def _named(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            what = "an id of a request has lower-case letters, digits and hyphens, 63 at most"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
        return self.folder / _NAMES / name

    def _enquiry_of(self, name: str) -> str | None:
        path = self._named(name)
        if not path.exists():
            return None
        enquiry_id = read_secret(path, max_bytes=64).decode("ascii", "replace")
        if not _ID.fullmatch(enquiry_id):
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"{path} names no enquiry")
        return enquiry_id

    def _at(self, enquiry_id: str) -> Path:
        if not _ID.fullmatch(enquiry_id):
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{enquiry_id[:32]!r} is no id of an enquiry")
        return self.folder / enquiry_id

    def _read(self, path: Path) -> Pending:
        return read_pending(read_secret(path, max_bytes=_MAX_RECORD_BYTES), path)


def read_pending(data: bytes, path: Path) -> Pending:
    """Reads what is kept of a request.

    Args:
        data: the content of the file.
        path: where it stands, for the message.

    Raises:
        ConfideError: STATE_DAMAGED (the researcher's to mend): it was altered, or is no such file.
    """
    try:
        record = json.loads(data)
        if not isinstance(record, dict) or set(record) != _FIELDS:
            raise ValueError("not the fields of a request")
        texts = {name: record[name] for name in _FIELDS - {"requests"}}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("a text is none")
        published = PublishedModel.from_bytes(texts["published"].encode())
        plans = {lane: EncryptedPlan.from_document(document) for lane, document in published.plans.items()}
        enquiry = Enquiry.from_bytes(texts["enquiry"].encode())
        requests = tuple((request, rows) for request, rows in record["requests"])
        if enquiry.published != published.digest or enquiry.lane not in plans:
            raise ValueError("the enquiry is about another model")
        if not all(_is_request(request, rows, plans[enquiry.lane].samples) for request, rows in requests) or not requests:
            raise ValueError("a request is none of the plan")
        model = EncryptedModel(published, plans)
        return Pending(enquiry, model, texts["key"], texts["why"], texts["salt"], texts["samples"], requests)
    except (ConfideError, ValueError, TypeError, RecursionError) as error:
        raise ConfideError(ErrorCode.STATE_DAMAGED, f"{path} is no record of a request") from error


def _is_request(request: object, rows: object, samples: int) -> bool:
    return isinstance(request, str) and bool(_ID.fullmatch(request)) and type(rows) is int and 1 <= rows <= samples
