"""A party process whose workers add no noise to a private training. A test-only variant; all else is the real program."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from parties.config import load_party_config
from parties.server.serve import serve

_WORKER = Path(__file__).with_name("silent_noise_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config_file: Path = parser.parse_args().config
    popen = subprocess.Popen

    def silent(command: list[str], **named: Any) -> Any:
        if command[-1] == "parties.worker":
            command = [sys.executable, "-I", str(_WORKER)]
        return popen(command, **named)

    subprocess.Popen = silent  # type: ignore[assignment,misc]
    serve(load_party_config(config_file))


if __name__ == "__main__":
    main()
