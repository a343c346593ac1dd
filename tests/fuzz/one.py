"""Fuzzes one decoder, coverage-guided, until the time is over or something is found; or decodes one input again.

    python -m tests.fuzz.one job --seconds 60 --corpus build/fuzz/corpus/job
    python -m tests.fuzz.one job --replay build/fuzz/found/job-crash-0123
    python -m tests.fuzz.one --nursery

Loading and instrumenting all decoders takes half as long as a short campaign of one of them. A nursery does it once: for every
line `NAME SECONDS CORPUS LOG` on its standard input it forks a process that fuzzes, and writes its exit status once it has ended.

Beyond libFuzzer's own limits every input may take one second of processor time; the process's own memory may grow by 256 MiB.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import sys
from pathlib import Path

import atheris

import parties  # noqa: F401  (before gRPC)

with atheris.instrument_imports(include=["governance", "parties", "privacy", "protocols", "yaml", "rfc8785", "json"]):
    from tests.fuzz import files
    from tests.fuzz.targets import TARGETS
from tests.fuzz.limits import check
from tests.fuzz.memory import Growth, lend_array_comparisons
from tests.fuzz.target import Target

# Wall clock: it ends what waits or loops for ever. How slow an input may be is measured in processor time, since a busy or
# stopped machine lengthens the wall clock of any input.
_HANG_S = 120
_MAX_INPUT_BYTES = 1 << 16


def main() -> None:
    """Runs libFuzzer; the exit status is not 0 if it found anything. Its last lines on standard error tell how many inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS), nargs="?")
    parser.add_argument("--nursery", action="store_true", help="fuzz what standard input names, each in a fork")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--replay", type=Path, help="decode this input and end")
    arguments = parser.parse_args()
    if arguments.nursery:
        _nurse()
        return
    if arguments.target is None:
        parser.error("name a decoder")
    target = TARGETS[arguments.target]
    if arguments.replay is not None:
        _replay(target, arguments.replay)
    elif arguments.seconds is None or arguments.corpus is None:
        parser.error("--seconds and --corpus, or --replay")
    else:
        _fuzz(target, arguments.corpus, arguments.seconds)


def _nurse() -> None:
    for line in sys.stdin:
        name, seconds, corpus, log = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            files.leave_folder()  # it is the nursery's, and for those who come after
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            _fuzz(TARGETS[name], Path(corpus), int(seconds))
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _fuzz(target: Target, corpus: Path, seconds: int) -> None:
    found = corpus.parent.parent / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    _warm_up(target, corpus, found)
    # What is loaded is left out of collections, so that they are quick and come by what inputs leave: memory that one of them
    # would free is no growth. The second call makes them count from here.
    gc.freeze()
    gc.collect()
    growth = Growth()
    options = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={growth.resident_limit_mib}",
        f"-timeout={_HANG_S}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-artifact_prefix={found}/{target.name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]

    def one_input(data: bytes) -> None:
        lend_array_comparisons()  # here, since the fuzzer puts its own in their place when it starts
        check(target.is_accepted, data)
        growth.check()

    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def _warm_up(target: Target, corpus: Path, found: Path) -> None:
    """Decodes the corpus once: what is loaded and cached once is no growth and no slowness of an input."""
    for path in sorted(corpus.iterdir()):
        data = path.read_bytes()
        try:
            check(target.is_accepted, data)
        except Exception:  # whatever it is, it is a finding; libFuzzer keeps inputs only once it runs
            kept = found / f"{target.name}-seed-{hashlib.sha256(data).hexdigest()}"
            kept.write_bytes(data)
            print(f"Test unit written to {kept}", file=sys.stderr)
            raise


def _replay(target: Target, file: Path) -> None:
    is_accepted = target.is_accepted(data := file.read_bytes())
    check(target.is_accepted, data)
    print("accepted" if is_accepted else "refused")


if __name__ == "__main__":
    main()
