"""The process that prepares an owner's rows: it sees them, and has neither network nor file nor program to tell them to.

Everything it needs is loaded, and the raw file and its sink are handed in as open descriptors, before it confines itself
(`confine_without_files`); every other descriptor is closed. Its memory and processor time are bounded. It serves one file.

Parcels (the header is public; rows, identifiers, seed and what comes of them are blobs, secret):
    in:  {task "begin", file, format, memory_bytes, processor_s, detector, sink} with blobs contract, recipe; then the descriptors
         of the raw file and, if there is a sink, of that; then any of
         {task "identifiers"}
         {task "preview", rows} with blob seed
         {task "prepare", on_violation} with blobs seed, pseudonyms; writes Parquet to the sink
    out: {event "settled", identity, pseudonymised}, {event "done"} with blob result, or {event "refused", code, what, problems,
         remedy} for each
"""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from parties import defect
from parties.worker.channel import Channel, ChannelClosed, Parcel
from parties.worker.confinement import confine_without_files, name_process
from privacy.preparation.contract import OnViolation
from privacy.preparation.data_contract import DataContract
from privacy.preparation.outcome import PreparedWriter, prepare_table
from privacy.preparation.preparation import Preparation, settle
from privacy.preparation.preview import preview
from privacy.preparation.raw import RawTable, open_raw
from privacy.preparation.recipes.recipe import Recipe
from privacy.preparation.recipes.steps.pseudonymise import identifiers_of
from privacy.preparation.rehearsal import rehearse
from privacy.preparation.table import FileFormat
from privacy.reidentification.entities import load_detector, redact
from protocols.canonical import parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

PREPARER_NAME = "confide-prepare"  # the kernel keeps 15 characters
_STATM = Path("/proc/self/statm")
_OUTPUTS = (1, 2)  # nothing, and the words of a defect


def main() -> None:
    """Serves the party's process on standard input until that ends the channel."""
    endpoint = socket.socket(fileno=os.dup(0))
    channel = Channel(endpoint)
    try:
        parcel = channel.receive()
        source, sink = _confined(parcel, endpoint)
        work = _Work(parcel, source, sink)
        _answer(channel, work.settle)
        while True:
            parcel = channel.receive()
            _answer(channel, lambda parcel=parcel: work.do(parcel))  # type: ignore[misc]  # bound now, on purpose
    except ChannelClosed:
        return


class _Work:
    """One raw file with its contract and recipe."""

    def __init__(self, parcel: Parcel, source: BinaryIO, sink: BinaryIO | None) -> None:
        self._parcel, self._source, self._sink = parcel, source, sink
        self._settled: tuple[RawTable, Preparation] | None = None

    def settle(self) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        header, blobs = self._parcel.header, self._parcel.blobs
        contract = DataContract.from_document(parse_canonical(blobs["contract"]))
        recipe = Recipe.from_document(parse_canonical(blobs["recipe"]))
        table = open_raw(self._source, file_format=FileFormat(header["format"]), name=header["file"])
        preparation = settle(table, contract, recipe)
        self._settled = table, preparation
        projects = {step.column: step.project for step in preparation.pseudonymised}
        return {"event": "settled", "pseudonymised": projects, "not_shared": list(preparation.not_shared)}, {}

    def do(self, parcel: Parcel) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        if self._settled is None:
            raise ConfideError(ErrorCode.INTERNAL, "a preparation that was refused was asked for more")
        table, preparation = self._settled
        match parcel.header["task"]:
            case "identifiers":
                result = _identifiers(table, preparation)
            case "preview":
                shown = preview(table, preparation, num_rows=parcel.header["rows"], seed=SecretBytes(parcel.blobs["seed"]))
                if shown.refused is not None and not shown.before[1]:
                    raise shown.refused
                refused = None if shown.refused is None else _said(shown.refused)
                result = shown.to_document() | {"refused": refused}
            case _:
                result = self._prepare(table, preparation, parcel)
        return {"event": "done"}, {"result": json.dumps(result).encode()}

    def _prepare(self, table: RawTable, preparation: Preparation, parcel: Parcel) -> Mapping[str, Any]:
        if self._sink is None:
            raise ConfideError(ErrorCode.INTERNAL, "a preparation has no sink")
        writer = PreparedWriter(self._sink, preparation)
        outcome = prepare_table(
            table,
            preparation,
            seed=SecretBytes(parcel.blobs["seed"]),
            pseudonyms=json.loads(parcel.blobs["pseudonyms"]),
            on_violation=OnViolation(parcel.header["on_violation"]),
            take=writer.take,
        )
        writer.finish()
        self._sink.flush()
        return outcome.to_document()


def _identifiers(table: RawTable, preparation: Preparation) -> Mapping[str, list[str]]:
    names = [step.column for step in preparation.pseudonymised]
    found: dict[str, dict[str, None]] = {name: {} for name in names}
    for rows in table.batches(names):
        for name in names:
            found[name].update(dict.fromkeys(identifiers_of(rows.column(name))))
    return {name: [text for text in texts if text] for name, texts in found.items()}


def _confined(parcel: Parcel, endpoint: socket.socket) -> tuple[BinaryIO, BinaryIO | None]:
    """Loads everything, takes the open files, closes all others, and gives up every way to open another."""
    header = parcel.header
    rehearse()
    if header["detector"]:
        load_detector()
        redact("Seen by Dr Jane Roe in London on 3 March.")
    # The descriptors arrive in one message: the raw file and, if there is one, the sink.
    _, descriptors, _, _ = socket.recv_fds(endpoint, 1, 2)
    source = os.fdopen(descriptors[0], "rb")
    sink = os.fdopen(descriptors[1], "wb") if header["sink"] else None
    _close_all_but({endpoint.fileno(), *descriptors})
    name_process(PREPARER_NAME)
    used = int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + header["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (header["processor_s"],) * 2)
    confine_without_files()
    return source, sink


def _close_all_but(kept: set[int]) -> None:
    """Closes everything that could be read from or written to; what libraries wake their threads by stays."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own descriptor
            mode = os.fstat(number).st_mode
            if number not in {*kept, *_OUTPUTS} and not stat.S_ISFIFO(mode) and stat.S_IFMT(mode):
                os.close(number)


def _answer(channel: Channel, work: Callable[[], tuple[Mapping[str, Any], Mapping[str, bytes]]]) -> None:
    try:
        header, blobs = work()
    except ConfideError as error:
        header, blobs = {"event": "refused", **_said(error)}, {}
    except MemoryError:
        remedy = "Drop columns, or split the file into several data sets."
        found = ConfideError(ErrorCode.TOO_LARGE, "the preparation needs more memory than it is given", remedy=remedy)
        header, blobs = {"event": "refused", **_said(found)}, {}
    except ChannelClosed:
        raise
    except Exception as error:
        sys.stderr.write("\n".join([*defect.path(error), type(error).__name__, ""]))
        header, blobs = {"event": "refused", **_said(ConfideError(ErrorCode.INTERNAL, defect.place(error)))}, {}
    channel.send(header, blobs)


def _said(error: ConfideError) -> dict[str, Any]:
    problems = [vars(problem) for problem in error.problems]
    return {"code": error.code.name, "what": error.what, "problems": problems, "remedy": error.remedy}


if __name__ == "__main__":
    main()
    # Threads of the libraries may still wait for work; an ordinary end would wait for them or be ended by them.
    sys.stderr.flush()
    os._exit(0)
