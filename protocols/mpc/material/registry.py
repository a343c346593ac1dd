"""The closed list of kinds of correlated randomness. A plan names kinds from this list and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.material.clamping import clamped_waves
from protocols.mpc.material.comparison import sign
from protocols.mpc.material.context import Material
from protocols.mpc.material.exponential import exponential
from protocols.mpc.material.maximum import winner
from protocols.mpc.material.multiplication import fan_out, scaling, triple
from protocols.mpc.material.products import elementwise, inner, kept_bilinear, kept_product, mask, product, shares_of_kept
from protocols.mpc.material.rectifier import gate, rectifier
from protocols.mpc.material.series import waves
from protocols.mpc.material.staircase import signs, staircase
from protocols.mpc.material.truncation import short_truncation, truncation
from protocols.mpc.material.window import windowed_waves
from protocols.mpc.material.wrapping import short_wrap, wrap
from protocols.plan.operations import Deal

KINDS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "mask": mask,
        "product": product,
        "kept_product": kept_product,
        "shares_of_kept": shares_of_kept,
        "elementwise": elementwise,
        "kept_bilinear": kept_bilinear,
        "inner": inner,
        "truncation": truncation,
        "short_truncation": short_truncation,
        "wrap": wrap,
        "short_wrap": short_wrap,
        "sign": sign,
        "clamped_waves": clamped_waves,
        "windowed_waves": windowed_waves,
        "waves": waves,
        "exponential": exponential,
        "triple": triple,
        "fan_out": fan_out,
        "scaling": scaling,
        "rectifier": rectifier,
        "gate": gate,
        "signs": signs,
        "staircase": staircase,
        "winner": winner,
    }
)


def deal(material: Material, operation: Deal) -> object:
    """Runs one kind on a material: expands shares, computes plaintexts and corrections, or counts.

    Raises:
        ConfideError: INTERNAL (ours) for a kind that is not on the list.
    """
    kind = KINDS.get(operation.kind)
    if kind is None:
        raise ConfideError(ErrorCode.INTERNAL, f"no correlated randomness of kind {operation.kind!r}")
    return kind(material, *operation.parameters)
