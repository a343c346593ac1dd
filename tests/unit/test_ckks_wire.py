"""Messages have exactly the bytes that the plan says; everything else is refused before SEAL sees it, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tenseal

from protocols.ckks.batch_wire import encode_batch_query
from protocols.ckks.engine import Engine, SecretKey
from protocols.ckks.key_manifest import KeyManifest
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.packing_bits import packed_bytes
from protocols.ckks.parameters import PARAMETER_SETS
from protocols.ckks.planning import Lane
from protocols.ckks.wire import (
    WireShape,
    decode_answer,
    decode_keys,
    decode_query,
    encode_answer,
    encode_keys,
    encode_query,
)
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode
from tests.support.ckks import LARGE, SMALL, linear_plan, stream
from tests.support.seal_bytes import saved

SHAPE = WireShape(
    lane=Lane.LATENCY,
    parameters=LARGE,
    plan_digest=bytes(range(32)),
    keys=KeyManifest(((1, 2), (7, 0), (9, 1)), 1, True, 1),
    query_ciphertexts=2,
    query_level=1,
    query_scale=2.0**30,
    answer_ciphertexts=2,
    answer_parts=3,
    answer_scale=2.0**40,
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(LARGE)


@pytest.fixture(scope="module")
def secret(engine: Engine) -> SecretKey:
    return engine.make_secret_key()


@pytest.fixture(scope="module")
def query(engine: Engine, secret: SecretKey) -> bytes:
    plaintexts = [engine.encode_constant(value, 1, 2.0**30) for value in (0.25, -4.0)]
    return encode_query(SHAPE, [engine.encrypt(secret, plaintext) for plaintext in plaintexts])


@pytest.fixture(scope="module")
def keys(engine: Engine, secret: SecretKey) -> bytes:
    return encode_keys(SHAPE, engine.make_key_material(secret, SHAPE.keys))


@pytest.fixture(scope="module")
def answer() -> bytes:
    rng = np.random.default_rng(5)
    columns = [rng.integers(0, prime, (2, 3, LARGE.ring_degree), np.uint64) for prime in LARGE.primes[:2]]
    return encode_answer(SHAPE, list(np.stack(columns, axis=2)))


def test_query_reads_back_to_the_same_plaintexts_in_exactly_the_bytes_of_the_plan(
    engine: Engine, secret: SecretKey, query: bytes
) -> None:
    # Two ciphertexts of a 64-byte seed and one polynomial modulo primes of 50 and 36 bits.
    assert len(query) == SHAPE.query_bytes == HEADER_BYTES + 2 * (64 + 8192 * (50 + 36) // 8)
    read = decode_query(SHAPE, query)
    for ciphertext, value in zip(read, (0.25, -4.0), strict=True):
        assert (ciphertext.level, ciphertext.scale) == (1, 2.0**30)
        assert np.abs(engine.decrypt(secret, engine.load(ciphertext)) - value).max() < 1e-5
    assert encode_query(SHAPE, read) == query


def test_keys_read_back_in_exactly_the_bytes_of_the_manifest_and_work(engine: Engine, secret: SecretKey, keys: bytes) -> None:
    # Rotations at levels 2, 0, 1 (special prime of 60 bits), relinearisation at level 1, public key up to prime 2.
    bits = [3 * (50 + 36 + 36 + 60), 1 * (50 + 60), 2 * (50 + 36 + 60), 2 * (50 + 36 + 60), 50 + 36 + 36]
    digits = 3 + 1 + 2 + 2 + 1
    assert len(keys) == SHAPE.key_bytes == HEADER_BYTES + 64 * digits + 1024 * sum(bits)
    loaded = engine.load_key_material(decode_keys(SHAPE, keys))
    values = np.linspace(-1, 1, LARGE.slots)
    ciphertext = engine.load(engine.encrypt(secret, engine.encode(values, 1, 2.0**30)))
    assert np.abs(engine.decrypt(secret, engine.rotate(ciphertext, 9, loaded)) - np.roll(values, -9)).max() < 1e-3
    assert np.abs(engine.decrypt(secret, engine.square(ciphertext, loaded)) - values**2).max() < 1e-3
    assert loaded.public_key is not None
    zero = engine.encrypt_zero(loaded.public_key, 1)
    engine.set_scale(zero, 2.0**30)
    assert np.abs(engine.decrypt(secret, zero)).max() < 1e-4


def test_answer_reads_back_in_exactly_the_bytes_of_the_plan(answer: bytes) -> None:
    assert len(answer) == SHAPE.answer_bytes == HEADER_BYTES + 2 * 3 * 1024 * (50 + 36)
    read = decode_answer(SHAPE, answer)
    assert [each.shape for each in read] == [(3, 2, LARGE.ring_degree)] * 2
    assert encode_answer(SHAPE, read) == answer


Decode = Callable[[WireShape, bytes], object]


@pytest.mark.parametrize(
    ("kind", "decode", "code"),
    [
        ("query", decode_query, ErrorCode.INVALID_ARGUMENT),
        ("keys", decode_keys, ErrorCode.INVALID_ARGUMENT),
        ("answer", decode_answer, ErrorCode.BAD_FRAME),
    ],
)
def test_altered_message_is_refused_with_the_reason(
    request: pytest.FixtureRequest, kind: str, decode: Decode, code: ErrorCode
) -> None:
    message: bytes = request.getfixturevalue(kind)
    first_prime_at = HEADER_BYTES + (0 if kind == "answer" else 64)
    all_ones = b"\xff" * packed_bytes(LARGE.ring_degree, 50)
    cases = {
        "is no CKKS message": b"x" + message[1:],
        "version 2": message[:8] + b"\x02" + message[9:],
        "of kind 77": message[:10] + b"\x4d" + message[11:],
        "another plan": message[:12] + b"\xff" + message[13:],
        f"has {len(message) - 1} bytes": message[:-1],
        f"has {len(message) + 1} bytes": message + b"\0",
        f"has {HEADER_BYTES} bytes": message[:HEADER_BYTES],
        "is no CKKS": b"",
        "not below its prime": message[:first_prime_at] + all_ones + message[first_prime_at + len(all_ones) :],
    }
    for reason, data in cases.items():
        with pytest.raises(ConfideError) as caught:
            decode(SHAPE, data)
        assert caught.value.code is code
        assert reason in caught.value.what


def test_one_message_is_not_taken_for_another(query: bytes, keys: bytes, answer: bytes) -> None:
    for decode, others in ((decode_query, (keys, answer)), (decode_keys, (query, answer)), (decode_answer, (query, keys))):
        for other in others:
            with pytest.raises(ConfideError, match="of kind"):
                decode(SHAPE, other)


def tenseal_context() -> tenseal.Context:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    context.global_scale = 2.0**40
    return context


def test_objects_of_seal_and_tenseal_are_refused_and_our_client_is_named(engine: Engine, secret: SecretKey) -> None:
    context = tenseal_context()
    ciphertext = engine.load(engine.encrypt(secret, engine.encode_constant(1.0, 1, 2.0**30)))
    foreign = [
        tenseal.ckks_vector(context, [1.0, 2.0]).serialize(),
        tenseal.ckks_tensor(context, [1.0, 2.0]).serialize(),
        context.serialize(),
        saved(ciphertext.raw),
        saved(secret.raw),
    ]
    for data in foreign:
        with pytest.raises(ConfideError, match="SEAL or TenSEAL") as caught:
            decode_query(SHAPE, data)
        assert "confide infer" in caught.value.remedy


def test_secret_key_material_is_refused_and_its_sender_is_told(engine: Engine, secret: SecretKey) -> None:
    small = Engine(SMALL)
    leaks = [
        KeyOwner(small, small.make_secret_key(), stream("owner")).key_file().reveal(),
        KeyOwner(engine, secret, stream("owner")).key_file().reveal(),
        tenseal_context().serialize(save_secret_key=True),
        tenseal_context().serialize(save_secret_key=True, save_public_key=False, save_galois_keys=False, save_relin_keys=False),
    ]
    for data in leaks:
        for decode in (decode_query, decode_keys):
            with pytest.raises(ConfideError, match="your secret key left your machine") as caught:
                decode(SHAPE, data)
            assert "Destroy that key" in caught.value.remedy


def test_bytes_that_only_resemble_a_protobuf_are_no_secret_key() -> None:
    for data in (
        b"\x0a\x04\x5e\xa1\x10\x04",
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x0a" + b"\xff" * 30,
        b"\x08" * 99,
    ):
        with pytest.raises(ConfideError) as caught:
            decode_query(SHAPE, data)
        assert "left your machine" not in caught.value.what


def test_what_the_plan_does_not_have_is_not_encoded(engine: Engine, secret: SecretKey) -> None:
    one = engine.encrypt(secret, engine.encode_constant(1.0, 1, 2.0**30))
    low = engine.encrypt(secret, engine.encode_constant(1.0, 0, 2.0**30))
    for ciphertexts in ([one], [one, low], [one, replace(one, scale=2.0**31)]):
        with pytest.raises(ValueError, match="plan"):
            encode_query(SHAPE, ciphertexts)
    material = engine.make_key_material(secret, replace(SHAPE.keys, rotations=()))
    with pytest.raises(ValueError, match="another manifest"):
        encode_keys(SHAPE, material)
    with pytest.raises(ValueError, match="not complete"):
        encode_keys(SHAPE, replace(material, manifest=SHAPE.keys, rotations=((), (), ())))
    with pytest.raises(ValueError, match="not the plan's"):
        encode_answer(SHAPE, [np.zeros((2, 2, LARGE.ring_degree), np.uint64)] * 2)
    with pytest.raises(ValueError, match="where the plan has"):
        encode_answer(SHAPE, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"query_level": 3},
        {"answer_parts": 4},
        {"query_ciphertexts": 0},
        {"query_ciphertexts": 10_000},
        {"keys": KeyManifest(((4096, 0),), None, False)},
        {"keys": KeyManifest(((1, 3),), None, False)},
    ],
)
def test_shape_that_the_parameters_do_not_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"level|parts|ciphertext|step|bytes"):
        replace(SHAPE, **wrong)  # type: ignore[arg-type]


def test_shape_of_a_plan_is_bound_to_its_digest() -> None:
    plan = linear_plan()
    shape = WireShape.of(plan)
    assert shape.plan_digest.hex() == plan.digest
    assert WireShape.of(replace(plan, precision=2.0**-2)).plan_digest != shape.plan_digest
    with pytest.raises(ConfideError) as caught:
        WireShape.of(replace(plan, fresh_level=5))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


@pytest.mark.parametrize("level", [None, 0])
def test_manifest_reads_back_and_an_altered_one_is_refused(level: int | None) -> None:
    manifest = KeyManifest(((1, 2), (7, 0)), level, True, 1)
    document = manifest.to_document()
    assert KeyManifest.from_document(document) == manifest
    for field, value in (
        ("rotations", [[7, 0], [1, 2]]),
        ("rotations", [[1, 2], [1, 0]]),
        ("rotations", [[0, 0]]),
        ("rotations", [[1, -1]]),
        ("rotations", [[1, True]]),
        ("rotations", [[1.0, 0]]),
        ("rotations", [[step, 0] for step in range(1, 600)]),
        ("rotations", 7),
        ("relinearise_level", "0"),
        ("public_key", 1),
        ("answer_level", None),
        ("more", 1),
    ):
        with pytest.raises(ConfideError, match="key manifest"):
            KeyManifest.from_document({**document, field: value})


def test_batch_lane_with_primes_of_several_sizes_has_no_messages() -> None:
    """Residues of that lane are packed into words of one size; a plan that says otherwise is its author's fault."""
    with pytest.raises(ValueError, match="no set of the batch lane"):
        replace(SHAPE, lane=Lane.BATCH)


def test_query_of_the_batch_lane_has_the_length_of_its_own_form() -> None:
    shape = replace(
        SHAPE, lane=Lane.BATCH, parameters=PARAMETER_SETS["batch-2"], keys=KeyManifest((), None, True, 2), query_level=2
    )
    first = np.ones((2, 3, 4096), np.uint32)
    assert len(encode_batch_query(shape, bytes(32), first)) == shape.query_bytes == HEADER_BYTES + 32 + 2 * 3 * 4096 * 30 // 8
