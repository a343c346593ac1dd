"""The image and the compose file: linted, valid, and hardened as the documents say. No container engine is needed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from parties.config import load_party_config
from tests.support.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PARTIES = ("hospital-a", "hospital-b", "hospital-c")
HEALTH = ["confide", "health", "--config", "/etc/confide/party.yaml"]

steps = load_script("dockerfile_steps")


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is missing: run `make setup`"
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    command = [tool("docker-compose"), "--file", str(DOCKER / "compose.yml"), "--profile", "*", "config"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = yaml.safe_load(result.stdout)
    return document


@pytest.fixture(scope="module")
def dockerfile() -> list[Any]:
    parsed: list[Any] = steps.parse((DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    return parsed


def test_dockerfile_passes_the_linter() -> None:
    command = [tool("hadolint"), "--config", str(DOCKER / "hadolint.yaml"), str(DOCKER / "Dockerfile")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_dockerfile_bases_are_pinned_by_digest(dockerfile: list[Any]) -> None:
    arguments = dict(step.text.split("=", 1) for step in dockerfile if step.keyword == "ARG")
    for step in dockerfile:
        if step.keyword == "FROM":
            assert re.search(r":3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", steps.expand(step.text.split()[0], arguments))


def test_dockerfile_last_stage_runs_as_fixed_user_with_own_health_check(dockerfile: list[Any]) -> None:
    last = dockerfile[max(i for i, step in enumerate(dockerfile) if step.keyword == "FROM") :]
    named = {step.keyword: step for step in last}
    assert named["USER"].text == "10001:10001"
    assert named["ENTRYPOINT"].command() == ["confide"]
    assert named["CMD"].command() == ["party", "serve", "--config", "/etc/confide/party.yaml"]
    assert named["HEALTHCHECK"].command() == HEALTH
    assert named["VOLUME"].command() == ["/var/lib/confide"]
    assert [step.keyword for step in last].index("USER") > [step.keyword for step in last].index("RUN")


def test_build_context_holds_only_what_the_image_copies(dockerfile: list[Any]) -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {word.removeprefix("./") for step in dockerfile if step.keyword == "COPY" for word in step.text.split()[:-1]}
    assert next(rule for rule in rules if not rule.startswith("#")) == "*"
    assert allowed == {name for name in copied if not name.startswith(("--", "/"))}


def test_compose_every_service_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert int(service["mem_limit"]) == int(service["memswap_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert service["ulimits"]["core"] == {"soft": 0, "hard": 0}, name
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "environment"} & set(service), name
        assert not [volume for volume in service["volumes"] if "docker.sock" in volume["source"]], name


def test_compose_institutions_meet_on_the_exchange_network_alone(compose: dict[str, Any]) -> None:
    assert {name for name, network in compose["networks"].items() if network.get("internal")} == set(PARTIES)
    for party in PARTIES:
        assert set(compose["services"][party]["networks"]) == {party, "exchange"}
        assert set(compose["services"][f"{party}-desk"]["networks"]) == {party}
    others = {name for name, service in compose["services"].items() if "exchange" in service["networks"]} - set(PARTIES)
    assert others == {"researcher-desk"}
    assert set(compose["services"]["researcher-desk"]["networks"]) == {"exchange"}


def test_compose_publishes_one_port_of_each_party_and_none_else(compose: dict[str, Any]) -> None:
    published = []
    for name, service in compose["services"].items():
        ports = service.get("ports", [])
        assert len(ports) == (1 if name in PARTIES else 0), name
        published += [(port["host_ip"], port["target"], port["published"]) for port in ports]
    assert {(host, target) for host, target, _ in published} == {("127.0.0.1", 7443)}
    assert len({number for _, _, number in published}) == len(PARTIES)


def test_compose_parties_check_their_health_by_the_own_command(compose: dict[str, Any]) -> None:
    for party in PARTIES:
        assert compose["services"][party]["healthcheck"]["test"] == ["CMD", *HEALTH]


def test_compose_state_and_rows_belong_to_one_institution_and_config_is_read_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        owner = name.removesuffix("-desk")
        by_target = {volume["target"]: volume for volume in service["volumes"]}
        assert by_target.pop("/var/lib/confide")["source"] == f"{owner}-state"
        if owner in PARTIES:
            config = by_target.pop("/etc/confide/party.yaml")
            assert (config["read_only"], Path(config["source"])) == (True, DOCKER / owner / "party.yaml")
        if owner != name:
            # Only public documents go through this folder; a serving party does not even have it.
            assert Path(by_target.pop("/exchange")["source"]) == DOCKER / "exchange"
        if owner != name and owner in PARTIES:
            rows = by_target.pop("/data")
            assert (rows["read_only"], Path(rows["source"])) == (True, DOCKER / owner / "data")
        assert by_target == {}, name


@pytest.mark.parametrize("party", PARTIES)
def test_sample_configuration_is_valid_and_fits_the_compose_file(party: str, compose: dict[str, Any]) -> None:
    config = load_party_config(DOCKER / party / "party.yaml")
    (port,) = compose["services"][party]["ports"]
    assert (config.party, config.state) == (party, Path("/var/lib/confide/state"))
    assert config.listen == f"0.0.0.0:{port['target']}"


def test_dockerfile_reader_unknown_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="ADD"):
        steps.parse("FROM a\nADD b c\n")
