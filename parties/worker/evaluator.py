"""What an evaluating worker does: keeps models and keys as it is told to, and answers one query after the other.

It has no network and no key of the party; it takes model, keys and queries from its channel and gives answers back. Its address
space and its processor time are bounded. When it dies of what somebody sent, one request has failed, and the party forks another.

Parcels (the header is public, the blobs are what they say; `limit_s` is processor time that the parcel may take):
    in:  {task "evaluate", memory_bytes}; then {type "model", model} with blobs plan, manifest, weights;
         {type "keys", model, key} with blob keys; {type "query", model, key} with blob query; {type "forget", model, key};
         a `forget` with an empty key is of the model with all its keys
    out: {event "done"}, {event "answer"} with blob answer, or {event "refused", code, text, remedy}, one for each but `forget`;
         {event "failed", ...} is the last word of a worker that cannot go on
"""

from __future__ import annotations

import math
import os
import resource
import select
import socket
import time
from pathlib import Path
from typing import NoReturn

from parties.worker.channel import Channel, Parcel
from parties.worker.confinement import EVALUATOR_NAME, name_process
from parties.worker.evaluating import LoadedKeys, LoadedModel
from protocols.canonical import parse_canonical
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors

_NICENESS = 5  # the party process answers calls before evaluators compute
_STATM = Path("/proc/self/statm")


def evaluate(parcel: Parcel, endpoint: socket.socket, channel: Channel) -> NoReturn:
    """Serves until the party process ends the channel.

    Raises:
        ChannelClosed: it has.
        MemoryError: more is to be kept than the address space holds.
    """
    _bound_memory(parcel.header["memory_bytes"])
    os.nice(_NICENESS)
    name_process(EVALUATOR_NAME)
    desk = _Desk()
    while True:
        while not _is_waiting(endpoint) and desk.prepare():
            continue
        _obey(desk, channel.receive(), channel)


class _Desk:
    """The models and keys that are loaded."""

    def __init__(self) -> None:
        self._models: dict[str, LoadedModel] = {}
        self._keys: dict[tuple[str, str], LoadedKeys] = {}

    def load_model(self, parcel: Parcel) -> None:
        blobs = parcel.blobs
        plan = EncryptedPlan.from_document(parse_canonical(blobs["plan"]))
        spec = ModelSpec.from_document(parse_canonical(blobs["manifest"]))
        self._models[parcel.header["model"]] = LoadedModel(plan, spec, weights_from_safetensors(blobs["weights"], spec))

    def load_keys(self, parcel: Parcel) -> None:
        model, key = parcel.header["model"], parcel.header["key"]
        self._keys[model, key] = self._models[model].load_keys(parcel.blobs["keys"])

    def answer(self, parcel: Parcel) -> bytes:
        model, key = parcel.header["model"], parcel.header["key"]
        keys = self._keys.pop((model, key))
        self._keys[model, key] = keys  # the last that is prepared is the one that was used last
        return self._models[model].answer(parcel.blobs["query"], keys, os.urandom)

    def forget(self, model: str, key: str) -> None:
        if key:
            self._keys.pop((model, key), None)
            return
        self._models.pop(model, None)
        self._keys = {each: keys for each, keys in self._keys.items() if each[0] != model}

    def prepare(self) -> bool:
        """Makes something ahead for the keys that were used last; returns whether anything was missing."""
        return any(self._models[model].prepare(keys) for (model, _), keys in reversed(self._keys.items()))


def _obey(desk: _Desk, parcel: Parcel, channel: Channel) -> None:
    header = parcel.header
    if header["type"] == "forget":
        desk.forget(header["model"], header["key"])
        return
    _bound_processor(header["limit_s"])
    try:
        match header["type"]:
            case "model":
                desk.load_model(parcel)
            case "keys":
                desk.load_keys(parcel)
            case _:
                channel.send({"event": "answer"}, {"answer": desk.answer(parcel)})
                return
    except ConfideError as error:
        said = {"code": error.code.name, "text": error.what, "remedy": error.remedy}
        channel.send({"event": "refused", **said})
    else:
        channel.send({"event": "done"})


def _is_waiting(endpoint: socket.socket) -> bool:
    return bool(select.select([endpoint], [], [], 0)[0])


def _bound_memory(more: int) -> None:
    """Bounds the address space to what this process has now, which is libraries in the main, and so much more."""
    pages = int(_STATM.read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_processor(seconds: float) -> None:
    """Has the kernel end this process when it has computed for so long from now on; making zeros ahead counts with it."""
    most = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
