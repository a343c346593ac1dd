"""Between the planner's choices and the steps that a plan records of them."""

from __future__ import annotations

from protocols.ckks.layouts import Layout, LayoutMisfit
from protocols.ckks.network import Affine, Network
from protocols.ckks.planning import EncryptedPlan, PlannedStep
from protocols.ckks.program import Choices, LinearStep, Program, make_layout, node_levels
from protocols.ckks.schedule import Rescale
from protocols.errors import ConfideError, ErrorCode

_INPUT = "input"


def recorded(program: Program, base_scale: float) -> tuple[PlannedStep, ...]:
    """Returns the steps of a plan: the input's, whose scale stands for the base of all scales, then one per node."""
    first = program.input_layout
    steps = [PlannedStep(_INPUT, _INPUT, program.fresh_level, base_scale, first.kind, first.stretch, first.period, (), "")]
    for step in program.steps:
        layout = step.layout
        if isinstance(step, LinearStep):
            kind, splits, rescale = "linear", tuple(term.grid.split for term in step.terms), step.rescale.value
        else:
            kind, splits, rescale = "polynomial", (), ""
        where = (layout.kind, layout.stretch, layout.period)
        steps.append(PlannedStep(step.name, kind, step.level, step.scale, *where, splits, rescale))
    return tuple(steps)


def choices_of(plan: EncryptedPlan, network: Network) -> Choices:
    """Returns the choices that a plan records.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): the steps are not those of this architecture.
    """
    try:
        levels = node_levels(network)
        if [step.level for step in plan.steps] != levels:
            raise ValueError("other levels")
        layouts: list[Layout | None] = []
        splits: dict[int, tuple[int, ...]] = {}
        rescales: dict[int, Rescale] = {}
        for number, step in enumerate(plan.steps):
            node = network.nodes[number - 1] if number else None
            if number and not isinstance(node, Affine):
                layouts.append(None)
                continue
            layouts.append(make_layout(step.order, network, number, stretch=step.stretch, period=step.period))
            if isinstance(node, Affine):
                if len(step.splits) != len(node.terms) or min(step.splits) < 1:
                    raise ValueError("other terms")
                splits[number], rescales[number] = step.splits, Rescale(step.rescale)
                if (rescales[number] is Rescale.NOTHING) != (number == len(network.nodes)):
                    raise ValueError("all but the last linear step are rescaled")
    except (LayoutMisfit, ValueError) as error:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"the plan's steps are not those of the model: {error}") from error
    return Choices(plan.parameters, plan.samples, tuple(layouts), splits, rescales, plan.steps[0].scale, plan.answer_scale)
