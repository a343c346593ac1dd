"""The fault matrix itself: every cell has one promise, and the page shows what the recorded results say."""

from __future__ import annotations

from pathlib import Path

from protocols.errors import ErrorCode
from protocols.session.states import State
from tests.chaos.cells import Cell, Fault, Phase, Role, all_cells
from tests.chaos.promises import TABLE, possible_cells, promise_of, row_of
from tests.chaos.records import RECORDED, Result, chosen_points, latest, read_results
from tests.chaos.report import MEANING, PAGE, render


def test_every_cell_has_a_row_and_every_row_a_cell() -> None:
    used = {id(row_of(cell)) for cell in all_cells()}
    assert [row for row in TABLE if id(row) not in used] == []


def test_every_fault_hits_somebody_and_is_explained() -> None:
    assert {cell.fault for cell in possible_cells()} == set(Fault) == set(MEANING)


def test_promises_name_terminal_states_and_codes_of_the_catalogue() -> None:
    for cell in possible_cells():
        promise = promise_of(cell)
        assert promise is not None
        assert all(state.is_terminal for state in promise.states)
        assert promise.codes - {""} <= set(ErrorCode.__members__)
        assert promise.completes == (promise.states == {State.COMPLETED})


def test_cell_name_reads_back() -> None:
    assert [Cell.of_name(cell.name) for cell in all_cells()] == list(all_cells())


def test_sampled_points_are_the_same_for_a_seed_and_meet_every_fault() -> None:
    points = chosen_points(50, 7)
    assert points == chosen_points(50, 7) != chosen_points(50, 8)
    assert len({cell for cell, _ in points}) == 50
    assert {cell.fault for cell, _ in points} == set(Fault)
    assert chosen_points(60, 7)[:50] == points  # a longer campaign goes on with the same points


def test_result_reads_back_and_the_last_one_of_a_cell_stands(tmp_path: Path) -> None:
    cell = Cell(Fault.KILL, Role.LEAD, Phase.RUNNING)
    first = Result(cell, 1, ("ABORTED", "PEER_LOST", "hospital-a"), 1.5, 0.1, 3.0, ("something",))
    second = Result(cell, 2, ("ABORTED", "PEER_LOST", "hospital-a"), 2.5, 0.1, 3.0, ())
    file = tmp_path / "results.jsonl"
    file.write_text(first.to_line() + second.to_line() + first.to_line()[:20])
    assert read_results(file) == (first, second)
    assert latest((first, second)) == {cell: second}


def test_page_is_the_one_that_table_and_recorded_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(latest(read_results(RECORDED))), "run `make faults-page`"


def test_page_shows_what_was_not_as_promised() -> None:
    cell = Cell(Fault.STOP, Role.DEALER, Phase.RUNNING)
    page = render({cell: Result(cell, 1, ("COMPLETED", "", ""), 1.0, 0.0, 1.0, ("ended as COMPLETED",))})
    assert "1 of" in page
    assert f"- `{cell.name}`: ended as COMPLETED" in page
