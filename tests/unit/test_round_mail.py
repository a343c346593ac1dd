"""Bytes that travel with the messages of rounds, or by messages of their own where no round is to come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.channels import Channel, LinkExchange
from protocols.mpc.round_mail import RoundMail
from protocols.ring import RingArray
from tests.support.memory_links import MemoryLink, as_links, connect
from tests.support.mpc_world import in_threads

PARTIES = ("alpha", "beta", "delta")
SIZES = {"alpha": 3, "beta": 3, "delta": 70}


class Works:
    """Something beside the rounds: posts in the first, and keeps what has come by the last."""

    def __init__(self, party: str, mail: RoundMail) -> None:
        self.mail = mail
        self._party = party
        self._is_posted = False
        self.waits: list[bool] = []

    def meanwhile(self) -> None:
        self.waits.append(self.mail.has_arrived)
        if not self._is_posted:
            self._is_posted = True
            self.mail.post(said_by(self._party), {peer: size for peer, size in SIZES.items() if peer != self._party})


def said_by(party: str) -> bytes:
    return party[:1].encode() * SIZES[party]


Run = tuple[list[RingArray], dict[str, bytes], list[bool]]


def run(rounds: int) -> tuple[dict[str, Run], dict[str, dict[str, MemoryLink]]]:
    links = connect(PARTIES)

    def party(name: str) -> Run:
        channels = {peer: Channel(link) for peer, link in as_links(links[name]).items()}
        exchange = LinkExchange(list(channels.values()))
        works = Works(name, RoundMail(channels))
        exchange.beside = works
        numbers = np.arange(4) + PARTIES.index(name)
        opened = [exchange.open([numbers], [np.array([1], np.uint8)]).numbers[0] for _ in range(rounds)]
        return opened, works.mail.take(), works.waits

    tasks: dict[str, Callable[[], Run]] = {name: lambda name=name: party(name) for name in PARTIES}  # type: ignore[misc]
    return in_threads(tasks, links), links


def test_what_is_posted_comes_with_the_next_round_and_changes_nothing_that_is_opened() -> None:
    results, links = run(3)
    for name, (opened, received, waits) in results.items():
        assert received == {peer: said_by(peer) for peer in PARTIES if peer != name}
        for each in opened:
            np.testing.assert_array_equal(each, 3 * np.arange(4) + 3)
        assert waits == [True, False, True]
        assert [len(arrays) for _, arrays in links[name][next(p for p in PARTIES if p != name)].log] == [2, 3, 2]


def test_what_no_round_carries_goes_by_itself() -> None:
    results, links = run(1)
    for name, (_, received, _) in results.items():
        assert received == {peer: said_by(peer) for peer in PARTIES if peer != name}
        assert [len(arrays) for _, arrays in links[name][next(p for p in PARTIES if p != name)].log] == [2, 1]


def test_second_posting_before_the_first_has_come_is_refused() -> None:
    mail = RoundMail({})
    mail.post(b"a", {"beta": 1})
    with pytest.raises(ConfideError) as caught:
        mail.post(b"b", {"beta": 1})
    assert caught.value.code is ErrorCode.INTERNAL
