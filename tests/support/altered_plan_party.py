"""A party process that derives another plan than the others: one round more is all. A test-only variant."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from parties.config import load_party_config
from parties.server import intake
from parties.server.serve import serve
from parties.server.workers import Template, derive_plan
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.job import Job
from protocols.plan.plan import Plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config_file: Path = parser.parse_args().config

    def derive_altered_plan(job: Job, *, template: Template) -> bytes:
        plan = Plan.from_document(parse_canonical(derive_plan(job, template=template)))
        first, *others = plan.schedule
        altered = replace(plan, schedule=(replace(first, count=first.count + 1), *others))
        return canonical_bytes(altered.to_document())

    intake.derive_plan = derive_altered_plan  # type: ignore[attr-defined]  # what the intake calls
    serve(load_party_config(config_file))


if __name__ == "__main__":
    main()
