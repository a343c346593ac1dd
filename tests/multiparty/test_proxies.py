"""A session between parties that reach each other through an HTTP proxy alone, which asks for a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import confide
from tests.support.connect_proxy import ConnectProxy, a_proxy
from tests.support.processes import descendants, end
from tests.support.trial import DEALER, HOSPITALS, LEAD, SECOND, SHORT_TRAINING, Trial

pytestmark = pytest.mark.multiparty
PASSWORD = "n0b0dys-bus1ness"


def _start_again(trial: Trial) -> None:
    end(*trial.network.parties)
    trial.bring_up()


@pytest.fixture(scope="module")
def proxy(breakable: Trial) -> Iterator[ConnectProxy]:
    """What the environment of every party, and of this process, names; nobody is reached by another way."""
    with a_proxy(f"hospital:{PASSWORD}") as made:
        with pytest.MonkeyPatch.context() as environment:
            for name in ("grpc_proxy", "no_grpc_proxy", "no_proxy"):
                environment.delenv(name, raising=False)
            environment.setenv("https_proxy", made.url(f"hospital:{PASSWORD}"))
            _start_again(breakable)
            yield made
        _start_again(breakable)


def test_session_runs_through_the_proxy_and_the_password_goes_nowhere_else(breakable: Trial, proxy: ConnectProxy) -> None:
    before = len(proxy.asked)
    prepared = breakable.train(SHORT_TRAINING)
    breakable.complete(prepared)
    passed = proxy.asked[before:]
    assert {asked.status for asked in passed} == {200}
    endpoints = {breakable.network.party(party).endpoint for party in HOSPITALS}
    # One link between the two that compute, and one of each with the dealer.
    links = [asked.target for asked in passed if asked.is_link]
    assert len(links) == 3
    assert set(links) < endpoints
    for party in HOSPITALS:
        assert PASSWORD not in breakable.party_log(party)
        for pid in descendants(breakable.network.party(party).pid):
            assert PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_diagnosis_measures_the_way_through_the_proxy(breakable: Trial, proxy: ConnectProxy) -> None:
    before = len(proxy.asked)
    said = confide(
        "net", "diagnose", "--config", breakable.network.party(LEAD).config_file, "--idle", "1", "--max-round-trip", "5000",
        "--format", "json",
    )  # fmt: skip
    found = {peer["peer"]: peer["findings"] for peer in said.data["peers"]}
    assert set(found) == {SECOND, DEALER}
    for findings in found.values():
        assert [finding for finding in findings if finding["verdict"] != "PASS"] == []
        (way,) = [finding["what"] for finding in findings if finding["check"] == "address and port"]
        assert f"through the proxy {proxy.address}" in way
    assert PASSWORD not in said.out + said.error
    own, others = (breakable.network.party(party).endpoint for party in (LEAD, SECOND)), proxy.asked[before:]
    assert {asked.target for asked in others} >= set(own)  # there, and the way back that the other measures
