"""A party process that countersigns every job, whatever its own checks say, and believes everybody. A test-only variant.

What a malicious lead would run: its own admission, consent, budgets and policy find nothing against any job, and it demands no
proof of consent from the others. Everything else is the real program, so what stops its jobs are the other parties.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parties.config import load_party_config
from parties.server import acceptance, intake, session_service
from parties.server.serve import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config_file: Path = parser.parse_args().config

    def nothing(*_: object, **__: object) -> tuple[object, ...]:
        return ()

    for module, names in (
        (intake, ("admission_findings", "reasons")),
        (acceptance, ("reasons", "reserve_budget", "grants_used")),
        (session_service, ("check_consent",)),
    ):
        for name in names:
            if not hasattr(module, name):
                raise AttributeError(f"{module.__name__} has no {name} any more: this variant would be honest")
            setattr(module, name, nothing)
    serve(load_party_config(config_file))


if __name__ == "__main__":
    main()
