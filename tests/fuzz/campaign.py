"""Fuzzes every decoder for a time each; goes on where an earlier campaign was stopped.

    python -m tests.fuzz.campaign --seconds 60

Corpora grow in `build/fuzz/corpus/<decoder>`, what broke a decoder is kept in `build/fuzz/found`, and
`build/fuzz/progress.json` says how long each decoder has been fuzzed and with how many inputs. A decoder that has had its
time is left out until `--again`. The last lines printed tell every finding with its input: a log that is cut is enough.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.findings import Finding, read_finding

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s*(\d+)")


def write_seeds() -> list[str]:
    """Adds the valid inputs of every decoder to its corpus; returns the decoders' names."""
    from tests.fuzz.targets import TARGETS

    for name, target in TARGETS.items():
        folder = FOLDER / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in target.seeds():
            (folder / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    return list(TARGETS)


@dataclass(frozen=True)
class Result:
    """How the fuzzing of one decoder went."""

    seconds: int  # of fuzzing; loading and instrumenting come on top
    wall_s: int
    inputs: int
    peak_mib: int
    finding: Finding | None

    def to_line(self, name: str) -> str:
        """One line of the campaign's table."""
        verdict = "ok" if self.finding is None else "FOUND"
        return f"{name:22}{self.inputs:>12} inputs{self.wall_s:>7} s{self.peak_mib:>7} MiB   {verdict}"


class Nursery:
    """A process that has loaded and instrumented all decoders, from which those that fuzz are forked; see `tests.fuzz.one`."""

    def __init__(self, scratch: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.one", "--nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # atheris tells every module that it instruments
            cwd=ROOT,
            env=os.environ | {"TMPDIR": scratch},
            text=True,
        )

    def fuzz(self, name: str, seconds: int, log: Path) -> int:
        """Fuzzes one decoder; returns the exit status of the process that did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join([name, str(seconds), str(FOLDER / "corpus" / name), str(log)]) + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline()
        if not status:
            raise RuntimeError(f"the process that forks fuzzers ended at {name}; python -m tests.fuzz.one --nursery tells why")
        return int(status)

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


def fuzz(nursery: Nursery, name: str, seconds: int) -> Result:
    """Fuzzes one decoder in a process of its own."""
    started = time.monotonic()
    log = FOLDER / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    status = nursery.fuzz(name, seconds, log)
    said = log.read_text(errors="replace")
    inputs, peak = _INPUTS.search(said), _PEAK.search(said)
    return Result(
        seconds=seconds,
        wall_s=round(time.monotonic() - started),
        inputs=int(inputs[1]) if inputs else 0,
        peak_mib=int(peak[1]) if peak else 0,
        finding=read_finding(name, said, status=status) if status else None,
    )


def main() -> int:
    """Prints a line for each decoder, and then every finding; returns 1 if there was one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600, help="for each decoder, over all campaigns")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="fuzz also those that have had their time, keeping their corpora")
    parser.add_argument("targets", nargs="*", help="only these")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "progress.json"
    done: dict[str, dict[str, int]] = json.loads(file.read_text()) if file.is_file() else {}
    known = write_seeds()
    names = arguments.targets or known

    def left(name: str) -> int:
        return arguments.seconds if arguments.again else arguments.seconds - done.get(name, {}).get("seconds", 0)

    def work(name: str) -> Finding | None:
        nursery = idle.get()
        try:
            result = fuzz(nursery, name, left(name))
        finally:
            idle.put(nursery)
        if result.finding is None:  # what was found is fuzzed again once it is mended
            before = done.get(name, {})
            done[name] = {
                "seconds": before.get("seconds", 0) + result.seconds,
                "inputs": before.get("inputs", 0) + result.inputs,
            }
            file.write_text(json.dumps(done, indent=1, sort_keys=True))
        print(result.to_line(name), flush=True)
        return result.finding

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(arguments.at_once) as pool:
        nurseries = [Nursery(scratch) for _ in range(arguments.at_once)]
        idle: queue.SimpleQueue[Nursery] = queue.SimpleQueue()
        for nursery in nurseries:
            idle.put(nursery)
        try:
            found = [finding for finding in pool.map(work, [name for name in names if left(name) > 0]) if finding is not None]
        finally:
            for nursery in nurseries:
                nursery.close()
    for finding in found:
        print(finding.to_text())
    print(f"{len(found)} decoder(s) with findings; inputs and logs are in {FOLDER.relative_to(ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
