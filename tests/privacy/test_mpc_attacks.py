"""Known attacks on secret sharing as commonly shipped: they succeed against the broken variants and fail against ours."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.material.context import DealerMaterial, ShareMaterial
from protocols.mpc.material.registry import deal
from protocols.mpc.material.window import WindowMaterial
from protocols.mpc.primitives.products import product
from protocols.mpc.primitives.refresh import Refresher
from protocols.mpc.primitives.sigmoid import sigmoid
from protocols.mpc.values import SharedValue, ValueView
from protocols.plan.operations import Deal
from protocols.prg import AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes
from protocols.sharing import draw_ring
from tests.support.broken_variants import FIRST_PARTY_PROVIDER, MersenneStream, search_seed, without_refresh
from tests.support.memory_links import all_bytes, received_arrays
from tests.support.mpc_world import random_ring, run_protocol, split, stream

# --- rank 0 makes the triples, so it reads every operand


def test_first_party_provider_rank_zero_recovers_operands(tmp_path: Path) -> None:
    script = tmp_path / "first_party.py"
    script.write_text(FIRST_PARTY_PROVIDER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ast.literal_eval(done.stdout.strip().splitlines()[-1]) == [[1.5, -2.25, 3.0], [4.0, 0.5, -7.5]]


def _product(engine: Engine, mine: list[RingArray]) -> Steps[RingArray]:
    x, y = (ValueView(SharedValue(share, scale_bits=16, magnitude_bits=20)) for share in mine)
    return (yield from product(engine, x, y))


class _Shifted:
    """Party 1's stream with other mask shares: just as likely as the one it replaces."""

    def __init__(self, seed: str, shifts: list[RingArray]) -> None:
        self._stream = stream(seed)
        self._shifts = shifts

    def take(self, count: int) -> np.ndarray:
        taken = self._stream.take(count)
        if self._shifts:
            shift = self._shifts.pop(0)
            taken = (taken.view(np.int64) + shift.reshape(-1)).view(np.uint8)
        return taken


def test_our_party_zero_sees_the_same_whatever_the_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    # For other operands there is a stream of party 1, equally likely, that gives party 0 the very same view: its share, its
    # stream, and every message that it receives. So nothing that it can compute depends on the operands.
    x, y = random_ring(1, (3, 4)), random_ring(2, (4, 2))
    other_x, other_y = random_ring(3, (3, 4)), random_ring(4, (4, 2))
    shares = [list(pair) for pair in zip(split(x, 2), split(y, 2), strict=True)]
    other_shares = [shares[0], [shares[1][0] + other_x - x, shares[1][1] + other_y - y]]
    first = run_protocol(_product, shares)
    assert np.array_equal(first.value, x @ y)

    shifts = [other_x - x, other_y - y]
    from tests.support import mpc_world

    def other_stream(seed: str) -> AesCtrStream | _Shifted:
        return _Shifted(seed, list(shifts)) if seed == "dealt1" else stream(seed)

    monkeypatch.setattr(mpc_world, "stream", other_stream)
    second = run_protocol(_product, other_shares)
    assert np.array_equal(second.value, other_x @ other_y)
    assert np.array_equal(second.shares[0], first.shares[0])
    views = [all_bytes(received_arrays(run.links, "p0")) for run in (first, second)]
    assert np.array_equal(*views)
    # Party 0's own messages are its share and its stream, which are the same.
    assert np.array_equal(*[all_bytes(received_arrays(run.links, "p1")[:2]) for run in (first, second)])


# --- a seed of 32 effective bits is found by trying all

KNOWN_HIGH_BITS = 0x5AC3 << 16  # the full search has 2^32 candidates; here the upper half is given


def test_seed_search_succeeds_against_the_mersenne_twister() -> None:
    seed = (0x0123_4567 << 32) | KNOWN_HIGH_BITS | 0x0B7E  # 64 bits, of which the generator uses 32
    observed = draw_ring(MersenneStream(seed), (4,))
    assert search_seed(observed, range(KNOWN_HIGH_BITS, KNOWN_HIGH_BITS + 2**12), MersenneStream) == seed & 0xFFFF_FFFF


@pytest.mark.parametrize(
    "guess",
    [MersenneStream, lambda seed: AesCtrStream(SecretBytes(seed.to_bytes(32, "little")))],
    ids=["torch", "aes"],
)
def test_seed_search_finds_nothing_against_our_stream(guess: Callable[[int], AesCtrStream | MersenneStream]) -> None:
    observed = draw_ring(stream("a key of 256 bits"), (4,))
    assert search_seed(observed, range(KNOWN_HIGH_BITS, KNOWN_HIGH_BITS + 2**12), guess) is None


# --- dealer and querier together read inner values from an output share that was not refreshed

