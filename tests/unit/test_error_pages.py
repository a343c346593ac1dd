"""docs/errors: one page a code, exactly what the catalogue gives, and every failure points to its page."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from parties.cli.output import EXIT_CODES, exit_code
from parties.wire.status import to_status
from protocols.error_pages import page_of
from protocols.errors import ConfideError, ErrorCode, Kind
from tests.support.scripts import ROOT, load_script

SCRIPT = load_script("generate_error_pages")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return SCRIPT.pages()


def test_every_code_has_a_page_and_the_index_names_it(pages: dict[str, str]) -> None:
    assert set(pages) == {f"{code.name}.md" for code in ErrorCode} | {"README.md"}
    assert all(f"[{code.name}]({code.name}.md)" in pages["README.md"] for code in ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_page_says_what_it_means_what_to_do_and_how_it_ends(code: ErrorCode, pages: dict[str, str]) -> None:
    page = pages[f"{code.name}.md"]
    for text in (code.entry.summary, code.entry.remedy, f"| exit code of a command | {exit_code(ConfideError(code))} |"):
        assert text in page


def test_notes_are_about_codes_that_exist() -> None:
    assert set(SCRIPT.NOTES) <= set(ErrorCode.__members__)


def test_committed_pages_are_those_of_the_catalogue(pages: dict[str, str]) -> None:
    assert SCRIPT.differences(pages, ROOT / "docs" / "errors") == []


def test_differences_names_missing_left_over_and_changed_pages(tmp_path: Path) -> None:
    (tmp_path / "B.md").write_text("old")
    (tmp_path / "C.md").write_text("left over")
    found = SCRIPT.differences({"A.md": "a", "B.md": "b"}, tmp_path)
    assert found == ["A.md is missing", "C.md has no code any more", "B.md differs"]


def test_status_on_the_wire_links_to_the_page() -> None:
    links = error_details_pb2.Help()
    assert any(detail.Unpack(links) for detail in to_status(ConfideError(ErrorCode.PEER_LOST)).details)
    assert [link.url for link in links.links] == [page_of(ErrorCode.PEER_LOST)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ErrorCode.JOB_FAILED, 1),
        (ErrorCode.INVALID_JOB, 2),
        (ErrorCode.PARTY_UNREACHABLE, 3),
        (ErrorCode.DEADLINE_PASSED, 4),
        (ErrorCode.NO_GRANT, 5),
        (ErrorCode.BUDGET_EXHAUSTED, 6),
        (ErrorCode.BAD_SIGNATURE, 7),
        (ErrorCode.NOT_READY, 8),
        (ErrorCode.STALE_DIRECTORY, 8),
        (ErrorCode.JOB_CONFLICT, 8),
        (ErrorCode.CANCEL_TOO_LATE, 8),
    ],
)
def test_exit_code_tells_a_script_how_to_go_on(code: ErrorCode, expected: int) -> None:
    assert exit_code(ConfideError(code)) == expected


def test_only_jobs_that_ended_badly_and_defects_exit_with_one() -> None:
    assert {kind for kind in Kind if EXIT_CODES.get(kind, 1) == 1} == {Kind.ENDED, Kind.INTERNAL}
