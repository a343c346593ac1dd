"""docs/commands.md lists every command, exactly as the commands themselves give it."""

from __future__ import annotations

from tests.support.scripts import ROOT, load_script

SCRIPT = load_script("generate_commands")


def test_committed_page_is_that_of_the_commands() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == SCRIPT.page()


def test_page_names_commands_with_arguments_and_required_options() -> None:
    page = SCRIPT.page()
    assert "| `confide job submit REQUEST` |" in page
    assert "| `confide party serve --config` |" in page
    assert "## consortium" in page
