"""All targets by name."""

from __future__ import annotations

from tests.fuzz import documents, files, governance, governed_files, logs
from tests.fuzz.target import Target

_ALL = (*documents.TARGETS, *files.TARGETS, *logs.TARGETS, *governance.TARGETS, *governed_files.TARGETS)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
