"""Targets that read frames, parcels and files."""

from __future__ import annotations

import io
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from parties.arrays import arrays_from_bytes, arrays_to_bytes
from parties.client.requests import read_request
from parties.config import load_party_config, load_researcher_config
from parties.storage.sealed import Purpose, SealedFiles, StorageKey
from parties.transport.frames import FrameKind, decode, encode_header
from parties.worker.channel import Channel, ChannelClosed
from parties.worker.handshake import _check_hello, _check_key
from privacy.preparation.alignment import align, identifiers_of
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, read_table
from privacy.preparation.values import read_column
from protocols import PROTOCOL_VERSION
from protocols.canonical import canonical_bytes
from protocols.links import TensorSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors
from tests.fuzz.target import Target
from tests.support.jobs import MODEL
from tests.support.link_pairs import a_frame, a_header, a_link
from tests.support.small_table import ROWS, SCHEMA

_TEMPORARY = tempfile.TemporaryDirectory(prefix="confide-fuzz-")  # removed with this module; a campaign removes what is left
FOLDER = Path(_TEMPORARY.name)
_SEALED = SealedFiles(FOLDER, StorageKey(b"\x07" * 32))
_SEALED_NAME = "0" * 32 + ".sealed"


def leave_folder() -> None:
    """Leaves the folder to the process that this one was forked from, which removes it."""
    _TEMPORARY._finalizer.detach()  # type: ignore[attr-defined]


_HELLO = {"version": PROTOCOL_VERSION, "job": "a" * 64, "plan": "b" * 64, "nonce": "0f" * 32}
_SAMPLE = TensorSpec("int64", (3,))


def some_weights() -> dict[str, np.ndarray]:
    return {p.name: np.full(p.shape, 0.5, np.float32) for p in MODEL.parameters}


def _frames() -> Sequence[bytes]:
    kinds = [encode_header(a_header(kind=kind, operation=0, total=0, layout=())) for kind in FrameKind]
    return [*kinds, encode_header(a_header()) + bytes(24)]


