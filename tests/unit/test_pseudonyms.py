"""Keyed pseudonyms: one token for one person wherever it is made, none without every key, nothing for helpers to see."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import BASE_POINT, ORDER, POINT_BYTES, SECRET_BYTES, Exponent, field, hash_to_point
from protocols.identifiers.normalisation import normalise
from protocols.identifiers.pseudonyms import MAX_BATCH, Context, blind, check_value, evaluate, finish, project_key
from protocols.secrets import SecretBytes

MASTERS = {party: SecretBytes(hashlib.sha256(party.encode()).digest()) for party in ("hospital-a", "hospital-b", "hospital-c")}
CONTEXT = Context("cardio", "heart", 1, ("hospital-a", "hospital-b"))


def drawn(count: int, seed: str = "blinds") -> SecretBytes:
    return SecretBytes(hashlib.shake_256(seed.encode()).digest(count * SECRET_BYTES))


def tokens(party: str, identifiers: list[str], context: Context = CONTEXT, seed: str = "blinds") -> list[str]:
    """What a party gets when it asks all others of the context."""
    blinded = blind(identifiers, context, randomness=drawn(len(identifiers) + 1, seed))
    points = blinded.points
    for helper in context.members:
        if helper != party:
            points = evaluate(points, project_key(MASTERS[helper], context))
    return list(finish(points, blinded, identifiers, context=context, key=project_key(MASTERS[party], context)))


def token_of_product(identifier: str, context: Context, parties: tuple[str, ...]) -> str:
    """The definition, without blinding: H(x) to the product of the keys of some parties."""
    product = 1
    for party in parties:
        product = product * int.from_bytes(project_key(MASTERS[party], context).export_secret_bytes(), "big") % ORDER
    head = field(context.to_bytes()) + field(identifier)
    power = Exponent(product).power(hash_to_point(b"confide.pseudonym-input/1\x00" + head))
    return hashlib.sha256(b"confide.pseudonym/1\x00" + head + power).hexdigest()[:32]


def test_token_is_the_function_of_the_product_of_all_keys() -> None:
    for context in (CONTEXT, Context("cardio", "heart", 1, ("hospital-a", "hospital-b", "hospital-c"))):
        assert tokens("hospital-a", ["anna", "bert"], context) == [
            token_of_product(text, context, context.members) for text in ("anna", "bert")
        ]


def test_one_person_has_one_token_at_every_institution() -> None:
    context = Context("cardio", "heart", 1, ("hospital-a", "hospital-b", "hospital-c"))
    people = ["anna", "bert", "carla"]
    first = tokens("hospital-a", people, context, "one")
    assert tokens("hospital-b", people, context, "two") == first
    assert tokens("hospital-c", people[::-1], context, "three") == first[::-1]
    assert len(set(first)) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, rotation=2),
        replace(CONTEXT, project="lung"),
        replace(CONTEXT, consortium="onco"),
        replace(CONTEXT, members=("hospital-a", "hospital-b", "hospital-c")),
    ],
)
def test_no_token_of_another_context_matches(other: Context) -> None:
    people = [f"person {number}" for number in range(50)]
    assert not set(tokens("hospital-a", people)) & set(tokens("hospital-a", people, other))


def test_guessing_every_identifier_with_one_partys_key_finds_none() -> None:
    """All 15,524 identifiers of a table, by whoever holds either party's secret and knows everything else but the other one's."""
    everybody = [normalise(f"Subject {number}") for number in range(15_524)]
    held = set(tokens("hospital-a", everybody[::500]))
    assert len(held) == 32
    context = field(CONTEXT.to_bytes())
    for party in CONTEXT.members:
        key = project_key(MASTERS[party], CONTEXT)
        hits = 0
        for text in everybody:
            head = context + field(text)
            power = key.power_of_hash(b"confide.pseudonym-input/1\x00" + head)
            hits += hashlib.sha256(b"confide.pseudonym/1\x00" + head + power).hexdigest()[:32] in held
        assert hits == 0
    # With both keys the same search finds every one, so that the search itself is sound.
    assert all(token_of_product(text, CONTEXT, CONTEXT.members) in held for text in everybody[::500])


def test_helper_sees_other_points_every_time_and_in_an_order_of_their_own() -> None:
    people = [f"person {number}" for number in range(40)]
    first, second = (blind(people, CONTEXT, randomness=drawn(41, seed)) for seed in ("one", "two"))
    seen = [
        {blinded.points[start : start + POINT_BYTES] for start in range(0, len(blinded.points), POINT_BYTES)}
        for blinded in (first, second)
    ]
    assert len(seen[0]) == len(seen[1]) == 41
    assert not seen[0] & seen[1]
    assert first.order != second.order
    assert sorted(first.order) == list(range(41))


def test_check_value_is_the_power_of_the_base_point_and_shows_another_key() -> None:
    key = project_key(MASTERS["hospital-b"], CONTEXT)
    found = []
    for seed in ("one", "two"):
        blinded = blind(["anna"], CONTEXT, randomness=drawn(2, seed))
        found.append(check_value(evaluate(blinded.points, key), blinded))
        assert check_value(evaluate(blinded.points, project_key(MASTERS["hospital-c"], CONTEXT)), blinded) != found[0]
    assert found[0] == found[1] == key.power(BASE_POINT)


@pytest.mark.parametrize(
    "points",
    [b"", BASE_POINT[:-1], BASE_POINT * 2, bytes(31) + b"\x01" + BASE_POINT, BASE_POINT * (MAX_BATCH + 1)],
    ids=["none", "cut off", "twice", "on the twist", "too many"],
)
def test_helper_refuses_what_are_no_points(points: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        evaluate(points, project_key(MASTERS["hospital-b"], CONTEXT))
    assert caught.value.code is ErrorCode.BAD_FRAME


def test_answer_of_another_length_is_refused() -> None:
    blinded = blind(["anna"], CONTEXT, randomness=drawn(2))
    key = project_key(MASTERS["hospital-a"], CONTEXT)
    for answered in (b"", blinded.points[:-1], blinded.points + BASE_POINT):
        with pytest.raises(ConfideError) as caught:
            finish(answered, blinded, ["anna"], context=CONTEXT, key=key)
        assert caught.value.code is ErrorCode.BAD_FRAME


@pytest.mark.parametrize("members", [("hospital-a",), ("hospital-b", "hospital-a"), ("hospital-a", "hospital-a")])
def test_context_needs_two_institutions_in_order(members: tuple[str, ...]) -> None:
    with pytest.raises(ConfideError):
        replace(CONTEXT, members=members)
