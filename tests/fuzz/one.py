"""Fuzzes one decoder, coverage-guided, until the time is over or something is found.

    python -m tests.fuzz.one job --seconds 60 --corpus build/fuzz/corpus/job

Beyond libFuzzer's own limits every input may take one second of processor time; the process may grow by 256 MiB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import atheris

import parties  # noqa: F401  (before gRPC)

with atheris.instrument_imports(include=["governance", "parties", "privacy", "protocols", "yaml", "rfc8785", "json"]):
    from tests.fuzz.targets import TARGETS

MAX_SECONDS_AN_INPUT = 1.0
MAX_GROWTH_MIB = 256
_HANG_S = 25  # wall clock, on a machine that does other things too
_MAX_INPUT_BYTES = 1 << 16


class TooSlow(Exception):
    """A decoder took too long for one input."""


def main() -> None:
    """Runs libFuzzer; the exit status is not 0 if it found anything. Its last lines on standard error tell how many inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    found = arguments.corpus.parent.parent / "found"
    for folder in (arguments.corpus, found):
        folder.mkdir(parents=True, exist_ok=True)

    def take(data: bytes) -> None:
        started = time.process_time()
        target.is_accepted(data)
        if time.process_time() - started > MAX_SECONDS_AN_INPUT:
            raise TooSlow(f"{len(data)} bytes took more than {MAX_SECONDS_AN_INPUT} s")

    for path in sorted(arguments.corpus.iterdir()):  # what is loaded and cached once does not count as growth
        take(path.read_bytes())
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-rss_limit_mb={before_mib + MAX_GROWTH_MIB}",
        f"-timeout={_HANG_S}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-artifact_prefix={found}/{target.name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(arguments.corpus)], take)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
