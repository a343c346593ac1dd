"""What it costs to link identifiers: private intersections of two sets, and keyed pseudonyms, between party processes.

Everything is real: two institutions' commands and party processes on this machine, mutual TLS, files that are read and checked,
rows that are registered. Wall-clock seconds count from the start of both commands, with their imports; processor seconds are of
all processes of both sides, so on an idle machine with two cores about half of them is the time that the computing takes.

    python benchmarks/bench_linking.py --rows 10000 100000
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parties import harness
from parties.linking.projects import open_project
from parties.linking.pseudonyms import pseudonyms_for
from tests.support.processes import end

DIALS, WAITS, THIRD = "hospital-a", "hospital-b", "hospital-c"
POINT_BYTES = 32
IDENTIFIERS = 15_524
HEAD = "api_version: confide/v1\nkind: TableSchema\nname: part\ncolumns:\n  - {name: patient, role: identifier}\n"
COLUMNS = {DIALS: "dose", WAITS: "nodes"}


def cpu_of(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def cpu_here() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def write_files(folder: Path, rows: int) -> None:
    """Two tables of which half of the people are common."""
    for party, first in ((DIALS, 0), (WAITS, rows // 2)):
        column = COLUMNS[party]
        lines = [f"patient,{column}", *(f"Person {number},{number % 100}" for number in range(first, first + rows))]
        (folder / f"{party}.csv").write_text("\n".join(lines) + "\n")
        (folder / f"{party}.yaml").write_text(HEAD + f"  - {{name: {column}, role: feature, type: integer, range: [0, 100]}}\n")


def intersect(network: harness.Harness, folder: Path, rows: int, *options: str) -> str:
    """Runs both commands and returns a line of the table."""
    write_files(folder, rows)
    pids = [network.party(party).pid for party in (DIALS, WAITS)]
    began, used = time.perf_counter(), cpu_here() + sum(map(cpu_of, pids))
    commands = []
    for party, peer in ((DIALS, WAITS), (WAITS, DIALS)):
        command = [sys.executable, "-I", "-m", "parties.cli", "dataset", "align", "--with", peer, "--label", f"bench-{rows}"]
        command += ["--config", str(network.party(party).config_file), "--file", str(folder / f"{party}.csv")]
        command += ["--schema", str(folder / f"{party}.yaml"), "--name", f"bench-{rows}", *options]
        commands.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [command.communicate() for command in commands]
    if any(command.returncode for command in commands):
        raise SystemExit("\n".join(error for _, error in said))
    wall, cpu = time.perf_counter() - began, cpu_here() + sum(map(cpu_of, pids)) - used
    if not all(f"{rows - rows // 2} of {rows} rows" in out for out, _ in said):
        raise SystemExit("\n".join(out for out, _ in said))
    name = "intersection" if not options else "intersection, size only"
    # Each set travels masked and doubled; announcements and frames come to some kilobytes (tests/unit/test_linking_runs.py).
    return f"| {name} | {rows} x {rows} | {wall:.1f} | {cpu:.1f} | {2 * POINT_BYTES * 2 * rows / 1e6:.2f} |"


def pseudonymise(network: harness.Harness) -> str:
    """Makes the tokens of as many identifiers as a hospital's table has; two institutions."""
    configs = {party: network.party(party).config for party in (DIALS, WAITS)}

    for party, peer in ((DIALS, WAITS), (WAITS, DIALS)):
        open_project(configs[party], "bench", peers=[peer], evaluations=20_000, rotation=1, now=datetime.now(UTC))
    pid = network.party(WAITS).pid
    began, used = time.perf_counter(), cpu_here() + cpu_of(pid)
    found = pseudonyms_for(configs[DIALS], "bench", [f"Person {number}" for number in range(IDENTIFIERS)])
    wall, cpu = time.perf_counter() - began, cpu_here() + cpu_of(pid) - used
    if len(set(found.values())) != IDENTIFIERS:
        raise SystemExit("two identifiers have one token")
    return f"| pseudonyms | {IDENTIFIERS} | {wall:.1f} | {cpu:.1f} | {2 * POINT_BYTES * IDENTIFIERS / 1e6:.2f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        network = harness.up(Path(scratch) / "network", parties=[DIALS, WAITS, THIRD])
        try:
            print("| task | elements | seconds | processor seconds | MB between both |\n|---|---|---|---|---|", flush=True)
            print(pseudonymise(network), flush=True)
            for rows in arguments.rows:
                print(intersect(network, Path(scratch), rows), flush=True)
                print(intersect(network, Path(scratch), rows, "--size-only"), flush=True)
        finally:
            end(*network.parties)
    print(f"\nLoad average when the run ended: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
