"""Finds openings whose masks are related, from runs on the same secrets under different keys.

What is opened is value +- mask, and the values of two runs differ by rounding at most. So the change of an opened number from run
to run is that of its mask: two numbers that change alike, or oppositely, are hidden by one mask, and one that stays is not hidden
at all. With two changes of 64 bits each, two independent masks look related with probability 2^-45.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from protocols.links import Array
from tests.support.memory_links import MemoryLink

RUNS = 3
_ROUNDING = 1 << 40  # of raw products, between two runs
_WORD_BYTES = 8


def opened_by(links: Mapping[str, Mapping[str, MemoryLink]], parties: Sequence[str]) -> list[Array]:
    """Everything that these parties opened among each other, in order; they must have exchanged openings alone."""
    sent = []
    for index, party in enumerate(parties):
        peer = parties[index - 1]
        sent.append([array for _, arrays in links[party][peer].log for array in arrays])
    opened = []
    for shares in zip(*sent, strict=True):
        combine = np.bitwise_xor if shares[0].dtype == np.uint8 else np.add
        found = np.asarray(combine.reduce(shares))
        # Short numbers are the highest bits of long ones.
        opened.append(found.astype(np.int64) << 32 if found.dtype == np.uint32 else found)
    return opened


def related(runs: Sequence[Sequence[Array]]) -> set[tuple[int, int]]:
    """Pairs of positions in the runs' lists of openings that share a mask; (i, i) also where something is not masked at all."""
    assert len(runs) == RUNS
    found: set[tuple[int, int]] = set()
    for dtype, of_one, search in ((np.int64, _numbers, _alike), (np.uint8, _words, _equal)):
        places, changes = [], []
        for place, arrays in enumerate(zip(*runs, strict=True)):
            if arrays[0].dtype == dtype:
                first, second, third = (of_one(array) for array in arrays)
                changes.append(_changes(first, second, third))
                places.append(np.full(len(first), place))
        if places:
            found |= search(np.concatenate(changes), np.concatenate(places))
    return found


def _numbers(array: Array) -> np.ndarray:
    return array.reshape(-1)


def _words(array: Array) -> np.ndarray:
    """Whole words of 64 packed bits along the last dimension; a shorter rest is left out."""
    whole = array.shape[-1] // _WORD_BYTES * _WORD_BYTES
    return np.ascontiguousarray(array[..., :whole]).reshape(-1).view(np.uint64)


def _changes(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    if first.dtype == np.uint64:
        return np.stack([first ^ second, first ^ third], axis=1)
    return np.stack([first - second, first - third], axis=1)


def _alike(changes: np.ndarray, places: np.ndarray) -> set[tuple[int, int]]:
    changes = np.where(changes[:, :1] < 0, -changes, changes)
    order = np.argsort(changes[:, 0], kind="stable")
    changes, places = changes[order], places[order]
    found = {(int(place), int(place)) for place in places[(np.abs(changes) < _ROUNDING).all(axis=1)]}
    step = 1
    while step < len(changes):
        first, second = changes[:-step], changes[step:]
        is_near = second[:, 0] - first[:, 0] < _ROUNDING
        if not is_near.any():
            break
        is_same = is_near & (np.abs(second[:, 1] - first[:, 1]) < _ROUNDING)
        found |= {(int(one), int(two)) for one, two in zip(places[:-step][is_same], places[step:][is_same], strict=True)}
        step += 1
    return {(min(pair), max(pair)) for pair in found}


def _equal(changes: np.ndarray, places: np.ndarray) -> set[tuple[int, int]]:
    words: dict[bytes, list[int]] = {bytes(16): [-1]}  # a word that stays is not masked
    for change, place in zip(changes, places, strict=True):
        words.setdefault(change.tobytes(), []).append(int(place))
    return {(two if one < 0 else one, two) for same in words.values() for one, two in itertools.pairwise(same)}
