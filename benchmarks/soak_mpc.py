"""Soak: 10^9 numbers through truncations, comparison and rectifier, checked against plain integers; `make soak-mpc`.

    python benchmarks/soak_mpc.py --elements 1000000000 --write

Two processes share the work; each writes down what it has done, so a run that was stopped goes on where it was, unless the code
under test has changed since. Every number goes through all four protocols as the parties and a dealer compute them, with fresh
masks: two parties, and three in every seventh block, since truncation is another protocol then. Wrong is: an error of a
truncation that is not 0 or +1 unit; one of a rough truncation beyond its bound, n / 2 units of 2^32 and, for what is cut beyond
32 bits, less than one of the result; a wrong sign; a kept value that is not exactly max(v, 0).

What is drawn, in blocks of 65,536 with one shift each (all shifts take turns, 1 to 62 for the truncation and 0 to 58 for the
rectifier; for the rough truncation, which halves the numbers, 32 in half of the blocks and up to 61 in the others): half uniform
in [-2^62, 2^62), half of every order of magnitude alike (a uniform number shifted right by 0 to 62 bits), and in every block the
borders: both ends of the domain, 0, powers of two and multiples of the unit, with their neighbours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.relu import rectify
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from protocols.ring import SHORT_BITS
from protocols.sharing import sum_ring
from tests.support.lockstep import LockstepWorld
from tests.support.mpc_world import stream

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 1 << 16
LIMIT = 1 << 62
TRUNCATION_SHIFTS, ROUGH_SHIFTS, RECTIFIER_SHIFTS = 62, 30, 59
THREE_PARTIES_EVERY = 7  # has no factor in common with the numbers of shifts, so that three parties meet them all
FOLDER = ROOT / "build" / "soak"
PAGE = ROOT / "docs" / "performance.md"
MARKS = ("<!-- written by make soak-mpc: begin -->", "<!-- written by make soak-mpc: end -->")
_SAVE_EVERY_S = 10.0
_TESTED = (
    "protocols/ring.py",
    "protocols/prg.py",
    "protocols/sharing.py",
    "protocols/mpc/engine.py",
    "protocols/mpc/primitives",
    "protocols/mpc/material",
)


def code_digest() -> str:
    """Returns the SHA-256 of everything that is tested, hexadecimal."""
    files = [file for part in _TESTED for file in ([ROOT / part] if part.endswith(".py") else sorted((ROOT / part).glob("*.py")))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def values_of(block: int, *, shift: int) -> np.ndarray:
    """Returns the numbers of a block; see the module."""
    generator = np.random.default_rng((2026, block))
    values = generator.integers(-LIMIT, LIMIT, BLOCK)
    half = BLOCK // 2
    values[half:] >>= generator.integers(0, 63, half)
    powers = [sign << power for power in range(62) for sign in (1, -1)]
    units = [number << shift for number in range(-8, 9) if abs(number << shift) < LIMIT]
    near = [base + step for base in (*powers, *units) for step in (-1, 0, 1)]
    borders = np.array([-LIMIT, -LIMIT + 1, LIMIT - 2, LIMIT - 1, *near], dtype=np.int64)
    values[: len(borders)] = borders
    return values


def check_block(block: int) -> str:
    """Runs a block; returns what is wrong with it, or nothing."""
    shift, cut = 1 + block % TRUNCATION_SHIFTS, block % RECTIFIER_SHIFTS
    rough = SHORT_BITS + max(block % (2 * ROUGH_SHIFTS) - ROUGH_SHIFTS, 0)
    parties = 3 if block % THREE_PARTIES_EVERY == 0 else 2
    values = values_of(block, shift=shift)
    random = np.random.default_rng((2027, block)).integers(-(2**63), 2**63, (parties - 1, BLOCK))
    shares = [*([own] for own in random), [values - random.sum(axis=0)]]
    seeds = [f"soak {block} {party}" for party in range(parties)]
    world = LockstepWorld(dealers=[stream(seed) for seed in seeds], parties=[stream(seed) for seed in seeds])

    error = sum_ring(world.run(lambda engine, mine: truncate(engine, mine[0], shift), shares)) - (values >> shift)
    if error.min() < 0 or error.max() > 1:
        return f"truncation by {shift} is off by {error.min()} to {error.max()} units"
    inner = values >> 1
    halved = [*([own] for own in random), [inner - random.sum(axis=0)]]
    error = sum_ring(world.run(lambda engine, mine: truncate_roughly(engine, mine[0], rough), halved)) - (inner >> rough)
    if error.min() < -1 or error.max() > 2 or not _within(error, inner, rough, parties):
        return f"rough truncation by {rough} is off by more than its bound"
    if not np.array_equal(sum_ring(world.run(lambda engine, mine: nonnegative(engine, mine[0]), shares)), values >= 0):
        return "a wrong sign"
    rectified = world.run(lambda engine, mine: rectify(engine, mine[0], cut), shares)
    whole = sum_ring([result.whole for result in rectified])
    error = whole - (values >> cut)
    if error.min() < 0 or error.max() > (1 if cut else 0):
        return f"the rectifier's truncation by {cut} is off by {error.min()} to {error.max()} units"
    if not np.array_equal(sum_ring([result.kept for result in rectified]), np.maximum(whole, 0)):
        return f"the rectifier with a cut of {cut} keeps something else than max(v, 0)"
    return ""


def _within(error: np.ndarray, values: np.ndarray, shift: int, parties: int) -> bool:
    """Whether a rough quotient, off by -1 to 2 from the one rounded down, is as close to the value as it is said to be."""
    exact = (error << shift) - (values & ((1 << shift) - 1))
    return bool(np.abs(exact).max() <= (parties << (SHORT_BITS - 1)) + ((1 << shift) - 1 if shift > SHORT_BITS else 0))


def work(process: int, processes: int, blocks: int) -> None:
    """Checks every block whose turn it is, from where this process was stopped."""
    file, digest = FOLDER / f"{process}-of-{processes}.json", code_digest()
    state = {"code": digest, "next": process, "seconds": 0.0, "wrong": []}
    if file.exists() and (kept := json.loads(file.read_text()))["code"] == digest:
        state = kept
    saved = began = time.monotonic()
    before = state["seconds"]
    for block in range(state["next"], blocks, processes):
        if wrong := check_block(block):
            state["wrong"].append(f"block {block}: {wrong}")
            print(f"WRONG in block {block}: {wrong}", flush=True)
        state["next"] = block + processes
        now = time.monotonic()
        if now - saved > _SAVE_EVERY_S or block + processes >= blocks:
            saved = now
            state["seconds"] = before + now - began
            file.write_text(json.dumps(state))
            if process == 0:
                done = state["next"] * BLOCK
                print(f"{done:>13,} of {blocks * BLOCK:,}; {done / state['seconds']:,.0f} a second", flush=True)


def summary(processes: int, blocks: int) -> tuple[bool, str]:
    """Returns whether nothing was wrong, and what was done, in words."""
    states = [json.loads((FOLDER / f"{process}-of-{processes}.json").read_text()) for process in range(processes)]
    wrong = [text for state in states for text in state["wrong"]]
    seconds = max(state["seconds"] for state in states)
    text = (
        f"{blocks * BLOCK:,} numbers, each through both truncations, comparison and rectifier, in {processes} processes"
        f" and {seconds:,.0f} s; {len(wrong)} errors beyond the bounds or wrong signs;"
        f" code {states[0]['code'][:16]}, {time.strftime('%Y-%m-%d')}."
    )
    return not wrong, text


def main() -> int:
    """Runs until enough numbers are checked; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=10**9)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="record the result in docs/performance.md")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    FOLDER.mkdir(parents=True, exist_ok=True)
    blocks = -(-options.elements // BLOCK)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(number, options.processes, blocks)) for number in range(options.processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        return 1
    right, text = summary(options.processes, blocks)
    print(text)
    if options.write and right:
        page = PAGE.read_text(encoding="utf-8")
        begin, end = (page.index(mark) for mark in MARKS)
        PAGE.write_text(f"{page[:begin]}{MARKS[0]}\n\n{text}\n\n{page[end:]}", encoding="utf-8")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
