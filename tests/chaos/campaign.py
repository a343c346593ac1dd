"""Runs points of the matrix and keeps what was seen: `python -m tests.chaos.campaign --points 50 --seed 7`.

Results are appended to `build/chaos/<seed>.jsonl`, one a line; a campaign that was stopped goes on with the points that are
missing there. A network stays up from point to point and is founded anew only after one that was not as promised.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread

import parties  # noqa: F401  (before anything imports gRPC, see there)
from tests.chaos.cells import Cell, Fault
from tests.chaos.network import Network
from tests.chaos.point import network_is_sound, run_point
from tests.chaos.records import CAMPAIGNS, Result, chosen_points, read_results

Point = tuple[Cell, int]
SMALL_DISKS = os.geteuid() == 0  # others cannot mount them


class Campaign:
    """Some networks that work through one list of points."""

    def __init__(self, points: Sequence[Point], file: Path) -> None:
        """Results go to the end of the file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._points: queue.Queue[Point] = queue.Queue()
        for point in points:
            self._points.put(point)
        self._lock = Lock()
        self._began = time.monotonic()
        self._stopped = False
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.results: list[Result] = []
        self.failures: list[BaseException] = []

    def run(self, networks: int) -> None:
        """Runs all points on so many networks at the same time; takes everything down at the end."""
        threads = [Thread(target=self._work, args=(number,)) for number in range(networks)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self, *_: object) -> None:
        """Runs no point any more after those under way; fit for a signal, which must not break off the taking down."""
        print("stopping after the points that are under way", flush=True)
        self._stopped = True

    def _work(self, number: int) -> None:
        network: Network | None = None
        count = 0
        try:
            while not self._stopped:
                try:
                    cell, seed = self._points.get_nowait()
                except queue.Empty:
                    return
                if network is None:
                    count += 1
                    network = Network(self._folder / f"{number}-{count}", small_disks=SMALL_DISKS)
                result = run_point(network, cell, seed)
                self._keep(result)
                if result.violations or not network_is_sound(network):
                    network.down()
                    network = None
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            if network is not None:
                network.down()

    def _keep(self, result: Result) -> None:
        with self._lock:
            self.results.append(result)
            with self._file.open("a", encoding="utf-8") as sink:
                sink.write(result.to_line())
            seen = " ".join(filter(None, result.ending)) or "refused"
            at_s = time.monotonic() - self._began
            print(f"{at_s:6.0f} s  {result.cell.name}: {seen} after {result.within_s:.1f} s", flush=True)
            for violation in result.violations:
                print(f"    NOT AS PROMISED: {violation}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--networks", type=int, default=1, help="how many consortia work at the same time")
    parser.add_argument("--cell", action="append", default=[], help="only this one, for example `stop/dealer/running`")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    file = options.out or CAMPAIGNS / f"{options.seed}.jsonl"
    if options.cell:
        points: Sequence[Point] = [(Cell.of_name(name), options.seed) for name in options.cell]
    else:
        done = {(result.cell, result.seed) for result in read_results(file)}
        points = [point for point in chosen_points(options.points, options.seed) if point not in done]
        if not SMALL_DISKS:
            points = [(cell, seed) for cell, seed in points if cell.fault is not Fault.DISK]
        print(f"{len(points)} of {options.points} points are to be run; results are in {file}")
    campaign = Campaign(points, file)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, campaign.stop)
    campaign.run(options.networks)
    everything = read_results(file)
    print(f"{len(everything)} points, {sum(bool(result.violations) for result in everything)} of them not as promised")
    return 1 if campaign.failures or any(result.violations for result in everything) else 0


if __name__ == "__main__":
    sys.exit(main())
