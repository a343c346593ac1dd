"""Fields behind their lengths have one reading."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.prefixed import prefixed

FIELDS = st.lists(st.binary(max_size=12), max_size=6)


def test_each_field_stands_behind_its_length() -> None:
    assert prefixed([b"ab", b""]) == bytes(7) + b"\x02ab" + bytes(8)
    assert prefixed([]) == b""


@given(FIELDS)
def test_fields_are_read_back_as_they_were(fields: list[bytes]) -> None:
    rest, read = prefixed(fields), []
    while rest:
        end = 8 + int.from_bytes(rest[:8], "big")
        read.append(rest[8:end])
        rest = rest[end:]
    assert read == fields
