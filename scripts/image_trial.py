"""Uses the image's last stage as a container would be used: read-only root, fixed user, no capabilities, own health check."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from image_stage import UID, Stage, StepFailed, run_here

START_S = 30.0
STOP_S = 30.0
STATE = "/var/lib/confide"
CONFIG = "/etc/confide/party.yaml"
CONFINED = ["/usr/bin/setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]


def try_out(stage: Stage, sample_config: Path) -> None:
    """Enrols one party with the image's commands, serves it, asks its health and stops it.

    Raises:
        StepFailed: something did not work; with what it said.
    """
    shutil.copy(sample_config, stage.path(CONFIG))
    _mount_as_container(stage)
    if stage.run([*CONFINED, "/bin/sh", "-c", "echo x > /opt/confide/x"]).returncode == 0:
        raise StepFailed("the root is not read-only for the image's user")
    print(f"  {_ask(stage, '--version')}", flush=True)
    # What every session worker begins with, CrypTen included.
    engine = "import torch, protocols.mpc.tensor; print(torch.__version__)"
    print(f"  the engine starts on torch {_run(stage, ['/opt/confide/bin/python', '-c', engine])}", flush=True)
    if _status(stage, stage.commands["HEALTHCHECK"]) == 0:
        raise StepFailed("the health check passes although nothing is served")
    _enrol(stage)
    serving = subprocess.Popen(  # noqa: S603
        ["/usr/sbin/chroot", str(stage.folder), *CONFINED, *stage.commands["ENTRYPOINT"], *stage.commands["CMD"]],
        env=stage.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = time.monotonic()
    try:
        while _status(stage, stage.commands["HEALTHCHECK"]) != 0:
            if serving.poll() is not None or time.monotonic() - started > START_S:
                serving.kill()
                raise StepFailed(f"the party does not become healthy: {serving.communicate()[0][-2000:]}")
        print(f"  {time.monotonic() - started:.1f} s from start to healthy", flush=True)
        started = time.monotonic()
        serving.terminate()
        serving.wait(STOP_S)
        print(f"  {time.monotonic() - started:.1f} s from SIGTERM to the end, status {serving.returncode}", flush=True)
        if serving.returncode != 0:
            raise StepFailed(f"the party ended with {serving.returncode}: {serving.communicate()[0][-2000:]}")
    finally:
        serving.kill()


def _mount_as_container(stage: Stage) -> None:
    state = str(stage.path(STATE))
    run_here("mount", "--bind", state, state)
    run_here("mount", "--rbind", str(stage.folder), str(stage.folder))
    run_here("mount", "--options", "remount,bind,ro", str(stage.folder))
    options = "size=256m,mode=1777,noexec,nosuid,nodev"
    run_here("mount", "--types", "tmpfs", "--options", options, "tmpfs", str(stage.folder / "tmp"))


def _enrol(stage: Stage) -> None:
    """Founds a consortium of one party, on the state volume."""
    consortium, directory = f"{STATE}/consortium", f"{STATE}/directory-to-send.json"
    founded = json.loads(_ask(stage, f"consortium init --id trial --folder {consortium} --format json"))["data"]
    wanted = "--endpoint hospital-a:7443 --listen 0.0.0.0:7443 --roles data-owner --roles computing"
    made = json.loads(_ask(stage, f"party init --id hospital-a {wanted} --folder {STATE} --format json"))["data"]
    approve = f"consortium approve {made['request']} --fingerprint {made['fingerprint']}"
    _ask(stage, f"{approve} --folder {consortium} --out {directory}")
    join = f"party join --config {CONFIG} --directory {directory}"
    _ask(stage, f"{join} --founder-fingerprint {founded['founder_fingerprint']}")
    print("  one party is enrolled", flush=True)


def _ask(stage: Stage, command: str) -> str:
    return _run(stage, [*stage.commands["ENTRYPOINT"], *shlex.split(command)])


def _run(stage: Stage, command: list[str]) -> str:
    result = stage.run([*CONFINED, *command])
    if result.returncode != 0:
        raise StepFailed(f"{shlex.join(command)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout.strip()


def _status(stage: Stage, command: list[str]) -> int:
    result = stage.run([*CONFINED, *command])
    if "Traceback" in result.stderr:
        raise StepFailed(f"{shlex.join(command)} crashed\n{result.stderr}")
    return result.returncode
