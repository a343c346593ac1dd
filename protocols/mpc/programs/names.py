"""Names of segments that the dealer knows too, who needs no tensor language."""

from __future__ import annotations

OPEN_MODEL = "open model"
ANSWER = "answer"
