"""Every cell is checked; messages say where and why, never what; nothing outside [-1, 1] gets past."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from privacy.preparation.contract import OnViolation, PreparedRows, prepare, prepare_query
from privacy.preparation.table import MAX_REPORTED, Content, FileFormat, Table, read_table
from privacy.preparation.values import Violation
from protocols.errors import ConfideError, ErrorCode
from tests.support.tables import a_schema, breast_cancer_frame, breast_cancer_schema

HEADER = "age,dose,smoker,outcome\n"
GOOD = "40,0.5,true,ill\n"


def table_of(rows: str) -> Table:
    return read_table((HEADER + rows).encode(), a_schema(), content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)


def left_out(rows: str) -> dict[Violation, int]:
    return dict(prepare(table_of(GOOD + rows), a_schema(), OnViolation.LEAVE_OUT).left_out)


def test_prepare_scales_rows_in_the_order_of_the_schema() -> None:
    rows = prepare(table_of("60,-1.5,false,well\n120, +2.5e0 ,1,ill\n0,.5,FALSE,well\n"), a_schema(), OnViolation.REFUSE)
    assert rows.features.tolist() == [[0.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, -1.0]]
    assert rows.labels.tolist() == [0.0, 1.0, 0.0]
    assert (rows.num_rows, rows.left_out) == (3, {})
    assert not rows.features.flags.writeable


@pytest.mark.parametrize(
    ("row", "violation"),
    [
        (",0.5,true,ill", Violation.MISSING),
        ("40,NA,true,ill", Violation.MISSING),
        ("40,0.5,true,", Violation.MISSING),
        ("40,nan,true,ill", Violation.NAN),
        ("40,-inf,true,ill", Violation.INFINITE),
        ("40,1e999,true,ill", Violation.INFINITE),
        ('40,"0,5",true,ill', Violation.NOT_A_NUMBER),
        ("40,0x1p3,true,ill", Violation.NOT_A_NUMBER),
        ("40,1_0,true,ill", Violation.NOT_A_NUMBER),
        ("40,0.5mg,true,ill", Violation.NOT_A_NUMBER),
        ('40,"1\n2",true,ill', Violation.NOT_A_NUMBER),
        ("٤٠,0.5,true,ill", Violation.NOT_A_NUMBER),
        ("40.5,0.5,true,ill", Violation.NOT_AN_INTEGER),
        ("121,0.5,true,ill", Violation.OUT_OF_RANGE),
        ("40,-1.5000001,true,ill", Violation.OUT_OF_RANGE),
        ("40,0.5,2,ill", Violation.NOT_A_BOOLEAN),
        ("40,0.5,yes,ill", Violation.NOT_A_BOOLEAN),
        ("40,0.5,true,Ill", Violation.UNKNOWN_LABEL),
    ],
)
def test_prepare_row_that_breaks_the_contract_is_counted_by_reason(row: str, violation: Violation) -> None:
    assert left_out(row + "\n") == {violation: 1}


def test_prepare_counts_each_row_once_so_that_counts_add_up() -> None:
    assert left_out(",9,2,x\n40,9,2,x\n40,9,2,x\n") == {Violation.MISSING: 1, Violation.OUT_OF_RANGE: 2}


def test_prepare_refusal_names_row_line_column_expectation_and_remedy_but_no_value() -> None:
    with pytest.raises(ConfideError) as caught:
        prepare(table_of(GOOD + "4711,0.4711,maybe4711,sick4711\n"), a_schema(), OnViolation.REFUSE)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert "3 cell(s) in 1 of 2 rows" in caught.value.what
    found = caught.value.problems
    assert found[0].where == "row 2 (line 3), column age"
    assert found[0].what == "is outside the public range; expected a whole number from 0 to 120"
    assert found[2].what == "is not one of the label's values; expected 'well' or 'ill'"
    assert all(problem.remedy for problem in found)
    assert "4711" not in str(caught.value)


def test_prepare_refusal_lists_the_first_problems_and_the_total() -> None:
    with pytest.raises(ConfideError, match="100 cell") as caught:
        prepare(table_of("40,9,true,ill\n" * 100), a_schema(), OnViolation.REFUSE)
    assert len(caught.value.problems) == MAX_REPORTED


def test_prepare_with_no_row_left_is_refused() -> None:
    with pytest.raises(ConfideError, match="all 2 rows"):
        prepare(table_of("40,9,true,ill\n" * 2), a_schema(), OnViolation.LEAVE_OUT)


def test_prepare_samples_without_label_are_refused() -> None:
    samples = read_table(b"age,dose,smoker\n1,1,1\n", a_schema(), content=Content.SAMPLES, file_format=FileFormat.CSV)
    with pytest.raises(ConfideError, match="column outcome: missing"):
        prepare(samples, a_schema(), OnViolation.LEAVE_OUT)


@pytest.mark.parametrize(
    ("cells", "violations"),
    [
        (pa.array([1.0, None, math.nan, math.inf, 3.0]), [0, 1, 2, 3, 7]),
        (pa.array([1, 2, None, 3, 2], pa.int64()), [0, 0, 1, 7, 0]),
        (pa.array(["1", "x", None, "", "nan"]).dictionary_encode(), [0, 4, 1, 1, 2]),
        (pa.array([None] * 5), [1] * 5),
        (pa.array([2**62, 1, 1, 1, 1], pa.uint64()), [7, 0, 0, 0, 0]),
    ],
    ids=["float", "integer", "dictionary", "null", "large"],
)
def test_prepare_typed_columns_are_checked_like_text(cells: pa.Array, violations: list[int]) -> None:
    columns = {
        "age": pa.chunked_array([pa.array([1] * 6)]),
        "dose": pa.chunked_array(
            [cells, cells.slice(0, 0), pa.array([1], cells.type) if cells.type != pa.null() else pa.nulls(1)]
        )
        if not pa.types.is_dictionary(cells.type)
        else pa.chunked_array([cells, cells.slice(0, 1)]),
        "smoker": pa.chunked_array([pa.array([True] * 6)]),
        "outcome": pa.chunked_array([pa.array(["ill"] * 6)]),
    }
    with pytest.raises(ConfideError) as caught:
        prepare(Table(columns, 6, None), a_schema(), OnViolation.REFUSE)
    named = {problem.where: problem.what for problem in caught.value.problems}
    expected = {f"row {i + 1}, column dose": Violation(v).text for i, v in enumerate(violations) if v}
    assert {where: what.split(";")[0] for where, what in named.items() if not where.startswith("row 6")} == expected


def test_prepare_column_of_a_type_without_numbers_is_refused() -> None:
    with pytest.raises(ConfideError, match=r"column dose: has the type timestamp"):
        prepare_query({"age": [1], "dose": np.array(["2020-01-01"], "datetime64[s]"), "smoker": [True]}, a_schema())


def test_query_from_every_form_is_the_same() -> None:
    frame = pd.DataFrame({"smoker": [True, False], "dose": [0.5, 2.5], "age": [60, 0], "remark": ["a", "b"]})
    from_frame = prepare_query(frame, a_schema()).features
    assert from_frame.tolist() == [[0.0, 0.0, 1.0], [-1.0, 1.0, -1.0]]
    csv = read_table(frame.to_csv(index=False).encode(), a_schema(), content=Content.SAMPLES, file_format=FileFormat.CSV)
    forms = [csv, frame.to_dict("list"), np.array([[60, 0.5, 1], [0, 2.5, 0]]), frame.astype(object)]
    assert all(np.array_equal(prepare_query(form, a_schema()).features, from_frame) for form in forms)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(3),
        np.zeros((0, 3)),
        np.zeros((2, 4)),
        np.array([[1, 1, np.nan]]),
        {"age": [1], "dose": [1.0, 2.0], "smoker": [True]},
        {"age": [1], "dose": [1.0]},
        {"age": [1], "dose": ["a", 1], "smoker": [True]},
        {"age": [1], "dose": [object()], "smoker": [True]},
        {"age": [10**400], "dose": [1], "smoker": [True]},
        {},
    ],
)
def test_query_of_another_shape_or_type_is_refused(samples: object) -> None:
    with pytest.raises(ConfideError) as caught:
        prepare_query(samples, a_schema())
    assert caught.value.code is ErrorCode.INVALID_DATA


def test_prepared_rows_show_and_pickle_nothing() -> None:
    rows = prepare(table_of(GOOD), a_schema(), OnViolation.REFUSE)
    query = prepare_query(np.array([[60, 0.5, 1]]), a_schema())
    for secret in (rows, query, table_of(GOOD)):
        assert "0." not in repr(secret).split(" at ")[0].removeprefix("<privacy.")
        assert repr(secret).startswith("<privacy.preparation.")
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)
        with pytest.raises(TypeError, match="not pickled"):
            copy.deepcopy(secret)
    assert rows != PreparedRows(rows.features, rows.labels, rows.left_out)


def test_prepare_whole_breast_cancer_table_passes_from_csv_and_parquet_alike() -> None:
    schema, frame = breast_cancer_schema(), breast_cancer_frame()
    text = frame.to_csv(index=False).encode()
    from_csv = prepare(
        read_table(text, schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV), schema, OnViolation.REFUSE
    )
    packed = pa.BufferOutputStream()
    frame.to_parquet(packed)
    data = packed.getvalue().to_pybytes()
    from_parquet = prepare(
        read_table(data, schema, content=Content.LABELLED_ROWS, file_format=FileFormat.PARQUET), schema, OnViolation.REFUSE
    )
    assert from_csv.features.shape == (569, 30)
    assert np.array_equal(from_csv.features, from_parquet.features)
    assert np.array_equal(from_csv.labels, frame["benign"].to_numpy(np.float64))
    assert np.abs(from_csv.features).max() <= 1
