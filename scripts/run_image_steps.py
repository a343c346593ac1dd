"""Runs the steps of docker/Dockerfile without Docker, in clean Debian roots, and tries what comes out.

Each stage starts from a fresh minimal Debian of the release that the base image stands on, with its own Python 3.11; every COPY
and RUN is carried out as written, as root in that root. The result is then used as the container would be: read-only, an own
/tmp, a writable state folder, the image's user, no capabilities. Needs root and debootstrap; nothing outside --folder changes.

    make image-check
    make image-check IMAGE_CHECK="--share /etc/pip.conf"      with this machine's configuration of pip
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dockerfile_steps import Step, expand, ignored, parse
from image_stage import UID, Stage, StepFailed, run_here
from image_trial import try_out

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = "python3.11,python3.11-venv,python3-pip,ca-certificates"
INSIDE = "--inside-namespace"


def build(options: argparse.Namespace, base: Path) -> Stage:
    """Carries out every stage of the Dockerfile; returns the last one."""
    given = dict(argument.split("=", 1) for argument in options.build_arg)
    passed = [name for name in os.environ if name.startswith("PIP_")] + ["http_proxy", "https_proxy", "no_proxy"]
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for step in parse((ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")):
        started = time.monotonic()
        if step.keyword == "FROM":
            name = step.text.split(" AS ")[-1] if " AS " in step.text else "final"
            stage = stages[name] = _new_stage(options, base, name)
        elif stage is not None:
            _carry_out(step, stage, stages, given, passed)
        print(f"  {time.monotonic() - started:7.1f} s  {step.keyword} {step.text[:90]}", flush=True)
    if stage is None:
        raise StepFailed("the Dockerfile has no stage")
    return stage


def _new_stage(options: argparse.Namespace, base: Path, name: str) -> Stage:
    folder = options.folder / f"stage-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    run_here("cp", "--archive", str(base), str(folder))
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    for shared in ("/dev", "/proc", *options.share):
        target = folder / shared.lstrip("/")
        if Path(shared).is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        run_here("mount", "--rbind", shared, str(target))
    return Stage(folder, {})


def _carry_out(step: Step, stage: Stage, stages: dict[str, Stage], given: dict[str, str], passed: Sequence[str]) -> None:
    if step.keyword == "ARG":
        name, _, default = step.text.partition("=")
        stage.arguments[name] = given.get(name, default)
    elif step.keyword == "ENV":
        for assignment in shlex.split(step.text):
            name, _, value = assignment.partition("=")
            stage.env[name] = expand(value, stage.env)
    elif step.keyword == "WORKDIR":
        stage.workdir = step.text
        stage.path(".").mkdir(parents=True, exist_ok=True)
    elif step.keyword == "COPY":
        _copy(step, stage, stages)
    elif step.keyword == "RUN":
        result = stage.run(["/bin/sh", "-c", step.text], passed=passed)
        if result.returncode != 0:
            raise StepFailed(f"RUN {step.text}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
    elif step.keyword in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        stage.commands[step.keyword] = step.command()
    elif step.keyword == "USER" and step.text != f"{UID}:{UID}":
        raise StepFailed(f"the image runs as {step.text}; the volumes belong to {UID}:{UID}")


def _copy(step: Step, stage: Stage, stages: dict[str, Stage]) -> None:
    words = shlex.split(step.text)
    source_stage = next((stages[word.removeprefix("--from=")] for word in words if word.startswith("--from=")), None)
    *sources, target = [word for word in words if not word.startswith("--")]
    for source in sources:
        origin = source_stage.path(source) if source_stage else ROOT / source
        into = target.endswith("/") and origin.is_file()
        destination = stage.path(target) / origin.name if into else stage.path(target)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_file():
            shutil.copy2(origin, destination)
            continue
        rules = None if source_stage else ignored(ROOT / ".dockerignore", ROOT)
        shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True, ignore=rules)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "confide-image")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--share", action="append", default=[], metavar="PATH", help="a path of this machine that the steps may read"
    )
    parser.add_argument("--release", default="bookworm", help="the Debian release of the base image")
    parser.add_argument(INSIDE, dest="inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("image: root and debootstrap are needed (for example the package debootstrap)", file=sys.stderr)
        return 1
    if not options.inside:
        # Mounts made in a mount namespace of our own vanish with it.
        again = ["unshare", "--mount", sys.executable, __file__, INSIDE, *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(again, check=False).returncode  # noqa: S603
    base = options.folder / f"base-{options.release}"
    try:
        if not (base / "usr/bin/python3.11").exists():
            print("building the base", flush=True)
            shutil.rmtree(base, ignore_errors=True)
            base.parent.mkdir(parents=True, exist_ok=True)
            run_here("debootstrap", "--variant=minbase", f"--include={PACKAGES}", options.release, str(base))
        stage = build(options, base)
        size = sum(path.lstat().st_size for path in (stage.folder / "opt/confide").rglob("*")) / 2**20
        print(f"/opt/confide holds {size:.0f} MiB")
        try_out(stage, ROOT / "docker" / "hospital-a" / "party.yaml")
    except StepFailed as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print("the image's steps work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
