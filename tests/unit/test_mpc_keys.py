"""Streams and key schedule: published vectors, independence, single use."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.keys import Label, SessionKeys, derive_keys, expand_key
from protocols.prg import MAX_BLOCKS, AesCtrStream
from protocols.secrets import SecretBytes

PARTIES = ("alpha", "beta", "gamma")


def keys_of(party: str, **changes: object) -> SessionKeys:
    secret = {frozenset(pair): hashlib.sha256("".join(sorted(pair)).encode()).digest() for pair in _pairs()}
    arguments: dict[str, object] = {
        "party": party,
        "participants": PARTIES,
        "pair_secrets": {peer: secret[frozenset((party, peer))] for peer in PARTIES if peer != party},
        "nonces": {name: hashlib.sha256(name.encode()).digest() for name in PARTIES},
        "job_digest": "a" * 64,
        "attempt": 1,
        "plan_digest": "b" * 64,
    }
    return derive_keys(**{**arguments, **changes})  # type: ignore[arg-type]


def _pairs() -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(PARTIES) for b in PARTIES[i + 1 :]]


def test_stream_of_the_zero_key_gives_the_published_blocks() -> None:
    # E(0, 0): NIST AESAVS; E(0, 1) and E(0, 2): NIST GCM test cases 13 and 14 (their tag and ciphertext).
    taken = AesCtrStream(SecretBytes(bytes(32))).take(48).tobytes().hex()
    assert taken == "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"


def test_stream_slices_are_those_of_one_take() -> None:
    whole = AesCtrStream(SecretBytes(b"k" * 32)).take(3_000_000)
    sliced = AesCtrStream(SecretBytes(b"k" * 32))
    pieces = [sliced.take(n) for n in (1, 7, 1_500_000, 0, 1_499_992)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_stream_beyond_its_limit_is_refused() -> None:
    with pytest.raises(ConfideError, match="used up"):
        AesCtrStream(SecretBytes(bytes(32))).take(MAX_BLOCKS * 16 + 1)


def test_expanded_key_is_that_of_rfc_5869_case_1() -> None:
    key = expand_key(SecretBytes(b"\x0b" * 22), salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)))
    assert key.reveal().hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_two_holders_of_a_pair_take_equal_streams() -> None:
    one = keys_of("alpha").open_stream(Label.DEALT, "gamma", "alpha").take(64)
    two = keys_of("gamma").open_stream(Label.DEALT, "gamma", "alpha").take(64)
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 2},
        {"job_digest": "c" * 64},
        {"plan_digest": "c" * 64},
        {"nonces": {name: hashlib.sha256(b"other" + name.encode()).digest() for name in PARTIES}},
    ],
    ids=["attempt", "job", "plan", "nonces"],
)
def test_stream_differs_when_anything_agreed_differs(changes: dict[str, object]) -> None:
    before = keys_of("alpha").open_stream(Label.REFRESH, "alpha", "beta").take(32)
    after = keys_of("alpha", **changes).open_stream(Label.REFRESH, "alpha", "beta").take(32)
    assert not np.array_equal(before, after)


def test_streams_of_all_labels_and_pairs_differ() -> None:
    keys = keys_of("alpha")
    uses = [(label, *pair) for label in Label for pair in (("alpha", "beta"), ("beta", "alpha"), ("alpha", "gamma"))]
    taken = {keys.open_stream(*use).take(32).tobytes() for use in uses}
    assert len(taken) == len(uses)


def test_stream_opened_twice_is_refused() -> None:
    keys = keys_of("alpha")
    keys.open_stream(Label.INPUT, "alpha", "beta")
    with pytest.raises(ConfideError, match="opened before"):
        keys.open_stream(Label.INPUT, "alpha", "beta")


def test_stream_between_two_others_cannot_be_opened() -> None:
    # The dealer cannot reach the refresh stream of two computing parties.
    with pytest.raises(ConfideError, match="no refresh key"):
        keys_of("gamma").open_stream(Label.REFRESH, "alpha", "beta")


def test_incomplete_secrets_are_reported_all_at_once() -> None:
    with pytest.raises(ConfideError) as caught:
        keys_of("alpha", pair_secrets={"beta": b"short", "delta": bytes(32)}, nonces={})
    where = {problem.where for problem in caught.value.problems}
    assert {"pair_secrets.beta", "pair_secrets.gamma", "pair_secrets.delta", "nonces.alpha", "nonces.gamma"} <= where
    assert caught.value.code is ErrorCode.INTERNAL


def test_repeated_nonces_are_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        keys_of("alpha", nonces=dict.fromkeys(PARTIES, bytes(32)))
    assert any("not fresh" in problem.what for problem in caught.value.problems)


def test_keys_show_and_pickle_nothing() -> None:
    keys = keys_of("alpha")
    assert repr(keys) == "SessionKeys(party='alpha')"
    assert repr(SecretBytes(b"x" * 32)) == "<secret>"
    for secret in (keys, SecretBytes(b"x" * 32)):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)


def test_erased_keys_derive_nothing_more() -> None:
    keys = keys_of("alpha")
    keys.erase()
    with pytest.raises(ConfideError, match="no dealt key"):
        keys.open_stream(Label.DEALT, "gamma", "alpha")
