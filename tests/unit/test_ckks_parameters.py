"""The named parameter sets are secure, are what SEAL uses, and cannot be altered by a document."""

from __future__ import annotations

import hashlib
import math

import pytest

from protocols.ckks.parameters import MAX_TOTAL_BITS, PARAMETER_SETS, ParameterSet
from protocols.errors import ConfideError, ErrorCode

SETS = list(PARAMETER_SETS.values())


@pytest.mark.parametrize("parameters", SETS, ids=lambda each: each.name)
def test_named_set_stays_within_the_security_limit(parameters: ParameterSet) -> None:
    assert math.log2(math.prod(parameters.key_primes)) <= MAX_TOTAL_BITS[parameters.ring_degree]


def test_limits_lie_below_what_seal_enforces() -> None:
    assert all(MAX_TOTAL_BITS[degree] < seals for degree, seals in ((4096, 109), (8192, 218), (16384, 438), (32768, 881)))


@pytest.mark.parametrize("parameters", SETS, ids=lambda each: each.name)
def test_primes_are_distinct_of_their_bits_and_split_the_ring(parameters: ParameterSet) -> None:
    primes = parameters.key_primes
    assert len(set(primes)) == len(primes)
    assert [prime.bit_length() for prime in primes] == [*parameters.data_bits, parameters.special_bits]
    assert all(prime % (2 * parameters.ring_degree) == 1 for prime in primes)
    # Fermat to two bases that the primality test of the module does not use.
    assert all(pow(base, prime - 1, prime) == 1 for prime in primes for base in (41, 43))


def test_latency_sets_have_room_for_their_depth_and_switch_keys() -> None:
    latency = {name: each for name, each in PARAMETER_SETS.items() if name.startswith("latency-")}
    assert sorted(name.removeprefix("latency-")[0] for name in latency) == [str(depth) for depth in range(1, 9)]
    assert all(each.switches_keys and each.levels == int(name.removeprefix("latency-")[0]) for name, each in latency.items())


def test_primes_of_a_known_set_are_those_that_seal_chooses() -> None:
    # CoeffModulus::Create(8192, {60, 40, 40, 60}) of SEAL 4: ascending among equals.
    known = ParameterSet("known", 8192, (60, 40, 40), 60)
    assert known.key_primes == (1152921504606748673, 1099510890497, 1099511480321, 1152921504606830593)
    assert known.primes == known.key_primes[:-1]
    assert known.special_prime == known.key_primes[-1]


@pytest.mark.parametrize("parameters", SETS, ids=lambda each: each.name)
def test_document_reads_back_and_an_altered_one_is_refused(parameters: ParameterSet) -> None:
    document = parameters.to_document()
    assert ParameterSet.from_document(document) == parameters
    for field, value in (("name", "latency-0"), ("ring_degree", 1024), ("special_prime", "7"), ("name", None), ("more", 1)):
        with pytest.raises(ConfideError) as caught:
            ParameterSet.from_document({**document, field: value})
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_digest_depends_on_every_prime() -> None:
    digests = {
        ParameterSet("a", 8192, bits, special).digest for bits, special in (((50, 40), 60), ((50, 41), 60), ((50, 40), 59))
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("ring_degree", "data_bits", "special_bits"),
    [(4096, (52,), 55), (8192, (60, 60, 40), 60), (2048, (27,), 27), (8192, (), 60), (8192, (61,), 61)],
)
def test_set_beyond_the_limits_is_refused(ring_degree: int, data_bits: tuple[int, ...], special_bits: int) -> None:
    with pytest.raises(ValueError, match=r"bits|degree"):
        ParameterSet("unsafe", ring_degree, data_bits, special_bits)


# Name, ring degree, all primes with the special one last, digest. What was published or encrypted under a set stays readable only
# while the set stays what it was: a change of one gets a new name.
PINNED = (
    (
        "latency-1b",
        4096,
        (9007199254364161, 9007199254429697),
        "e0a429616680d7d2475c7d64aa555db740f8f6b92894789e7f03df9ee2c3ac40",
    ),
    (
        "latency-2b",
        8192,
        (576460752303210497, 4503599627124737, 1152921504606830593),
        "a4e450eb09a2551c7a6375c4ac70572876c307b35808c89172f05231cd62041c",
    ),
    (
        "latency-3b",
        8192,
        (288230376150876161, 35184371417089, 35184371613697, 1152921504606830593),
        "e6f1ca2cd983a34865381ebd7d59ffb8a01ae5120e38b6b6729f46c42ff8823d",
    ),
    (
        "latency-4b",
        8192,
        (288230376150876161, 4293836801, 4293918721, 4294475777, 1152921504606830593),
        "a7d6aebd6bf585ab932baa66cc334685f9d1d1eb17a9530d614d312526361608",
    ),
    (
        "latency-5b",
        8192,
        (1125899906826241, 268271617, 268369921, 133644289, 133857281, 18014398508400641),
        "ee2cbd60ec3079726f73e239c54d5e34f9ec01811b1a942b96d0cedcd2653ce8",
    ),
    (
        "latency-6",
        16384,
        (72057594037370881, 35184369893377, 35184370155521, 35184370352129, 35184370941953, 35184371138561, 1152921504606748673),
        "2c6067158398bdf5ccbfe3a9179ba38a6e7850ec6833754aefe13c41710a5be3",
    ),
    (
        "latency-7",
        16384,
        (
            72057594037370881,
            35184368877569,
            35184369893377,
            35184370155521,
            35184370352129,
            35184370941953,
            35184371138561,
            1152921504606748673,
        ),
        "fa0b2a50778c23c0d7e0305a97f0007778e08ad3c406e6ab0625f58167ac268f",
    ),
    (
        "latency-8",
        16384,
        (
            72057594037370881,
            17592181129217,
            17592181260289,
            17592182243329,
            17592182833153,
            17592183324673,
            17592183390209,
            17592183914497,
            1152921504606748673,
        ),
        "6c720c4a54afbc7b022e3ce4ce10f2076ac8996b48250cbe2b11af55e71f5ebc",
    ),
    ("batch-1", 4096, (1073651713, 1073668097, 1073692673), "789252368bbc52d57be05f381f9e905b64c01a228de5f8d502f78c9e3ecf6ca1"),
    (
        "batch-2",
        4096,
        (1073651713, 1073668097, 1073692673, 40961),
        "23bb002361b133c8b11102a99593ceab0b9ad347ff70f23fafb24bf9c21d86ec",
    ),
    (
        "batch-2-fine",
        8192,
        (1073299457, 1073430529, 1073479681, 1073643521, 1073692673),
        "62af0093f2b6f1c7744333f80769f6aece6ac3ca28cf16b3cedac5c8439723ef",
    ),
)


def test_every_named_set_is_the_one_that_was_published_under_its_name() -> None:
    found = tuple((each.name, each.ring_degree, each.key_primes, each.digest) for each in PARAMETER_SETS.values())
    assert found == PINNED


@pytest.mark.parametrize(("name", "ring_degree", "primes", "digest"), PINNED, ids=[each[0] for each in PINNED])
def test_digest_is_that_of_the_canonical_document_written_by_hand(
    name: str, ring_degree: int, primes: tuple[int, ...], digest: str
) -> None:
    data = ",".join(f'"{prime}"' for prime in primes[:-1])
    document = f'{{"data_primes":[{data}],"name":"{name}","ring_degree":{ring_degree},"special_prime":"{primes[-1]}"}}'
    assert hashlib.sha256(document.encode()).hexdigest() == digest
