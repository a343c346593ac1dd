"""Released weights on a recipient's disk: everything that came with them, and the loader that keeps to their licence.

A folder holds `manifest.json`, `schema.json`, `weights.safetensors`, and from each computing party its signed licence
(`licence-PARTY.json`) and its share of the weights (`share-PARTY.bin`: 32 bytes of nonce, then little-endian int64). The licences
name the commitments to the shares, so the weights beside them are the ones that were licensed, or they are not loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from governance.commitments import NONCE_BYTES, CommittedShare, check_opening
from governance.documents import SignedDocument
from governance.identity.directory import Directory
from governance.licence import Licence, Use, refused_weights, require_licence, verify_licence
from parties.storage.files import make_folder, read_public, write_secret
from privacy.preparation.schema import TableSchema
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, decode
from protocols.job import MAX_COMPUTING_PARTIES, Job
from protocols.model.spec import ModelSpec
from protocols.model.weights import MAX_WEIGHT_BYTES, weights_from_safetensors, weights_to_safetensors
from protocols.ring import RingArray
from protocols.sharing import combine_additive

MANIFEST, SCHEMA, WEIGHTS = "manifest.json", "schema.json", "weights.safetensors"
_LICENCE, _SHARE = "licence-{}.json", "share-{}.bin"
_MAX_DOCUMENT_BYTES = 1 << 20


@dataclass(frozen=True)
class HandedShare:
    """What one computing party handed out of a release.

    Attributes:
        party: which.
        share: little-endian int64 of its share of the weights; secret.
        nonce: opens its commitment.
        licence: its signed licence.
    """

    party: str
    share: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    licence: bytes


@dataclass(frozen=True)
class Released:
    """Weights that may be used as was asked, until the licence expires.

    Attributes:
        model: the architecture.
        schema: of the rows that it takes.
        weights: float32 by parameter name; secret from whoever is no recipient.
        licence: what all computing parties agree on.
    """

    model: ModelSpec
    schema: Document
    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)
    licence: Licence


def keep_released(folder: Path, job: Job, handed: Sequence[HandedShare], directory: Directory) -> Path:
    """Writes released weights with everything that belongs to them, after checking that their licences hold.

    Args:
        folder: is made; it must not exist.
        job: the release.
        handed: what each computing party handed out, in their order; secret.
        directory: whose keys are believed.

    Raises:
        ConfideError: LICENCE_REFUSED (a computing party's fault): a licence is missing, or of something else; INVALID_ARGUMENT:
            the folder exists.
    """
    refuse_folder(folder)
    files = {MANIFEST: canonical_bytes(job.model.to_document()), SCHEMA: canonical_bytes(job.schema)}
    shares = {}
    for each in handed:
        if not each.licence:
            raise ConfideError(ErrorCode.LICENCE_REFUSED, f"{each.party} sent no licence with its share", party=each.party)
        files[_LICENCE.format(each.party)] = each.licence
        files[_SHARE.format(each.party)] = shares[each.party] = each.nonce + each.share
    licences = _licences([each.licence for each in handed], directory)
    if {each.party for each in handed} != set(job.computing_parties) or {each.issuer for each in licences} != set(shares):
        raise ConfideError(ErrorCode.LICENCE_REFUSED, "not every computing party licensed its share")
    use = Use(job.querier, job.purpose, files[MANIFEST], job.created)
    files[WEIGHTS] = _weights(require_licence(licences, use), shares, job.model)
    make_folder(folder)
    for name, content in files.items():
        write_secret(folder / name, content)
    return folder


def refuse_folder(folder: Path) -> None:
    """Refuses a folder that exists: nothing of another release may lie beside these weights.

    Raises:
        ConfideError: INVALID_ARGUMENT.
    """
    if folder.exists():
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{folder} exists", remedy="Name a folder that is not there yet.")


def load_released(folder: Path, directory: Directory, *, recipient: str, purpose: str, now: datetime) -> Released:
    """Reads released weights for a use that their licence permits now; the only way in which Confide loads them.

    Args:
        folder: as `keep_released` wrote it.
        directory: whose keys are believed.
        recipient: who wants to use them.
        purpose: what for.
        now: the time, UTC.

    Raises:
        ConfideError: LICENCE_REFUSED, with every reason: no licence, another recipient or purpose, expired, or weights that are
            not the licensed ones; INVALID_DOCUMENT or BAD_SIGNATURE: a licence was altered; INVALID_MODEL: no architecture.
    """
    manifest = _read(folder / MANIFEST)
    schema = parse_canonical(_read(folder / SCHEMA))
    names = sorted(folder.glob(_LICENCE.format("*")))[: MAX_COMPUTING_PARTIES + 1]
    licences = _licences([_read(name) for name in names], directory)
    agreed = require_licence(licences, Use(recipient, purpose, manifest, now))
    spec = ModelSpec.from_document(parse_canonical(manifest))
    most = NONCE_BYTES + 8 * agreed.parameters
    shares = {party: _read(folder / _SHARE.format(party), max_bytes=most) for party in agreed.commitments}
    weights = _read(folder / WEIGHTS, max_bytes=MAX_WEIGHT_BYTES)
    if _weights(agreed, shares, spec) != weights:
        raise refused_weights("they are not those that were licensed")
    return Released(spec, schema, weights_from_safetensors(weights, spec), agreed)


def _licences(found: Sequence[bytes], directory: Directory) -> list[Licence]:
    return [verify_licence(SignedDocument.from_bytes(data), directory) for data in found]


def _weights(licence: Licence, shares: Mapping[str, bytes], spec: ModelSpec) -> bytes:
    """Returns the weights that the shares add up to, as safetensors, if they are the shares of the licence."""
    sizes = [math.prod(parameter.shape) for parameter in spec.parameters]
    if sum(sizes) != licence.parameters:
        raise refused_weights("the architecture has another number of parameters")
    parts: list[RingArray] = []
    for party, commitment in licence.commitments.items():
        share = shares[party]
        if len(share) != NONCE_BYTES + 8 * licence.parameters:
            raise refused_weights(f"the share of {party} has another size")
        opened = CommittedShare(
            session=licence.job,
            attempt=licence.attempt,
            output=licence.output,
            party=party,
            shape=(licence.parameters,),
            scale_bits=PARAMETER_BITS,
            share=share[NONCE_BYTES:],
            nonce=share[:NONCE_BYTES],
        )
        try:
            check_opening(opened, commitment)
        except ConfideError as error:
            raise refused_weights(f"the share of {party} is not the one that was licensed") from error
        parts.append(np.frombuffer(opened.share, "<i8").astype(np.int64))
    flat = decode(combine_additive(parts), scale_bits=PARAMETER_BITS).astype(np.float32)
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    named = zip(spec.parameters, pieces, strict=True)
    return weights_to_safetensors({parameter.name: piece.reshape(parameter.shape) for parameter, piece in named}, spec)


def _read(path: Path, *, max_bytes: int = _MAX_DOCUMENT_BYTES) -> bytes:
    try:
        return read_public(path, max_bytes=max_bytes)
    except ConfideError as error:
        raise refused_weights(f"{path.name}: {error.what}") from error


def is_released(folder: Path) -> bool:
    """Says whether a folder holds released weights, or what is left of them."""
    return any(folder.glob(_LICENCE.format("*"))) or any(folder.glob(_SHARE.format("*")))


def released_ranges(folder: Path) -> Mapping[str, tuple[float, float]]:
    """Returns the ranges from which rows were scaled to [-1, 1] for a released model: by feature the least and greatest value.

    Args:
        folder: as `keep_released` wrote it.

    Raises:
        ConfideError: LICENCE_REFUSED: the schema is missing; INVALID_SCHEMA: it is none.
    """
    schema = TableSchema.from_document(parse_canonical(_read(folder / SCHEMA)))
    return {column.name: column.bounds for column in schema.features}


def require_own_use(folder: Path, directory: Directory, *, party: str, purpose: str, now: datetime) -> Released:
    """Reads released weights for a party: one of its own researchers is their recipient.

    Args:
        folder: as `keep_released` wrote it.
        directory: whose keys are believed.
        party: the institution.
        purpose: what it wants to do with them.
        now: the time, UTC.

    Raises:
        ConfideError: LICENCE_REFUSED: see `load_released`; none of the recipients belongs to this institution.
    """
    own = [researcher.id for researcher in directory.researchers if researcher.institution == party]
    failure = refused_weights(
        f"no researcher of {party} is among their recipients", f"have a researcher of {party} ask for a release of its own"
    )
    for researcher in own:
        try:
            return load_released(folder, directory, recipient=researcher, purpose=purpose, now=now)
        except ConfideError as error:
            if {problem.where for problem in error.problems} != {"recipients"}:
                raise
    raise failure
