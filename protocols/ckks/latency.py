"""The latency lane's evaluator: one query through a program.

Learns: whoever runs it sees ciphertexts and public keys; the ciphertext of the answer is protected before it leaves
(`protocols.ckks.protection`). What is computed, in which order and how often, does not depend on the values of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from protocols.ckks.arithmetic import Arithmetic
from protocols.ckks.polynomials import evaluate_polynomial
from protocols.ckks.program import LinearStep, PowerStep, Program, Term
from protocols.ckks.schedule import Rescale

C = TypeVar("C")
P = TypeVar("P")
K = TypeVar("K")


def run_program(
    program: Program,
    arithmetic: Arithmetic[C, P, K],
    query: C,
    keys: K,
    *,
    diagonals: Callable[[int, int, int], P],
    constants: Callable[[int], P],
    constant: Callable[[float, int, float], P],
) -> C:
    """Returns the answer to a query, at level 0 and the plan's scale, not yet protected.

    Args:
        program: see `protocols.ckks.program`.
        arithmetic: what computes: an engine, or a rehearsal.
        query: at the program's fresh level and scale.
        keys: of the plan's manifest.
        diagonals: the encoded diagonal of a step, a term and a number.
        constants: the encoded constants of a step.
        constant: encodes one number for all slots.
    """
    found = [query]
    last_use = _last_uses(program)
    for index, step in enumerate(program.steps):
        if isinstance(step, PowerStep):
            argument = arithmetic.drop_to(found[step.source], step.start)
            result = evaluate_polynomial(
                arithmetic, argument, step.coefficients, argument_scale=step.argument_scale, scale=step.scale,
                primes=program.parameters.primes, constant=constant, keys=keys,
            )  # fmt: skip
        else:
            result = _linear(program, step, arithmetic, found, keys, index, diagonals)
            arithmetic.add_plain_inplace(result, constants(index))
        found.append(result)
        for number in last_use.get(index, ()):
            found[number] = result  # frees the ciphertext that nothing takes any more
    return found[-1]


def _last_uses(program: Program) -> Mapping[int, Sequence[int]]:
    last: dict[int, int] = {}
    for index, step in enumerate(program.steps):
        for source in (step.source,) if isinstance(step, PowerStep) else (term.source for term in step.terms):
            last[source] = index
    found: dict[int, list[int]] = {}
    for number, index in last.items():
        found.setdefault(index, []).append(number)
    return found


def _linear(
    program: Program,
    step: LinearStep,
    arithmetic: Arithmetic[C, P, K],
    found: Sequence[C],
    keys: K,
    index: int,
    diagonals: Callable[[int, int, int], P],
) -> C:
    total: C | None = None
    for position, term in enumerate(step.terms):
        source = found[term.source]
        if arithmetic.level_of(source) != term.level:
            source = arithmetic.drop_to(source, term.level)
        product = _product(program, step, term, arithmetic, source, keys, partial(diagonals, index, position))
        if total is None:
            total = product
        else:
            arithmetic.add_inplace(total, product)
    if total is None:
        raise ValueError("a linear step without terms")
    if step.rescale is Rescale.SUM:
        arithmetic.rescale(total)
        arithmetic.set_scale(total, step.scale)
    return total


def _product(
    program: Program,
    step: LinearStep,
    term: Term,
    arithmetic: Arithmetic[C, P, K],
    source: C,
    keys: K,
    diagonal: Callable[[int], P],
) -> C:
    """One matrix: babies, products, giants from the largest down, folds; see `protocols.ckks.schedule`."""

    def rotated(ciphertext: C, slots: int) -> C:
        by = slots * program.samples % program.parameters.slots
        return arithmetic.rotate(ciphertext, by, keys) if by else ciphertext

    unit = term.diagonals.unit
    scale = step.scale * program.parameters.primes[term.level] if step.rescale is Rescale.SUM else step.scale
    babies: dict[int, C] = {}
    at, baby = 0, source
    for number in term.grid.babies:
        if number != at:
            baby, at = rotated(baby, (number - at) * unit), number
        babies[number] = baby
    total: C | None = None
    before = 0
    for giant, members in term.grid.groups:
        gathered: C | None = None
        for number, which in members:
            product = arithmetic.multiply_plain(babies[number], diagonal(which))
            if gathered is None:
                gathered = product
            else:
                arithmetic.add_inplace(gathered, product)
        if gathered is None:
            continue
        if step.rescale is Rescale.GROUPS:
            arithmetic.rescale(gathered)
        arithmetic.set_scale(gathered, scale)
        if total is None:
            total = gathered
        else:
            total = rotated(total, (before - giant) * unit)
            arithmetic.add_inplace(total, gathered)
        before = giant
    if total is None:
        raise ValueError("a matrix without diagonals")
    total = rotated(total, before * unit) if before else total
    for fold in term.diagonals.folds:
        arithmetic.add_inplace(total, rotated(total, fold))
    return total
