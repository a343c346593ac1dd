"""The search for the least loss: equal to trying everything, and what it proposes does what it says on a real table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer

from privacy.preparation.anonymity.generalisations import Bands, DatePart, Dates, Generalisation, Groups, Prefix
from privacy.preparation.anonymity.proposal import Proposal, default_hierarchies, propose
from privacy.preparation.anonymity.search import Demand, Hierarchy
from privacy.preparation.data_contract import DataContract
from privacy.preparation.recipes.catalogue import STEPS
from privacy.preparation.recipes.row_randomness import RowRandomness
from privacy.preparation.recipes.step import Context, Rows, Step, SurveyingStep
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

AGE = Hierarchy("age", (Bands("5"), Bands("10"), Bands("20"), Bands("40")), 100.0)
POST = Hierarchy("post", (Prefix(3), Prefix(2), Prefix(1)))
WARD = Hierarchy("ward", (Groups((("a", "x"), ("b", "x"), ("c", "y")), "z"),))


def people(rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.integers(18, 90, rows).astype(str),
            "post": draw.choice(["SW1A", "SW1B", "SE11", "N1CA", "N1CB"], rows),
            "ward": draw.choice(list("abcd"), rows),
            "ill": draw.choice(["flu", "hiv", "none"], rows, p=[0.3, 0.1, 0.6]),
        }
    )


def batches(table: pd.DataFrame, size: int = 1000) -> list[Rows]:
    found = []
    for start in range(0, len(table), size):
        part = table.iloc[start : start + size]
        cells = pa.RecordBatch.from_pandas(part, preserve_index=False)
        cells = pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in cells.columns], cells.schema.names)
        found.append(Rows(np.arange(start + 1, start + 1 + len(part)), cells))
    return found


def run(steps: Sequence[Step], rows: list[Rows]) -> pd.DataFrame:
    """Runs steps as a recipe would."""
    for step in steps:
        context = Context(
            dict(zip(rows[0].cells.schema.names, rows[0].cells.schema.types, strict=True)),
            RowRandomness(SecretBytes(bytes(32)), step.KIND),
            {},
        )
        assert not list(step.problems(context.columns))
        if isinstance(step, SurveyingStep):
            survey = step.survey(context)
            for batch in rows:
                survey.see(batch)
            transform = survey.transform()
        else:
            transform = step.start(context)
        rows = [transform(batch) for batch in rows]
    return pd.concat([batch.cells.to_pandas() for batch in rows], ignore_index=True)


def least_loss(table: pd.DataFrame, hierarchies: Sequence[Hierarchy], demand: Demand) -> float:
    """Tries every node, row by row, with pandas."""
    best = np.inf
    columns: list[list[tuple[pd.Series, pd.Series]]] = []
    for hierarchy in hierarchies:
        cells = table[hierarchy.column]
        levels = [(cells, pd.Series(0.0, cells.index))]
        for rule in hierarchy.levels:
            coarser = pd.Series(rule.apply(pa.array(cells.tolist())).to_pylist(), cells.index)
            if isinstance(rule, Bands) and hierarchy.span:
                loss = pd.Series(min(1.0, float(rule.width) / hierarchy.span), cells.index)
            else:
                members = cells.groupby(coarser).nunique()
                loss = (coarser.map(members) - 1) / (cells.nunique() - 1)
            levels.append((coarser, np.maximum(loss, levels[-1][1])))
        columns.append([*levels, (pd.Series("*", cells.index), pd.Series(1.0, cells.index))])
    for node in itertools.product(*columns):
        keys = [cells.rename(str(position)) for position, (cells, _) in enumerate(node)]
        groups = pd.concat([*keys, table["ill"]], axis=1).groupby([key.name for key in keys])["ill"]
        kept = (groups.transform("size") >= demand.k) & (groups.transform("nunique") >= demand.l)
        if kept.any() and (~kept).sum() <= int(demand.left_out * len(table)):
            loss = sum(one for _, one in node) / len(node)
            best = min(best, float(loss.where(kept, 1.0).mean()))
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("demand", [Demand(2, 1, 0.0), Demand(5, 1, 0.1), Demand(10, 2, 0.2)], ids=str)
def test_loss_is_the_least_of_all_nodes(seed: int, demand: Demand) -> None:
    table = people(150 + 80 * seed, seed)
    hierarchies = (AGE, POST, WARD)
    found = propose(batches(table, 64), hierarchies, demand, ["ill"])
    assert found.found.loss == pytest.approx(least_loss(table, hierarchies, demand), abs=1e-12)
    assert found.found.looked_at <= found.found.nodes == 6 * 5 * 3


@pytest.mark.parametrize("demand", [Demand(5, 1, 0.05), Demand(20, 2, 0.1)], ids=str)
def test_steps_make_rows_alike_as_proposed(demand: Demand) -> None:
    table = people(700, 9)
    found = propose(batches(table, 128), (AGE, POST, WARD), demand, ["ill"])
    assert found.before == table.groupby(["age", "post", "ward"]).size().min()
    after = run(found.steps, batches(table, 100))
    groups = after.groupby([name for name in found.columns if name in after], dropna=False)["ill"]
    assert groups.size().min() == found.found.smallest >= demand.k
    assert groups.nunique().min() >= demand.l
    assert len(table) - len(after) == found.found.left_out <= demand.left_out * len(table)
    assert [STEPS[step.KIND].read("", _entry(step)) for step in found.steps] == [(step, []) for step in found.steps]


def test_real_table_reaches_k_with_bands_of_its_public_ranges() -> None:
    data = load_breast_cancer()
    names = ["mean radius", "mean texture", "mean smoothness"]
    table = pd.DataFrame(data.data[:, :3], columns=names).round(3)
    ranges = {"mean radius": ["5", "30"], "mean texture": ["5", "40"], "mean smoothness": ["0", "200"]}
    columns = [
        {"name": name, "role": "quasi-identifier", "use": "feature", "type": "float", "range": ranges[name]} for name in names
    ]
    document = {"api_version": "confide/v1", "kind": "DataContract", "name": "tumour", "purpose": "test", "columns": columns}
    hierarchies = default_hierarchies(DataContract.from_document(document), {})
    found: Proposal = propose(batches(table.astype(str)), hierarchies, Demand(5))
    assert (found.before, found.below) == (1, len(table))
    after = run(found.steps, batches(table.astype(str)))
    assert after.groupby(list(after.columns)).size().min() >= 5
    assert len(after) >= 0.95 * len(table)
    for name in after:
        low, high = map(float, ranges[str(name)])
        assert after[name].astype(float).between(low, high).all(), "a middle of a band has left the public range"


def test_rows_with_missing_cells_reach_the_least_loss_too() -> None:
    table = people(300, 5)
    draw = np.random.default_rng(6)
    for name in ("age", "post", "ward"):
        table.loc[draw.random(300) < 0.2, name] = None
    shown = table.fillna({"age": "", "post": "?", "ward": "?"})  # pandas leaves None out of its groups
    found = propose(batches(table, 64), (AGE, POST, WARD), Demand(3, 1, 0.1))
    after = run(found.steps, batches(table, 90))
    groups = after.groupby([name for name in found.columns if name in after], dropna=False)
    assert groups.size().min() == found.found.smallest >= 3
    assert found.before == shown.groupby(["age", "post", "ward"]).size().min()
    assert len(table) - len(after) == found.found.left_out <= 30


def test_columns_of_nothing_and_of_one_value_are_kept_as_they_are() -> None:
    table = pd.DataFrame({"age": ["30"] * 40, "post": pd.Series([None] * 40, dtype=object), "ward": ["a"] * 40})
    found = propose(batches(table, 16), (AGE, POST, WARD), Demand(40))
    assert (found.found.levels, found.found.loss, found.found.left_out, found.before) == ((0, 0, 0), 0.0, 0, 40)


def test_many_columns_of_huge_ranges_are_searched_with_bands_up_to_half_the_range() -> None:
    columns = [
        {"name": f"c{number}", "role": "quasi-identifier", "use": "feature", "type": "integer", "range": ["0", "1000000"]}
        for number in range(6)
    ]
    document = {"api_version": "confide/v1", "kind": "DataContract", "name": "money", "purpose": "test", "columns": columns}
    hierarchies = default_hierarchies(DataContract.from_document(document), {})
    assert [rule.to_document()["bands"] for rule in hierarchies[0].levels] == [str(2**power) for power in range(12, 20)]
    draw = np.random.default_rng(4)
    # Amounts lie outside the public range too: they are told as its ends, whatever the width.
    table = pd.DataFrame({f"c{number}": draw.integers(-9, 10**6 + 9, 60).astype(str) for number in range(6)})
    found = propose(batches(table), hierarchies, Demand(2, 1, 0.5))
    assert found.found.nodes == 10**6
    assert len(run(found.steps, batches(table))) == 60 - found.found.left_out


def test_recipe_allows_what_the_search_left_out() -> None:
    table = pd.DataFrame({"ward": ["a", "a", "b"] * 100})
    table.loc[99::100, "ward"] = ["x", "y", "z"]
    found = propose(batches(table), (Hierarchy("ward", ()),), Demand(2, 1, 0.1 * 0.1))
    assert (found.found.left_out, len(run(found.steps, batches(table)))) == (3, 297)
    with pytest.raises(ConfideError):
        # A third has no last digit: what the recipe can say is less, and so is what the search may leave out.
        propose(batches(table.iloc[97:100]), (Hierarchy("ward", ()),), Demand(2, 1, float(np.nextafter(1, 0))))


@pytest.mark.parametrize(
    ("hierarchies", "demand", "code"),
    [
        ((AGE,), Demand(1), ErrorCode.INVALID_ARGUMENT),
        ((AGE,), Demand(5, 0), ErrorCode.INVALID_ARGUMENT),
        ((AGE,), Demand(5, 1, 1.0), ErrorCode.INVALID_ARGUMENT),
        ((), Demand(5), ErrorCode.INVALID_ARGUMENT),
        ((Hierarchy("age", (Bands("10"), Bands("15"))),), Demand(5), ErrorCode.INVALID_ARGUMENT),
        ((Hierarchy("ward", (Bands("10"),)),), Demand(5), ErrorCode.INVALID_DATA),
        ((Hierarchy("nowhere", ()),), Demand(5), ErrorCode.INVALID_DATA),
        ((AGE, POST), Demand(500), ErrorCode.INVALID_DATA),
        ((AGE,), Demand(1_000_001), ErrorCode.INVALID_ARGUMENT),
        ((AGE,), Demand(5, 1, float("nan")), ErrorCode.INVALID_ARGUMENT),
    ],
    ids=["k", "l", "share", "no column", "not nested", "no numbers", "no such column", "too few rows", "huge k", "no share"],
)
def test_demand_that_cannot_be_met_is_refused(hierarchies: tuple[Hierarchy, ...], demand: Demand, code: ErrorCode) -> None:
    with pytest.raises(ConfideError) as caught:
        propose(batches(people(100, 1)), hierarchies, demand, ["ill"])
    assert caught.value.code is code


def test_diversity_of_no_sensitive_column_is_refused() -> None:
    with pytest.raises(ConfideError) as caught:
        propose(batches(people(100, 1)), (AGE,), Demand(5, 2), [])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("rule", [Prefix(2), Groups((("a", "x"),), "z"), Dates(DatePart.YEAR)], ids=str)
def test_rule_for_columns_of_another_type_is_refused(rule: Generalisation) -> None:
    rows = Rows(np.arange(1, 5), pa.RecordBatch.from_pydict({"n": pa.array([1, 2, 2, None])}))
    with pytest.raises(ConfideError) as caught:
        propose([rows], (Hierarchy("n", (rule,)),), Demand(2))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def _entry(step: Step) -> dict[str, object]:
    document = step.to_document()
    assert document.pop("step") == step.KIND
    return document
