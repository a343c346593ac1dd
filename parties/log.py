"""How a party process logs: one JSON object a line, or coloured lines on a terminal; never a value, a share or a key.

What is logged are names of events, ids, codes and public texts. Exceptions are logged by class and place (`parties.defect`).
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_log(level: str) -> None:
    """Sets up logging to standard error for this process; `level` is debug, info, warning or error."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
