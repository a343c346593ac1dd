"""The manifest of a model, for any change of a valid one: read exactly as it was written, or refused as a model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import FORMAT, INPUT, MAX_LAYERS, MAX_PARAMETERS, ModelSpec
from tests.support.hostile import VALUES, at_paths, replaced
from tests.support.models import CHAIN, SKIP

DOCUMENTS = [CHAIN.to_document(), SKIP.to_document()]


def altered(document: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    result: dict[str, Any] = replaced(copy.deepcopy(document), path, value)
    return result


def read_or_refused(document: dict[str, Any]) -> bytes | ErrorCode:
    try:
        return canonical_bytes(ModelSpec.from_document(document).to_document())
    except ConfideError as error:
        return error.code


@given(
    st.sampled_from(DOCUMENTS),
    st.data(),
    VALUES | st.integers(-2, 1 << 40) | st.sampled_from(["0", "0.5", "1e3", "NaN", "input"]),
)
def test_from_document_any_value_anywhere_is_read_exactly_or_refused(
    document: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    path = data.draw(st.sampled_from(at_paths(document)))
    hostile = altered(document, *path, value=value)
    read = read_or_refused(hostile)
    assert read in (ErrorCode.INVALID_MODEL, canonical_bytes(hostile))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_from_document_of_a_manifest_gives_it_back(document: dict[str, Any]) -> None:
    assert ModelSpec.from_document(document).to_document() == document


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("format",), "confide.model/2", FORMAT),
        (("input_shape",), [0], "1 to"),
        (("input_shape",), [256, 256, 256], "features"),
        (("layers",), [], f"1 to {MAX_LAYERS} layers"),
        (("layers", 0, "kind"), "lambda", "not on the list"),
        (("layers", 0, "settings"), {"out_features": 4}, "exactly"),
        (("layers", 0, "settings", "bias"), 1, "wrong type"),
        (("layers", 0, "settings", "out_features"), MAX_PARAMETERS, "outside"),
        (("layers", 0, "name"), "act", "same name"),
        (("layers", 0, "name"), INPUT, "same name"),
        (("layers", 0, "name"), "a b", "name"),
        (("layers", 0, "inputs"), ["sum"], "no layer before it"),
        (("layers", 0, "inputs"), [INPUT, INPUT], "takes 1"),
        (("layers", 0, "inputs"), [INPUT] * 3, "one to 2 names"),
        (("layers", 0, "inputs"), [], "one to 2 names"),
        (("layers", 0, "inputs"), [0], "inputs are names"),
        (("layers", 2, "inputs"), ["act", "act"], None),
        (("layers", 2, "inputs"), ["first", "first"], "nothing takes the result of 'act'"),
        (("layers", 3, "kind"), "softmax", "settings"),
    ],
)
def test_from_document_hostile_field_is_refused_with_its_reason(
    path: tuple[str | int, ...], value: Any, says: str | None
) -> None:
    hostile = altered(SKIP.to_document(), *path, value=value)
    if says is None:
        assert ModelSpec.from_document(hostile).layers[2].inputs == ("act", "act")
        return
    with pytest.raises(ConfideError, match=says) as caught:
        ModelSpec.from_document(hostile)
    assert caught.value.code is ErrorCode.INVALID_MODEL


def test_from_document_of_more_inputs_than_any_operator_has_looks_up_none_of_them() -> None:
    class Counted(str):
        """A name that counts how often it is looked up."""

        lookups = 0

        def __hash__(self) -> int:
            Counted.lookups += 1
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            Counted.lookups += 1
            return super().__eq__(other)

    hostile = altered(SKIP.to_document(), "layers", 3, "inputs", value=[Counted("sum")] * 100_000)
    assert read_or_refused(hostile) is ErrorCode.INVALID_MODEL
    assert Counted.lookups == 0