def _on_socket(data: bytes, read: Callable[[socket.socket], object]) -> object:
    """Lets a decoder read a socket on which these bytes stand, and nothing follows."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        try:
            theirs.send(data)
        except BlockingIOError:
            return None
        theirs.shutdown(socket.SHUT_WR)
        return read(ours)


def _receive(data: bytes) -> object:
    return _on_socket(data, lambda ours: a_link(ours).receive(1, [_SAMPLE]))


def _handshakes() -> Sequence[bytes]:
    return [b"h" + canonical_bytes(_HELLO), b"k" + canonical_bytes({"salt": "c" * 64, "secret": "0f" * 32})]


def _handshake(data: bytes) -> object:
    if data[:1] == b"k":
        return _check_key("hospital-b", "c" * 64, data[1:])
    return _check_hello("hospital-b", _HELLO, data[1:])


def _parcels() -> Sequence[bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send({"event": "finished", "shapes": {"a": [1]}}, {"model_share": b"xyz", "output/a": b""})
        return [theirs.recv(1 << 16)]


def _sealed() -> Sequence[bytes]:
    name = _SEALED.write(Purpose.CHECKPOINT, "a/1/b", arrays_to_bytes({"layer_0.weight": np.zeros((1, 3), np.int64)}))
    return [(FOLDER / name).read_bytes()]


def _open_sealed(data: bytes) -> object:
    path = FOLDER / _SEALED_NAME
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(data)
    return arrays_from_bytes(_SEALED.read(Purpose.CHECKPOINT, "a/1/b", _SEALED_NAME))


def _schema() -> TableSchema:
    return schema_from_yaml(SCHEMA.encode())


def _table(file_format: FileFormat) -> Callable[[bytes], object]:
    schema = _schema()

    def read(data: bytes) -> object:
        table = read_table(data, schema, content=Content.LABELLED_ROWS, file_format=file_format)
        columns = (*schema.features, schema.label)
        return [read_column(table.columns[column.name], column) for column in columns]

    return read


def _aligned(file_format: FileFormat) -> Callable[[bytes], object]:
    schema = schema_from_yaml(SCHEMA.encode() + b"  - {name: patient, role: identifier}\n")

    def read(data: bytes) -> object:
        table = read_table(data, schema, content=Content.ALIGNED_ROWS, file_format=file_format)
        return align(identifiers_of(table, schema), secret=bytes(32), label="study")

    return read


def _aligned_rows() -> str:
    head, *rows = ROWS.splitlines()
    return "\n".join([f"{head},patient", *(f"{row},p-{number}" for number, row in enumerate(rows))]) + "\n"


def _parquet(text: str = ROWS) -> Sequence[bytes]:
    found = []
    for compression in (None, "snappy", "zstd"):
        file = io.BytesIO()
        pd.read_csv(io.StringIO(text)).to_parquet(file, compression=compression)
        found.append(file.getvalue())
    return found


def from_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path = FOLDER / "input.yaml"

    def write_and_read(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return write_and_read


_COMMON = "api_version: confide/v1\ncomputing_parties: [hospital-a, hospital-b]\ndealer: hospital-c\n"
_REQUESTS = (
    _COMMON + "type: train\ndatasets: [hospital-a/train]\nmodel_name: diagnosis\nmanifest: model.json\n"
    'weights: model.safetensors\ntraining: {epochs: 15, batch_size: 48, learning_rate: "0.5"}\n',
    _COMMON + "type: evaluate\ndatasets: [hospital-a/holdout]\nmodel: diagnosis@0123456789ab\n",
    _COMMON + "type: evaluate\ndatasets: [hospital-a/a, hospital-b/b]\npartition: columns\nmodel: diagnosis@0123456789ab\n",
    _COMMON + "type: infer\nmodel: diagnosis@0123456789ab\nsamples: samples.csv\n",
    _COMMON + "type: infer\nmodel: diagnosis@0123456789ab\nsamples: samples.csv\noutput: probability\ndecimals: 2\ntop_k: 3\n"
    'clip: "0.01"\n',
)
_PARTY = b"api_version: confide.party/1\nparty: hospital-a\nlisten: 0.0.0.0:7443\nstate: state\nmin_evaluation_rows: 20\n"

TARGETS = (
    Target("frame", lambda data: decode(memoryview(data)), _frames),
    Target("link", _receive, lambda: [a_frame()]),
    Target("handshake", _handshake, _handshakes),
    Target("parcel", lambda data: _on_socket(data, lambda ours: Channel(ours).receive()), _parcels, (ChannelClosed,)),
    Target("arrays", arrays_from_bytes, lambda: [arrays_to_bytes({"a": np.arange(4), "b#mean": np.ones((2, 2))})]),
    Target(
        "weights", lambda data: weights_from_safetensors(data, MODEL), lambda: [weights_to_safetensors(some_weights(), MODEL)]
    ),
    Target("sealed-file", _open_sealed, _sealed),
    Target("schema-file", schema_from_yaml, lambda: [SCHEMA.encode()]),
    Target("csv-table", _table(FileFormat.CSV), lambda: [ROWS.encode()]),
    Target("parquet-table", _table(FileFormat.PARQUET), _parquet),
    Target("aligned-csv", _aligned(FileFormat.CSV), lambda: [_aligned_rows().encode()]),
    Target("aligned-parquet", _aligned(FileFormat.PARQUET), lambda: _parquet(_aligned_rows())),
    Target("party-config", from_file(load_party_config), lambda: [_PARTY]),
    Target(
        "researcher-config",
        from_file(load_researcher_config),
        lambda: [b"api_version: confide.researcher/1\nresearcher: alice\nstate: state\n"],
    ),
    Target("job-request", from_file(read_request), lambda: [text.encode() for text in _REQUESTS]),
)
