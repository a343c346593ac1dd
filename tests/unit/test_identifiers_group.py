"""Powers of points of P-256 against plain affine arithmetic, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import BASE_POINT, ORDER, SECRET_BYTES, Exponent, hash_to_point, split_points
from protocols.identifiers.normalisation import normalise, normalise_all
from protocols.secrets import SecretBytes

# SEC 2, secp256r1: y^2 = x^3 - 3x + B over the integers modulo P.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
Point = tuple[int, int] | None


def lift(x: int) -> Point:
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return (x, y) if y * y % P == square else None


def add(first: Point, second: Point) -> Point:
    if first is None or second is None:
        return first or second
    (x1, y1), (x2, y2) = first, second
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if first == second else (y2 - y1) * pow(x2 - x1, -1, P)
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P


def times(number: int, point: Point) -> Point:
    found: Point = None
    while number:
        if number & 1:
            found = add(found, point)
        point, number = add(point, point), number >> 1
    return found


def x_of(point: Point) -> bytes:
    assert point is not None
    return point[0].to_bytes(32, "big")


def exponent(seed: str) -> Exponent:
    return Exponent.from_secret(SecretBytes(hashlib.shake_256(seed.encode()).digest(SECRET_BYTES)))


def number_of(found: Exponent) -> int:
    return int.from_bytes(found.export_secret_bytes(), "big")


def test_power_is_that_of_affine_arithmetic() -> None:
    for seed in range(4):
        key = exponent(str(seed))
        point = hash_to_point(f"person {seed}".encode())
        assert key.power(point) == x_of(times(number_of(key), lift(int.from_bytes(point, "big"))))


def test_powers_commute_and_a_quotient_takes_a_blind_away() -> None:
    first, second, point = exponent("a"), exponent("b"), hash_to_point(b"x")
    assert first.power(second.power(point)) == second.power(first.power(point))
    assert second.over(first).power(first.power(point)) == second.power(point)
    assert first.power_of_hash(b"x") == first.power(point)


def test_hash_is_the_first_digest_that_is_an_x_coordinate() -> None:
    for message in (b"", b"a", b"\x00" * 40, b"patient-17"):
        digests = (hashlib.sha256(b"confide.point/1\x00" + bytes([counter]) + message).digest() for counter in range(256))
        first = next(d for d in digests if int.from_bytes(d, "big") < P and lift(int.from_bytes(d, "big")) is not None)
        assert hash_to_point(message) == first


def test_base_point_has_the_order_of_the_group() -> None:
    base = lift(int.from_bytes(BASE_POINT, "big"))
    assert times(ORDER, base) is None
    assert Exponent(1).power(BASE_POINT) == Exponent(ORDER - 1).power(BASE_POINT) == BASE_POINT


TWIST = next(x for x in range(1, 50) if lift(x) is None).to_bytes(32, "big")


@pytest.mark.parametrize(
    "point", [TWIST, P.to_bytes(32, "big"), (2**256 - 1).to_bytes(32, "big"), b"", BASE_POINT[:31], BASE_POINT + b"\x00"]
)
def test_no_point_of_the_curve_is_refused(point: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        exponent("a").power(point)
    assert caught.value.code is ErrorCode.BAD_FRAME
    assert caught.value.__cause__ is None


def test_points_that_are_cut_off_are_refused() -> None:
    assert list(split_points(BASE_POINT * 2)) == [BASE_POINT, BASE_POINT]
    with pytest.raises(ConfideError) as caught:
        list(split_points(BASE_POINT + b"\x00"))
    assert caught.value.code is ErrorCode.BAD_FRAME


def test_exponents_do_not_show_themselves() -> None:
    key = exponent("a")
    assert repr(key) == "<secret>"
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(key)
    for wrong in (bytes(32), ORDER.to_bytes(32, "big"), b"\x01"):
        with pytest.raises(ConfideError):
            Exponent.from_secret_bytes(wrong)
    with pytest.raises(ConfideError):
        Exponent.from_secret(SecretBytes(bytes(32)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller  17", "mu\u0308ller 17"),
        ("  A-1\t", "a-1"),
        ("\uff21\uff22\uff11\uff12", "ab12"),
        ("STRASSE 3", "straße 3"),
        ("a\u00a0b", "A B"),
    ],
)
def test_what_people_write_differently_is_one_identifier(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) == normalise(normalise(one))


@pytest.mark.parametrize(("one", "other"), [("007", "7"), ("A-1", "A1"), ("Jose", "José"), ("a b", "ab")])
def test_what_may_tell_people_apart_stays(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_identifiers_that_cannot_be_used_are_named_by_number_alone() -> None:
    with pytest.raises(ConfideError) as caught:
        normalise_all(["good", " ", "\ud800secret", "x" * 1025])
    assert [problem.where for problem in caught.value.problems] == ["identifier 2", "identifier 3", "identifier 4"]
    assert "secret" not in str(caught.value)
