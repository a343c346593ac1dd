"""Structure-aware mutations of what travels: protobuf messages field by field, documents value by value, streams part by part.

Everything follows from the generator that is given, so that a case can be repeated from its number.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from protocols.canonical import canonical_bytes
from tests.fuzz.ckks import ALTERATION_BYTES

M = TypeVar("M", bound=Message)
NUMBERS = (0, 1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
TEXTS = (
    "", " ", "\0", "\x1b[2J\x1b[H", "é" * 300, "\u202e", "../../etc/passwd", "%s%n", "0" * 64, "f" * 32, "1e999", "-0.0", "nan",
    "inf", "9" * 400, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "=1+1", "x" * 5_000,
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2, 16, 2**31, 2**63, 10**15, [], {}, [[]], {"a": 1}, [1, 2], ["a"], *TEXTS,
)  # fmt: skip
_LARGE = 3 << 20


def a_recipe(rng: random.Random, most: int = 4) -> bytes:
    """Returns alterations of a CKKS message; see `tests.fuzz.ckks.altered`."""
    return rng.randbytes(ALTERATION_BYTES * rng.randint(1, most))


def some_bytes(rng: random.Random, data: bytes) -> bytes:
    """Returns bytes with a few of them altered, cut, doubled or replaced."""
    match rng.randrange(6):
        case 0:
            return b""
        case 1:
            return data[: rng.randrange(len(data) + 1)]
        case 2:
            return data + rng.randbytes(rng.choice((1, 8, 1000)))
        case 3:
            return rng.randbytes(rng.choice((1, len(data), min(2 * len(data) + 1, _LARGE))))
        case 4:
            return bytes(rng.choice((len(data), _LARGE)))
        case _:
            found = bytearray(data or b"\0")
            for _ in range(rng.randint(1, 4)):
                found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
            return bytes(found)


def a_message(rng: random.Random, message: M) -> M:
    """Returns a message with a field of it, or of one inside it, set to something else."""
    found = copy.deepcopy(message)
    inside = [found, *_inside(found)]
    target = rng.choice(inside)
    field = rng.choice(target.DESCRIPTOR.fields)
    if field.is_repeated:
        _alter_list(rng, target, field)
    elif field.message_type is not None:
        target.ClearField(field.name)
    else:
        setattr(target, field.name, _value(rng, field, getattr(target, field.name)))
    return found


def on_the_wire(rng: random.Random, data: bytes) -> bytes:
    """Returns the bytes of a message as no program writes them: altered, cut, or with fields that there are not."""
    if rng.random() < 0.3:
        return data + bytes([rng.choice((0x7A, 0xFA)), 0x01, 0x05]) + b"abcde" * rng.choice((1, 1000))
    return some_bytes(rng, data)


def a_document(rng: random.Random, body: bytes) -> bytes:
    """Returns a document with a value in it replaced, taken away, doubled or put elsewhere; canonical where it can be."""
    document = json.loads(body)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _alter(rng, document)
    try:
        return canonical_bytes(document)
    except Exception:
        return json.dumps(document).encode()


def a_stream(rng: random.Random, parts: Sequence[M]) -> Iterable[M]:
    """Returns the parts of a stream in another order, number, or without an end."""
    found = list(parts)
    match rng.randrange(6):
        case 0:
            found.pop(rng.randrange(len(found)))
        case 1:
            found.insert(rng.randrange(len(found) + 1), rng.choice(found))
        case 2:
            rng.shuffle(found)
        case 3:
            empty = type(found[0])()
            return _endlessly(rng.choice((found[0], empty)))
        case 4:
            found.insert(rng.randrange(len(found) + 1), type(found[0])())
        case _:
            at = rng.randrange(len(found))
            found[at] = a_message(rng, found[at])
    return found


def _endlessly(part: M) -> Iterable[M]:
    while True:
        yield part


def _inside(message: Message) -> list[Any]:
    found: list[Any] = []
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if field.is_repeated else [value]:
            found += [each, *_inside(each)]
    return found


def _value(rng: random.Random, field: FieldDescriptor, now: object) -> object:
    if isinstance(now, bool):
        return not now
    if isinstance(now, int):
        # Whatever the field's width is, this fits; the extremes of unsigned ones are among what `on_the_wire` writes.
        most = 2**31 - 1 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 2**63 - 1
        return min(rng.choice((*NUMBERS, now + 1, max(now - 1, 0), 2 * now)), most)
    if isinstance(now, float):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e308))
    if isinstance(now, bytes):
        return some_bytes(rng, now)
    return rng.choice((*TEXTS, str(now)[:-1], str(now) + "0"))


def _alter_list(rng: random.Random, target: Any, field: FieldDescriptor) -> None:
    held = list(getattr(target, field.name))
    target.ClearField(field.name)
    if held and rng.random() < 0.7:
        getattr(target, field.name).extend(held * rng.choice((2, 10, 60)))


def _alter(rng: random.Random, document: Any) -> None:
    places = list(_places(document))
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            holder.pop(key)
        case 1 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(rng.choice(holder)))
        case 1:
            holder[rng.choice(TEXTS)] = holder[key]
        case 2:
            other, place = rng.choice(places)
            with_what = copy.deepcopy(other[place])
            holder[key] = with_what if len(json.dumps(with_what)) < 100_000 else 0
        case 3:
            holder[key] = _near(rng, holder[key])
        case _:
            holder[key] = rng.choice(VALUES)


def _near(rng: random.Random, value: Any) -> Any:
    """Returns something like a value: another number of the same form, a text that differs in a letter, a longer list."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, 2 * value, -value, value // 2))
    if isinstance(value, list):
        return value * 2 if len(value) < 10_000 else value[:-1]
    if isinstance(value, dict):
        return {**value, "more": 1}
    try:
        number = float(value)
    except (TypeError, ValueError):
        return f"{value}0"
    return repr(rng.choice((number * 2, number / 2, -number, number * 1e-6, number * 1e6, number + 1)))


def _places(document: Any) -> Iterable[tuple[Any, Any]]:
    # Of long lists of numbers, which slots are, some places are enough; else nothing but slots would be altered.
    keys = list(document) if isinstance(document, dict) else range(len(document))
    shown = keys if len(keys) <= 40 else [keys[0], keys[1], keys[len(keys) // 2], keys[-1]]
    for key in shown:
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])
