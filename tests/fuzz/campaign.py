"""Fuzzes every decoder for a time each; goes on where an earlier campaign was stopped.

    python -m tests.fuzz.campaign --seconds 60

Corpora grow in `build/fuzz/corpus/<decoder>`, what broke a decoder is kept in `build/fuzz/found`, and
`build/fuzz/progress.json` says how long each decoder has been fuzzed and with how many inputs. A decoder that has had its
time is left out until `--again`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def fuzz(name: str, seconds: int) -> dict[str, object]:
    """Fuzzes one decoder in a process of its own; returns what is to be told of it."""
    command = [sys.executable, "-m", "tests.fuzz.one", name, "--seconds", str(seconds)]
    started = time.monotonic()
    log = FOLDER / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command += ["--corpus", str(FOLDER / "corpus" / name)]
    with log.open("wb") as sink, tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {"TMPDIR": scratch}
        status = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, check=False).returncode
    said = log.read_text(errors="replace")
    inputs, peak = _INPUTS.search(said), _PEAK.search(said)
    return {
        "seconds": seconds,  # loading and instrumenting come on top
        "wall": round(time.monotonic() - started),
        "inputs": int(inputs[1]) if inputs else 0,
        "peak_mib": int(peak[1]) if peak else 0,
        "found": status != 0,
    }


def main() -> int:
    """Prints a line for each decoder; returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600, help="for each decoder, over all campaigns")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="fuzz also those that have had their time, keeping their corpora")
    parser.add_argument("targets", nargs="*", help="only these")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "progress.json"
    done: dict[str, dict[str, object]] = json.loads(file.read_text()) if file.is_file() else {}
    known = write_seeds()
    names = arguments.targets or known

    def left(name: str) -> int:
        return arguments.seconds if arguments.again else arguments.seconds - int(str(done.get(name, {}).get("seconds", 0)))

    def work(name: str) -> bool:
        result = fuzz(name, left(name))
        is_found = bool(result["found"])
        before = done.get(name, {})
        if not is_found:  # what was found is fuzzed again once it is mended
            done[name] = {key: int(str(before.get(key, 0))) + int(str(result[key])) for key in ("seconds", "inputs")}
            file.write_text(json.dumps(done, indent=1, sort_keys=True))
        print(_line(name, result), flush=True)
        return is_found

    with ThreadPoolExecutor(arguments.at_once) as pool:
        found = sum(pool.map(work, [name for name in names if left(name) > 0]))
    print(f"{found} decoder(s) with findings; inputs and logs are in {FOLDER.relative_to(ROOT)}")
    return 1 if found else 0


def _line(name: str, result: Mapping[str, object]) -> str:
    verdict = "FOUND" if result["found"] else "ok"
    return f"{name:20}{result['inputs']:>12} inputs{result['wall']:>7} s{result['peak_mib']:>7} MiB   {verdict}"


if __name__ == "__main__":
    sys.exit(main())
