"""How a defect is shown: its class and its place in the code. Its text may quote a value, so that is never shown."""

from __future__ import annotations

import traceback


def place(error: BaseException) -> str:
    """Returns one line without values: class of the exception, function, file and line where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} in {last.name}, line {last.lineno} of {last.filename.rsplit('/', 1)[-1]}"


def path(error: BaseException) -> list[str]:
    """Returns the places on the way to the defect, outermost first; no values."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
