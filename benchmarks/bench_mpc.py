"""Our engine beside its peers, same tasks, same machine, same run, taking turns: the table of docs/performance.md.

    python benchmarks/bench_mpc.py --rounds 3 --write
    python benchmarks/bench_mpc.py --tasks relu-100k,maxpool --quick

Ours runs as it is used: processes of parties with confined workers, the dealer a party of its own, gRPC and mutual TLS. CrypTen
0.4.1 and SPU 0.9.5 run as shipped, without encryption; SPU's ABY3 also with the mutual TLS that its links offer, which is what
institutions apart would have to switch on. SPU is left out where its environment was not built (`make bench-mpc-peers`).
Figures go to build/bench/mpc.json: {"task", "system", "metric", "value", "unit"}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HERE = Path(__file__).resolve().parent
PEERS_PYTHON = ROOT / "build" / "peers-venv" / "bin" / "python"
OUT = ROOT / "build" / "bench" / "mpc.json"
PAGE = ROOT / "docs" / "performance.md"
MARKS = ("<!-- written by make bench-mpc: begin -->", "<!-- written by make bench-mpc: end -->")
INSECURE = {"crypten-tfp": "insecure: a computing party makes the triples", "spu-semi2k": "insecure dealer"}
UNITS = {
    "seconds": "s",
    "online_seconds": "s",
    "rounds": "",
    "sent_bytes_per_party": "bytes",
    "dealer_bytes": "bytes",
    "processor_seconds": "s",
    "dealer_processor_seconds": "s",
}
# Seconds that issue 5 asks of us; None where it states none.
TARGETS = {
    "net-a-step": 0.07,
    "net-a-step-3-parties": 0.13,
    "net-a-step-40ms": 1.5,
    "net-a-inference": 0.05,
    "relu-100k": None,
    "maxpool": 0.15,
    "lr-breast-cancer-10": 0.06,
    "lenet-step": 1.0,
}
# Steps of a job or runs of a program: so many that the dealer's head start is in no median; --quick makes fewer.
STEPS = {
    "net-a-step": 96,
    "net-a-step-3-parties": 96,
    "net-a-step-40ms": 96,
    "net-a-inference": 32,
    "relu-100k": 64,
    "maxpool": 32,
    "lr-breast-cancer-10": 1_200,
    "lenet-step": 32,
}
QUICK_STEPS = 16
STEPS_AT_ONCE = {"lr-breast-cancer-10": 10}  # which the figures are of
ON_LINKS = ("relu-100k", "maxpool")  # no job type of their own: benchmarks/engine_runner.py
NO_SPU = ("net-a-step-3-parties", "net-a-step-40ms", "lenet-step")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
Found = dict[str, Any]  # "seconds": one number or those of every run; the other metrics by name


class Bench:
    """Runs tasks on systems; parties are started when the first task needs them."""

    def __init__(self, *, quick: bool) -> None:
        self._quick = quick
        self.peer_runs = 3 if not quick else 1
        self._consortium: Any = None

    def close(self) -> None:
        """Stops the parties."""
        if self._consortium is not None:
            self._consortium.close()

    def systems(self, task: str) -> dict[str, Callable[[], Found]]:
        """Returns who can do a task, and how."""
        found: dict[str, Callable[[], Found]] = {"confide": lambda: self._ours(task)}
        if task != "net-a-step-40ms":
            for provider in ("ttp", "tfp"):
                found[f"crypten-{provider}"] = lambda provider=provider: self._crypten(provider, task)
        if PEERS_PYTHON.exists() and task not in NO_SPU:
            for protocol in ("semi2k", "aby3"):
                found[f"spu-{protocol}"] = lambda protocol=protocol: self._spu(protocol, task)
            found["spu-aby3-tls"] = lambda: self._spu_with_tls("aby3", task)
        return found

    def _ours(self, task: str) -> Found:
        steps = QUICK_STEPS if self._quick else STEPS[task]
        found = self._run_ours(task, steps)
        if not self._quick and task != "net-a-inference":
            from party_jobs import steady_steps

            needed = steady_steps(found["dealer_bytes"] / STEPS_AT_ONCE.get(task, 1))
            if steps < needed:
                raise RuntimeError(f"{task}: {steps} steps hide what was dealt before them; {needed} are enough")
        return found

    def _run_ours(self, task: str, steps: int) -> Found:
        if task in ON_LINKS:
            from parties.server.workers import ENVIRONMENT

            command = [sys.executable, str(HERE / "engine_runner.py"), "--task", task, "--runs", str(steps)]
            said = _run(command, environment=ENVIRONMENT)  # what workers run in
            return said | {
                "processor_seconds": said["processor_seconds_per_party"],
                "dealer_processor_seconds": said["processor_seconds_of_dealer"],
            }
        import party_jobs

        if task == "net-a-step-40ms":
            with closing(party_jobs.far_apart()) as distant:
                return _fields(party_jobs.net_a_step(distant, steps=steps))
        if self._consortium is None:
            self._consortium = party_jobs.started()
        where = self._consortium
        if task == "net-a-inference":
            return party_jobs.net_a_inference(where, repeats=steps)
        measured = {
            "net-a-step": lambda: party_jobs.net_a_step(where, steps=steps),
            "net-a-step-3-parties": lambda: party_jobs.net_a_step(where, steps=steps, parties=3),
            "lr-breast-cancer-10": lambda: party_jobs.lr_breast_cancer_10(where, steps=steps),
            "lenet-step": lambda: party_jobs.lenet_step(where, steps=steps),
        }
        return _fields(measured[task]())

    def _crypten(self, provider: str, task: str) -> Found:
        command = [sys.executable, str(HERE / "peer_crypten.py"), "--provider", provider, "--task", task]
        return _run([*command, "--runs", str(1 if task == "lenet-step" else self.peer_runs)])

    def _spu(self, protocol: str, task: str, *options: str) -> Found:
        command = [str(PEERS_PYTHON), str(HERE / "peer_spu.py"), "--protocol", protocol, "--task", task]
        return _run([*command, "--runs", str(self.peer_runs), *options])

    def _spu_with_tls(self, protocol: str, task: str) -> Found:
        from tests.support.tls_world import a_tls_world

        world = a_tls_world()
        identities = (world.server, world.peer, world.outsider("hospital-c"))
        with tempfile.TemporaryDirectory() as folder:
            for rank, identity in enumerate(identities):
                (Path(folder) / f"{rank}.key").write_bytes(identity.private_key)
                (Path(folder) / f"{rank}.pem").write_bytes(identity.certificate)
            (Path(folder) / "ca.pem").write_bytes(world.server.ca_certificate)
            return self._spu(protocol, task, "--identities", folder)


def measure(bench: Bench, task: str, rounds: int) -> list[dict[str, Any]]:
    """Lets the systems take turns; returns the rows of a task. A peer that fails is named and left out."""
    turns: dict[str, list[Found]] = {}
    systems = bench.systems(task)
    for _ in range(rounds):
        for system, run in list(systems.items()):
            try:
                turns.setdefault(system, []).append(run())
            except (subprocess.SubprocessError, OSError, ValueError) as error:
                if system == "confide":
                    raise
                print(f"{task}: {system} did not run: {error}", file=sys.stderr)
                del systems[system]
    rows: list[dict[str, Any]] = []
    ours = [_median(found["seconds"]) for found in turns["confide"]]
    for system, found in turns.items():
        for metric, unit in UNITS.items():
            values = [_median(one[metric]) for one in found if one.get(metric) is not None]
            if values:
                rows.append(_row(task, system, metric, statistics.median(values), unit))
        if system != "confide":
            ratios = [_median(one["seconds"]) / mine for one, mine in zip(found, ours, strict=False)]
            rows.append(_row(task, system, "ratio to confide", statistics.median(ratios), "times"))
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    values = {(row["task"], row["system"], row["metric"]): row["value"] for row in rows}
    lines = [
        "| task | system | seconds | target | online alone | times ours | rounds | MB sent per party | MB of the dealer |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, system in dict.fromkeys((row["task"], row["system"]) for row in rows):

        def shown(metric: str, form: str, scale: float = 1.0, task: str = task, system: str = system) -> str:
            value = values.get((task, system, metric))
            return "" if value is None else format(value / scale, form)

        target = TARGETS.get(task) if system == "confide" else None
        cells = [
            task,
            system + (f" ({INSECURE[system]})" if system in INSECURE else ""),
            shown("seconds", ".4f"),
            "" if target is None else f"{target:g}",
            shown("online_seconds", ".4f"),
            shown("ratio to confide", ".1f"),
            shown("rounds", ".0f"),
            shown("sent_bytes_per_party", ".2f", 1e6),
            shown("dealer_bytes", ".2f", 1e6),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page(text: str) -> None:
    """Puts the table into docs/performance.md, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = (page.index(mark) for mark in MARKS)
    PAGE.write_text(f"{page[:begin]}{MARKS[0]}\n\n{text}\n\n{page[end:]}", encoding="utf-8")


