"""Convolutions of shared values and both their gradients: one dealt product each (docs/protocols/convolution.md)."""

from __future__ import annotations

from protocols.mpc.convolutions import Bilinear, Geometry, bilinear
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.values import Lacking, PartialShare, SharedValue, ValueView


def convolution_product(
    engine: Engine, operation: Bilinear, left: ValueView, right: ValueView, geometry: Geometry
) -> Steps[PartialShare]:
    """Returns this party's share of one of a convolution's three products modulo 2^64, which lacks the product of the masks.

    One round for the operands that are not open yet, 8 bytes an element of them; none if both are. Windows that overlap are sent
    once. Corrections as for `partial_product`.

    Args:
        engine: this party's engine.
        operation: which product; public.
        left: (batch, channels, height, width), secret.
        right: the weight or the output's gradient, as `protocols.mpc.convolutions.bilinear` says, secret.
        geometry: of the convolution; public.

    Learns: nobody anything but shapes.
    """
    yield from SharedValue.open_masked(engine, (left.value, right.value))
    kept = engine.new_mask(for_session=False)
    kind = (kept, int(operation), left.reference(engine), right.reference(engine), geometry.to_numbers())
    engine.deal("kept_bilinear", *kind, result=type(None))
    share = bilinear(operation, [(left.opened(), right.share), (left.mask_share(), right.opened())], geometry)
    return PartialShare(share, (Lacking(kept, 1, False, engine, engine.segments),))
