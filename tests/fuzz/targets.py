"""All targets by name."""

from __future__ import annotations

from tests.fuzz import documents, files
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (*documents.TARGETS, *files.TARGETS)}
