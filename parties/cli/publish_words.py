"""What `confide model publish` says: how a model would be asked, and what polynomials would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parties.cli.output import Json, table

if TYPE_CHECKING:
    from parties.publishing import Preview
    from protocols.ckks.lanes import PlannedLanes
    from protocols.ckks.offers import Measured, Offer
    from protocols.ckks.planning import EncryptedPlan

_KIB = 1024


def preview_data(preview: Preview) -> dict[str, Json]:
    """Returns a preview for the JSON formats."""
    return {
        "lanes": None if preview.lanes is None else lanes_data(preview.lanes),
        "offers": [_offer_data(offer) for offer in preview.offers],
        "range": None if preview.between is None else list(preview.between),
        "measured": _measured_data(preview.measured),
        "proposed_output_limit": preview.proposed_limit,
    }


def preview_text(preview: Preview, *, limit: float | None) -> str:
    """Returns a preview for people.

    Args:
        preview: what was found.
        limit: of the outputs, that the terms state.
    """
    lines = [lanes_text(preview.lanes)] if preview.lanes is not None else _offers_lines(preview)
    if preview.measured is not None:
        lines += ["", "On the validation rows, without encryption:", *_measured_lines(preview.measured)]
    if preview.proposed_limit is not None and limit is None:
        lines.append(f"Proposed in the terms, from the validation rows: output_limit: {preview.proposed_limit:g}")
    return "\n".join(lines)


def lanes_data(lanes: PlannedLanes) -> dict[str, Json]:
    """Returns the lanes of a model for the JSON formats."""
    return {
        "decimals": lanes.decimals,
        "known_after": lanes.known_after,
        "refused": dict(lanes.refused),
        "plans": {lane: plan_data(plan) for lane, plan in lanes.plans.items()},
    }


def plan_data(plan: EncryptedPlan) -> dict[str, Json]:
    """Returns the figures of a plan for the JSON formats."""
    said = plan.predictions
    return {
        "parameters": plan.parameters.name,
        "samples": plan.samples,
        "precision": plan.precision,
        "server_ms": round(1000 * said.server_seconds, 3),
        "upload_bytes": said.upload_bytes,
        "key_bytes": said.key_bytes,
        "answer_bytes": said.answer_bytes,
        "max_error": said.max_error,
        "typical_error": said.typical_error,
        "output_limit": said.output_limit,
    }


def lanes_text(lanes: PlannedLanes) -> str:
    """Returns the lanes of a model for people."""
    heads = ("lane", "parameters", "samples", "server ms", "up KiB", "keys KiB", "down KiB", "error up to", "told in steps of")
    rows = [_row(lane, plan) for lane, plan in lanes.plans.items()]
    lines = [table(heads, rows), *(f"no lane {lane}: {why}" for lane, why in lanes.refused.items())]
    if lanes.known_after:
        lines.append(f"Whoever learns the answers to {lanes.known_after} samples of her choice knows the model.")
    return "\n".join(lines)


def _row(lane: str, plan: EncryptedPlan) -> tuple[str, ...]:
    said = plan.predictions
    sizes = (f"{size / _KIB:.0f}" for size in (said.upload_bytes, said.key_bytes, said.answer_bytes))
    seconds = f"{1000 * said.server_seconds:.1f}"
    return (lane, plan.parameters.name, str(plan.samples), seconds, *sizes, f"{said.max_error:g}", f"{plan.precision:g}")


def _offers_lines(preview: Preview) -> list[str]:
    shown = "" if preview.between is None else f" {preview.between[0]:g} to {preview.between[1]:g}"
    fitted = f"arguments{shown}" if shown else "the arguments that the validation rows show, and a fifth more"
    heads = (
        "degree",
        "polynomial off by",
        "decisions kept",
        "accuracy",
        "output off by",
        "lane",
        "server ms",
        "keys KiB",
        "steps of",
    )
    rows = [row for offer in preview.offers for row in _offer_rows(offer)]
    lines = [
        f"The model has activations that encrypted computation has not. Polynomials can stand for them; fitted for {fitted}:",
        "",
        table(heads, rows),
    ]
    lines += [f"degree {offer.degree} cannot be asked: {offer.refused}" for offer in preview.offers if offer.lanes is None]
    plain = next((offer.measured.plain_accuracy for offer in preview.offers if offer.measured is not None), None)
    if plain is not None:
        lines.append(f"The model as it stands is right about {plain:.2%} of the validation rows.")
    same = "--validation with the same rows" if preview.between is None else "--range with the same ends"
    lines += ["", f"Nothing is published. To choose: --approximate DEGREE, and {same}."]
    return lines


def _offer_rows(offer: Offer) -> list[tuple[str, ...]]:
    measured = offer.measured
    kept = "" if measured is None or measured.agreement is None else f"{measured.agreement:.2%}"
    right = "" if measured is None or measured.accuracy is None else f"{measured.accuracy:.2%}"
    off = "" if measured is None else f"{measured.largest_difference:.3g}"
    start = (str(offer.degree), f"{offer.fit_error:.3g}", kept, right, off)
    if offer.lanes is None:
        return [(*start, "none", "", "", "")]
    found: list[tuple[str, ...]] = []
    for lane, plan in offer.lanes.plans.items():
        said = plan.predictions
        end = (lane, f"{1000 * said.server_seconds:.1f}", f"{said.key_bytes / _KIB:.0f}", f"{plan.precision:g}")
        found.append((*(start if not found else ("",) * len(start)), *end))
    return found


def _measured_lines(measured: Measured) -> list[str]:
    lines = [f"  largest output: {measured.largest_output:.4g}"]
    if measured.largest_difference:
        lines.append(f"  largest difference from the model as it stands: {measured.largest_difference:.3g}")
    named = (
        ("decisions kept", measured.agreement),
        ("right", measured.accuracy),
        ("right, as it stands", measured.plain_accuracy),
    )
    lines += [f"  {name}: {value:.2%}" for name, value in named if value is not None]
    errors = (("error", measured.error), ("error, as it stands", measured.plain_error))
    return lines + [f"  {name} (root mean square): {value:.4g}" for name, value in errors if value is not None]


def _measured_data(measured: Measured | None) -> dict[str, Json] | None:
    if measured is None:
        return None
    return {
        "largest_output": measured.largest_output,
        "largest_difference": measured.largest_difference,
        "agreement": measured.agreement,
        "accuracy": measured.accuracy,
        "plain_accuracy": measured.plain_accuracy,
        "error": measured.error,
        "plain_error": measured.plain_error,
    }


def _offer_data(offer: Offer) -> dict[str, Json]:
    return {
        "degree": offer.degree,
        "fit_error": offer.fit_error,
        "measured": _measured_data(offer.measured),
        "lanes": None if offer.lanes is None else lanes_data(offer.lanes),
        "refused": offer.refused,
    }
