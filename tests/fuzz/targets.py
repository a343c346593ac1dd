"""All targets by name."""

from __future__ import annotations

from tests.fuzz import (
    ckks,
    documents,
    encrypted,
    encrypted_files,
    evidence,
    files,
    governance,
    governed_files,
    licences,
    linking,
    logs,
    noise,
    preparation,
    risk,
    serving,
    serving_answers,
    utility,
)
from tests.fuzz.target import Target

_ALL = (
    *documents.TARGETS,
    *files.TARGETS,
    *logs.TARGETS,
    *governance.TARGETS,
    *governed_files.TARGETS,
    *serving.TARGETS,
    *serving_answers.TARGETS,
    *ckks.TARGETS,
    *encrypted.TARGETS,
    *encrypted_files.TARGETS,
    *linking.TARGETS,
    *preparation.TARGETS,
    *risk.TARGETS,
    *noise.TARGETS,
    *evidence.TARGETS,
    *licences.TARGETS,
    *utility.TARGETS,
)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