def _row(task: str, system: str, metric: str, value: float, unit: str) -> dict[str, Any]:
    return {"task": task, "system": system, "metric": metric, "value": value, "unit": unit}


def _median(value: float | list[float]) -> float:
    return statistics.median(value) if isinstance(value, list) else value


def _fields(figures: Any) -> Found:
    return dict(vars(figures))


def _run(command: Sequence[str], *, environment: Mapping[str, str] = ONE_THREAD) -> Found:
    done = subprocess.run(command, capture_output=True, text=True, timeout=3_600, env=os.environ | environment)
    if done.returncode != 0 or not done.stdout.strip():
        raise subprocess.SubprocessError(" ".join(done.stderr.strip().splitlines()[-2:]) or "it printed nothing")
    found: Found = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    return found


def main() -> None:
    """Measures, prints the table, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TARGETS), help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=3, help="how often the systems take turns")
    parser.add_argument("--quick", action="store_true", help="few steps: to see that everything runs, not to publish")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    if unknown := set(tasks) - set(TARGETS):
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    if not PEERS_PYTHON.exists():
        print("SPU is left out: its environment is not built (make bench-mpc-peers)", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with closing(Bench(quick=options.quick)) as bench:
        for task in tasks:
            rows += measure(bench, task, options.rounds)
            OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            print(table([row for row in rows if row["task"] == task]), flush=True)
    text = table(rows) + f"\n\nLoad average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    print(text)
    if options.write:
        write_page(text)


if __name__ == "__main__":
    main()