SCALE_BITS = 40
LOGIT = 31.0  # saturated: the output is exactly 1 and says nothing more


def recover_saturated_logit(operation: Deal, output_shares: list[RingArray]) -> float | None:
    """What the dealer (all dealt material) and the querier (both output shares) find out together.

    An output share is linear in the dealt shares with six opened bits, the opened top bit and the truncation's public base as
    unknowns. The base must be small, which hardly any wrong guess fulfils; it gives the series as if it had no window.
    """
    seeds = ("dealt0", "dealt1")
    sink: list[np.ndarray] = []
    plain = _sigmoid_material(DealerMaterial([stream(seed) for seed in seeds], _Sink(sink)), operation)
    first = _sigmoid_material(ShareMaterial(stream(seeds[0]), None), operation)
    shift = 32
    inside, above, inside_high, inside_top = (
        [int(share) for share in shares[:, 0]] for shares in (first.inside, first.above, first.inside_high, first.inside_top)
    )
    for hidden in range(128):
        below, same, low, near, following, rest, wraps = (hidden >> bit & 1 for bit in range(7))
        signs = [1 - 2 * bit for bit in (below, same, low, near, following, rest)]

        def part(high: int, top: int, wraps: int = wraps) -> int:
            return -wraps * (top << (64 - shift)) - high

        weights = [near * signs[1], same * signs[3], signs[1] * signs[3], rest * signs[4], following * signs[5]]
        weights.append(signs[4] * signs[5])
        kept = same * near + following * rest
        slope = kept + sum(weight * share for weight, share in zip(weights, inside, strict=True))
        over = below + same * low + signs[0] * above[0] + same * signs[2] * above[1] + signs[1] * signs[2] * above[2]
        over += low * signs[1] * inside[0]
        known = (over << 16) + (slope << 15) + kept * part(int(first.truncation.high[0]), int(first.truncation.top[0]))
        known += sum(weight * part(*dealt) for weight, *dealt in zip(weights, inside_high, inside_top, strict=True))
        base = _divide(int(output_shares[0][0]) - known, slope)
        if base is not None and abs(base) < 2**31:
            half = base + part(int(plain.truncation.high[0]), int(plain.truncation.top[0]))
            series = 2 * half / 2**16
            if abs(series) < 0.99:
                # Beyond 16 the series is reflected: S(x) = tanh((32 - x) / 2).
                return float(32 - 2 * np.arctanh(series))
    return None


class _Sink:
    def __init__(self, sink: list[np.ndarray]) -> None:
        self._sink = sink

    def room(self, count: int) -> np.ndarray:
        self._sink.append(np.empty(count, np.uint8))
        return self._sink[-1]


def _sigmoid_material(material: DealerMaterial | ShareMaterial, operation: Deal) -> WindowMaterial:
    dealt = deal(material, operation)
    assert isinstance(dealt, WindowMaterial)
    return dealt


def _divide(value: int, slope: int) -> int | None:
    """Solves slope * b = value modulo 2^64 for a small signed b, if there is one."""
    slope %= 2**64
    if slope == 0:
        return None
    twos = (slope & -slope).bit_length() - 1
    value %= 2**64
    if value % 2**twos:
        return None
    modulus = 2 ** (64 - twos)
    found = (value >> twos) * pow(slope >> twos, -1, modulus) % modulus
    return found - modulus if found >= modulus // 2 else found


def _saturated_output() -> tuple[Deal, list[RingArray]]:
    values = np.array([round(LOGIT * 2**SCALE_BITS)])
    run = run_protocol(
        lambda engine, mine: sigmoid(engine, mine[0], SCALE_BITS, SCALE_BITS + 20), [[s] for s in split(values, 2)]
    )
    # The output itself is one, to within the series' unit: the clamp hides how large the logit is.
    assert abs(int(run.value[0]) - 2**16) <= 1
    return next(item for item in run.operations if isinstance(item, Deal)), run.shares


def test_unrefreshed_output_share_shows_dealer_and_querier_the_logit() -> None:
    operation, shares = _saturated_output()
    found = recover_saturated_logit(operation, [without_refresh(share) for share in shares])
    assert found is not None
    assert abs(found - LOGIT) < 1e-3


def test_refreshed_output_share_shows_dealer_and_querier_the_output_only() -> None:
    operation, shares = _saturated_output()
    for key in range(200):
        refreshers = [Refresher(index, {1 - index: stream(f"refresh{key}")}) for index in (0, 1)]
        fresh = [refresher.refresh(share) for refresher, share in zip(refreshers, shares, strict=True)]
        found = recover_saturated_logit(operation, fresh)
        # The attack finds nothing, or something that has no relation to the logit.
        assert found is None or abs(found - LOGIT) > 0.1
