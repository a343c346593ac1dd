"""The log's allow-list: nothing passes but known fields in their form, whatever code or libraries hand over."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from parties.log import FIELDS, MAX_TEXT, redact
from tests.support.scripts import ROOT

JOB = "0f" * 16
CANARY = "4711-canary"
LINE = {"event": "ended", "job": JOB, "party": "hospital-a", "state": "completed", "code": ""}


def redacted(**fields: object) -> dict[str, object]:
    return dict(redact(None, "info", dict(fields)))


def test_known_fields_in_their_form_pass_unchanged() -> None:
    assert redacted(**LINE) == LINE


@pytest.mark.parametrize(
    "name", ["rows", "value", "features", "share", "key", "weights", "exception", "exc_info", "positional_args"]
)
def test_unknown_field_is_dropped_and_counted(name: str) -> None:
    assert redacted(**LINE, **{name: CANARY}) == LINE | {"dropped": 1}


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"what"}))
def test_known_field_in_another_form_is_dropped(name: str) -> None:
    for value in (f"{CANARY} \x1b[2J", {"rows": CANARY}, [CANARY, 3.25], CANARY.encode(), object()):
        found = redacted(**LINE | {name: value})
        assert CANARY not in repr(found)
        assert found["dropped"] == 1


@pytest.mark.parametrize("name", ["version", "directory", "after_s"])
@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "3"])
def test_number_that_is_none_is_dropped(name: str, value: object) -> None:
    assert name not in redacted(event="x", **{name: value})


def test_text_is_escaped_to_one_line_and_cut() -> None:
    found = redacted(event="refused", what="a\nb\x1b[31m\u202e" + "x" * 9_999)
    assert str(found["what"]).startswith("a\\u000ab\\u001b[31m\\u202e")
    assert len(str(found["what"])) == MAX_TEXT
    assert str(found["what"]).isprintable()


def test_event_that_is_a_sentence_with_values_is_no_event() -> None:
    assert redacted(event=f"row is {CANARY}") == {"event": "unnamed", "dropped": 1}


def test_level_is_a_name() -> None:
    assert redacted(event="x", level="info")["level"] == "info"
    assert "level" not in redacted(event="x", level="INFO; rm")


def test_every_field_that_the_code_logs_is_on_the_list() -> None:
    assert {name for _, name in _logged()} <= set(FIELDS)
    assert {"serving", "ended", "defect"} <= {event for event, _ in _logged()}


@pytest.mark.outside_world  # the hooks are those of a whole process
def test_process_with_our_log_prints_no_text_of_libraries_threads_or_exceptions() -> None:
    code = f"""
import logging, threading, structlog
from parties.log import configure_log
configure_log("debug")
structlog.get_logger().info("serving", party="hospital-a", rows="{CANARY}")
structlog.get_logger().info("value %s", "{CANARY}")
logging.getLogger("grpc").error("failed with {CANARY}")
try:
    raise ValueError("{CANARY}")
except ValueError:
    logging.getLogger("grpc").exception("{CANARY}")
def fail():
    raise ValueError("{CANARY}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
class Broken:
    def __del__(self):
        raise ValueError("{CANARY}")
Broken()
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert CANARY not in done.stderr + done.stdout
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events == ["serving", "unnamed", "library", "library", "defect", "defect"]


def test_this_process_keeps_its_own_logging() -> None:
    assert not any(type(handler).__module__ == "parties.log" for handler in logging.getLogger().handlers)


def _logged() -> Iterator[tuple[str, str]]:
    """Yields event and field of every call of a logger in the code of the party process."""
    for path in (ROOT / "parties").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            of = call.func.value
            if not (isinstance(of, ast.Name) and of.id == "_log") and "get_logger" not in ast.dump(of):
                continue
            event = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
            for keyword in call.keywords:
                yield str(event), str(keyword.arg)
