"""A recipe gives the same rows whatever the size of its batches, the same again under its seed, and others under another."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.preparation.contract import OnViolation
from privacy.preparation.outcome import prepare_table
from privacy.preparation.preparation import settle
from privacy.preparation.table import FileFormat
from protocols.secrets import SecretBytes
from tests.support.preparing import HEAD, HEADER, SEED, STEPS, cells_of, contract, prepared, raw, recipe, ward_rows

CELLS = st.tuples(
    st.sampled_from(["1950-02-03", "1999-12-31", "2001-01-01"]),
    st.sampled_from(["f", "m", "x", ""]),
    st.sampled_from(["", "NA", "1", "2.5", "11", "-3"]),
    st.sampled_from(["well", "ill", "neither"]),
)
MORE = (
    HEAD
    + "  - {step: drop-duplicates, columns: [birth, sex, dose, outcome]}\n"
    + STEPS.replace("  - {step: one-hot", "  - {step: impute-draw, columns: [sex]}\n  - {step: one-hot")
)


@settings(max_examples=40)
@given(st.lists(CELLS, min_size=1, max_size=40), st.integers(1, 300))
def test_rows_do_not_depend_on_the_batches(people: list[tuple[str, ...]], batch_bytes: int) -> None:
    # One row that has everything, so that there is always something to draw from and something left.
    lines = [HEADER, "n,p,1950-02-03,f,1,well,", *(f"n,p,{','.join(cells)}," for cells in people)]
    text, made_by = "\n".join(lines), recipe(MORE)
    whole, outcome = prepared(text, made_by, on_violation=OnViolation.LEAVE_OUT)
    parts, again = prepared(text, made_by, on_violation=OnViolation.LEAVE_OUT, batch_bytes=batch_bytes)
    assert parts == whole
    assert again == outcome


def test_rows_are_the_same_under_a_seed_and_others_under_another() -> None:
    text = ward_rows(300)
    first, _ = prepared(text, recipe())
    again, _ = prepared(text, recipe())
    other, _ = prepared(text, recipe(), seed=SecretBytes(bytes(32)))
    assert first == again
    assert [row["birth"] for row in first] == [row["birth"] for row in other]
    assert [row["dose"] for row in first] != [row["dose"] for row in other]


def test_rows_of_csv_and_parquet_are_the_same() -> None:
    text = ward_rows(50)
    table = raw(text)
    names = [name for name in table.names if name != "remark"]
    columns = list(zip(*cells_of(table, names), strict=True))[1:]
    sink = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(cells) for name, cells in zip(names, columns, strict=True)}), sink)
    opened = raw(sink.getvalue(), FileFormat.PARQUET)
    taken: list[dict[str, object]] = []
    prepare_table(
        opened,
        settle(opened, contract(), recipe()),
        seed=SEED,
        pseudonyms={},
        on_violation=OnViolation.REFUSE,
        take=lambda rows: taken.extend(rows.cells.to_pylist()),
    )
    assert taken == prepared(text, recipe())[0]
