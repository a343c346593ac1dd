"""The confined process that prepares rows (`parties.worker.preparer`), from the side of the owner's program."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO, Self

from parties.raw_file import RawSource
from parties.worker import environment
from parties.worker.channel import Channel, ChannelClosed, Parcel
from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import DataContract
from privacy.preparation.outcome import Outcome
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.steps.redact_text import RedactText
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.secrets import SecretBytes

MEMORY_BYTES = 3 << 29  # 1.5 GiB of address space beside the libraries
PROCESSOR_S = 4 * 3_600
_ENVIRONMENT = {
    **environment.ENVIRONMENT,
    # One arena: every batch allocates anew, and freed memory that lies in many arenas is not given back.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 24),
}


class PreparingProcess:
    """One file's confined process; use it in a `with` block.

    Attributes:
        projects: for which project each column that needs pseudonyms is pseudonymised.
    """

    def __init__(self, source: RawSource, contract: DataContract, recipe: Recipe, *, sink: BinaryIO | None) -> None:
        """Starts the process, hands the files over and has the preparation settled.

        Args:
            source: secret; its offset is shared with the process, so it is not read here meanwhile.
            contract: public.
            recipe: public.
            sink: where the prepared rows go as Parquet; None if none are to be.

        Raises:
            ConfideError: INVALID_DATA, INVALID_RECIPE (the owner's or author's fault); SETUP_INCOMPLETE, WORKER_LOST (this
                institution's).
        """
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "parties.worker.preparer"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        try:
            header = {
                "task": "begin",
                "file": source.name,
                "format": source.file_format.value,
                "memory_bytes": MEMORY_BYTES,
                "processor_s": PROCESSOR_S,
                "detector": any(isinstance(step, RedactText) for step in recipe.steps),
                "sink": sink is not None,
            }
            documents = {"contract": contract.to_document(), "recipe": recipe.to_document()}
            blobs = {name: canonical_bytes(document) for name, document in documents.items()}
            descriptors = [source.file.fileno()] if sink is None else [source.file.fileno(), sink.fileno()]
            settled = self._ask(header, blobs, descriptors=descriptors, endpoint=ours)
            self.projects: Mapping[str, str] = settled.header["pseudonymised"]
        except BaseException:  # nothing of it is left behind
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def identifiers(self) -> Mapping[str, list[str]]:
        """Returns the different identifiers of every column that needs pseudonyms; secret.

        Raises:
            ConfideError: as for `prepare`.
        """
        result: Mapping[str, list[str]] = self._result({"task": "identifiers"}, {})
        return result

    def preview(self, num_rows: int, seed: SecretBytes) -> Mapping[str, Any]:
        """Returns the document of a `Preview`, with `refused` beside it; secret.

        Raises:
            ConfideError: as for `prepare`.
        """
        return self._result({"task": "preview", "rows": num_rows}, {"seed": seed.reveal()})

    def prepare(self, seed: SecretBytes, pseudonyms: Mapping[str, Mapping[str, str]], on_violation: OnViolation) -> Outcome:
        """Prepares the whole file into the sink, as Parquet.

        Args:
            seed: 32 random bytes, secret.
            pseudonyms: by column and identifier, secret.
            on_violation: whether rows that break the contract stop everything or are left out.

        Raises:
            ConfideError: INVALID_DATA, FILE_CHANGED, TOO_LARGE (the owner's fault); WORKER_LOST (this institution's).
        """
        blobs = {"seed": seed.reveal(), "pseudonyms": json.dumps(pseudonyms).encode()}
        return Outcome.from_document(self._result({"task": "prepare", "on_violation": on_violation.value}, blobs))

    def stop(self) -> None:
        """Ends the process at once; safe to call again."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _result(self, header: Mapping[str, Any], blobs: Mapping[str, bytes]) -> Mapping[str, Any]:
        result: Mapping[str, Any] = json.loads(self._ask(header, blobs).blobs["result"])
        return result

    def _ask(
        self,
        header: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        *,
        descriptors: list[int] | None = None,
        endpoint: socket.socket | None = None,
    ) -> Parcel:
        try:
            self._channel.send(header, blobs)
            if descriptors is not None and endpoint is not None:
                socket.send_fds(endpoint, [b"."], descriptors)
            parcel = self._channel.receive()
        except (ChannelClosed, OSError) as error:
            what = "the preparing process ended early; nothing was kept"
            remedy = "Look whether it ran out of processor time or memory."
            raise ConfideError(ErrorCode.WORKER_LOST, what, remedy=remedy) from error
        if parcel.header["event"] == "refused":
            raise refusal(parcel.header)
        return parcel


def refusal(said: Mapping[str, Any]) -> ConfideError:
    """Returns the refusal that the process reported."""
    problems = [Problem(problem["where"], problem["what"], problem["remedy"]) for problem in said["problems"]]
    code = ErrorCode.__members__.get(said["code"], ErrorCode.INTERNAL)
    return ConfideError(code, said["what"], problems=problems, remedy=said["remedy"])
