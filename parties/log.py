"""How a party process logs: one JSON object a line, or coloured lines on a terminal; never a value, a share or a key.

What is logged are names of events, ids, codes and public texts. A field passes only if its name is in `FIELDS` and its value
has the form given there; everything else is dropped, and the line says how many fields were (`dropped`). Exceptions are logged
by class and place (`parties.defect`), and what libraries would print by themselves by library and place: their texts may quote
what they were given.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

import structlog

from parties import defect
from protocols.errors import ErrorCode
from protocols.session.states import State

MAX_TEXT = 500
MAX_PLACES = 64
Form: TypeAlias = Callable[[object], object]  # returns what is shown; raises ValueError for what is not


def _matching(pattern: str) -> Form:
    compiled = re.compile(pattern)

    def shown(value: object) -> object:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return shown


def _one_of(names: frozenset[str]) -> Form:
    def shown(value: object) -> object:
        if not isinstance(value, str) or value not in names:
            raise ValueError
        return value

    return shown


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value


def _text(value: object) -> object:
    """Public text, of ours or of a party's failure: on one line, control characters escaped, of bounded length."""
    if not isinstance(value, str):
        raise ValueError
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in value[:MAX_TEXT])[:MAX_TEXT]


def _places(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError
    return [_place(place) for place in value[-MAX_PLACES:]]


_place = _matching(r"[\w./<>-]{1,300}:\d{1,6} [\w<>.]{1,100}")
_member = _matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|")
_label = _matching(r"[a-z0-9-]{1,63}(@[a-z0-9]{1,12})?")  # a model, or an alias of it
_word = _matching(r"[A-Za-z_][A-Za-z0-9_.]{0,79}|")
_code = _one_of(frozenset(ErrorCode.__members__) | {""})

# Everything that may stand in a log line.
FIELDS: Mapping[str, Form] = {
    "event": _matching(r"[a-z_]{1,40}"),
    "level": _matching(r"debug|info|warning|error|critical"),
    "timestamp": _matching(r"[0-9T:.Z+-]{20,32}"),
    "request_id": _matching(r"[0-9a-f]{16,32}"),
    "job": _matching(r"[0-9a-f]{8,64}"),
    "enquiry": _matching(r"[0-9a-f]{32}"),
    "party": _member,
    "querier": _member,
    "peer": _member,
    "caller": _member,
    "accused": _member,
    "at_fault": _member,
    "code": _code,
    "state": _one_of(frozenset(state.value for state in State)),
    "phase": _word,
    "method": _matching(r"/[A-Za-z0-9_.]{1,80}/[A-Za-z]{1,40}"),
    "on": _word,
    "error": _word,
    "logger": _word,
    "path": _places,
    "place": _place,
    "listen": _matching(r"[A-Za-z0-9.:\[\]-]{1,260}"),
    "what": _text,
    "by": _member,
    "kind": _matching(r"[a-z-]{1,40}"),
    "alias": _label,
    "model": _label,
    "digest": _matching(r"[0-9a-f]{8,64}"),
    "order": _matching(r"[0-9a-f]{8,64}"),
    "directory": _number,
    "version": _number,
    "number": _number,
    "reason": _matching(r"[a-z-]{1,40}"),
    "reasons": _number,
    "answers": _number,
    "after_s": _number,
    "dropped": _number,
}


def redact(_logger: object, _name: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Keeps what `FIELDS` knows, in its form; counts the rest. A processor of structlog."""
    kept: dict[str, Any] = {}
    dropped = 0
    for name, value in fields.items():
        form = FIELDS.get(name)
        try:
            if form is None:
                raise ValueError
            kept[name] = form(value)
        except ValueError:
            dropped += 1
    kept.setdefault("event", "unnamed")
    return kept | {"dropped": dropped} if dropped else kept


def configure_log(level: str) -> None:
    """Sets up logging to standard error for this process; `level` is debug, info, warning or error."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Without a handler of ours, libraries and the interpreter print messages and exceptions with their texts.
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    threading.excepthook = _log_thread_defect
    sys.unraisablehook = _log_unraisable_defect


class _LibraryHandler(logging.Handler):
    """Says that a library had something to say, and where; not what, since its text may quote what it was given."""

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one line."""
        place = f"{record.filename}:{record.lineno} {record.funcName}"
        structlog.get_logger().warning("library", logger=record.name, place=place)


def _log_thread_defect(arguments: threading.ExceptHookArgs) -> None:
    _log_defect("thread", arguments.exc_value)


def _log_unraisable_defect(arguments: sys.UnraisableHookArgs) -> None:
    _log_defect("finalizer", arguments.exc_value)


def _log_defect(on: str, error: BaseException | None) -> None:
    if error is not None:
        structlog.get_logger().error("defect", on=on, path=defect.path(error), error=type(error).__name__)
