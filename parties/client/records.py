"""What a researcher keeps of her jobs.

The document, the request id with which each output is fetched, once, and the salt of the commitment to her samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parties.storage.files import make_folder, read_secret, write_secret
from protocols.canonical import MAX_DOCUMENT_BYTES
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

_MAX_RECORD_BYTES = 2 * MAX_DOCUMENT_BYTES + 64 * 1024  # a document inside a JSON text: every quote may take two bytes


@dataclass(frozen=True)
class JobRecords:
    """One file a job, mode 0600."""

    folder: Path

    def add(self, job: Job, *, request_ids: Mapping[str, str], query_salt: bytes = b"") -> None:
        """Keeps a job before it is submitted; one that is kept stays as it is.

        Args:
            job: public.
            request_ids: of its outputs, by name; secret until they are used.
            query_salt: of an inference's commitment to its samples, or of a serving's to all of its queries, secret; else empty.
        """
        make_folder(self.folder)
        path = self._path(job.job_id)
        if not path.exists():
            record = {"job": job.to_bytes().decode(), "request_ids": dict(request_ids), "query_salt": query_salt.hex()}
            write_secret(path, json.dumps(record).encode())

    def job(self, job_id: str) -> Job:
        """Returns a job; an unambiguous beginning of its id is enough.

        Raises:
            ConfideError: UNKNOWN_JOB.
        """
        found = sorted(self.folder.glob(f"{job_id}*.json")) if job_id.isalnum() else []
        if len(found) != 1:
            what = "several jobs begin" if found else "no job that was submitted from this folder begins"
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{what} with {job_id[:32]!r}")
        return Job.from_bytes(str(self._read(found[0])["job"]).encode())

    def jobs(self) -> list[Job]:
        """Returns all jobs, the latest first."""
        found = [Job.from_bytes(str(self._read(path)["job"]).encode()) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda job: job.created, reverse=True)

    def request_id(self, job_id: str, output: str) -> str:
        """Returns the request id of an output."""
        ids = self._read(self._path(job_id))["request_ids"]
        if not isinstance(ids, dict) or output not in ids:
            raise ConfideError(ErrorCode.UNKNOWN_OUTPUT, f"job {job_id} has no output {output}")
        return str(ids[output])

    def query_salt(self, job_id: str) -> bytes:
        """Returns the salt of an inference's commitment to its samples, secret: with the samples it opens the commitment.

        Raises:
            ConfideError: UNKNOWN_JOB if no such inference was submitted from here.
        """
        salt = bytes.fromhex(str(self._read(self._path(self.job(job_id).job_id))["query_salt"]))
        if not salt:
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"job {job_id} has no samples that it commits to")
        return salt

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.json"

    def _read(self, path: Path) -> dict[str, object]:
        try:
            record = json.loads(read_secret(path, max_bytes=_MAX_RECORD_BYTES))
        except ValueError as error:
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"{path} is no job record") from error
        if not isinstance(record, dict) or set(record) != {"job", "request_ids", "query_salt"}:
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"{path} is no job record")
        return record
