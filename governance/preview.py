"""The preview of a job at one party: what leaves the site, what comes in, what it costs, who learns what.

Approvers read it before they sign, and so may the querier; afterwards what was measured is set beside it. Everything in it is
public and follows from the job, its plan and the directory; times, memory and disk are estimates and stand outside any digest
that parties compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from governance.consent.limits import ABOUT_ROWS
from governance.identity.directory import Directory
from governance.identity.fields import Fields, fields_of, finish
from governance.prepared_with import preparations_in_words
from governance.preview_flows import Flow, receives, sends
from governance.preview_learns import who_learns_what
from privacy.accounting.noisy_answers import spent_in_words
from privacy.accounting.statement import privacy_in_words
from protocols.canonical import Document, canonical_bytes, parse_canonical
from protocols.errors import ConfideError, Problem
from protocols.job import MAX_DATASETS, MAX_OUTPUTS, Job, Output, OutputKind
from protocols.job_parts import MAX_PREPARATIONS, SUMMARISED
from protocols.loss_bounds import LOSSES
from protocols.plan.estimate import Estimate
from protocols.plan.plan import Plan

FORMAT = "confide.preview/5"
WITHOUT_NOISE = "none: opened without noise"
NOTHING_OPENED = "0: nothing is opened"
MAX_GRANTS = 64
MAX_NUMBERS = 8
MAX_BUDGETS = 1_024
_MAX_PEERS = 128
_MAX_WORDS = 512
_NAMES = {
    "format", "party", "job", "job_digest", "plan_digest", "type", "purpose", "querier", "institution", "agreement",
    "agreement_digest", "grants", "roles", "sends", "receives", "rounds", "seconds", "memory_bytes", "disk_bytes", "epsilon",
    "outputs", "learns", "model", "retention", "numbers", "budgets", "prepared_with",
}  # fmt: skip
_FLOW_NAMES = {"peer", "rows", "openings", "corrections", "signals", "noise", "outputs"}
_OUTPUT_NAMES = {"name", "kind", "recipient", "shape", "constraint"}
_LEARNS_NAMES = {"who", "what"}


@dataclass(frozen=True)
class PreviewedOutput:
    """What is opened: its name, kind, recipient, shape, and the constraint that is computed on shares before, in words."""

    name: str
    kind: str
    recipient: str
    shape: tuple[int, ...]
    constraint: str


@dataclass(frozen=True)
class Preview:
    """See the module; everything is public.

    Attributes:
        party: at which this is the preview.
        job: id of the job.
        job_digest: of the job, 64 hexadecimal digits.
        plan_digest: of the plan, likewise.
        job_type: `train`, `evaluate`, `summarise`, `infer` or `serve`.
        purpose: of the job.
        querier: who asks.
        institution: to which the querier belongs; empty if to none.
        agreement: name of the agreement; empty if it is unknown here.
        agreement_digest: its digest.
        grants: ids of this party's grants that the job uses.
        roles: of this party in the job.
        sends: what leaves this site.
        receives: what comes in.
        rounds: of communication.
        seconds: estimated, whole, rounded up.
        memory_bytes: estimated, of this party's worker.
        disk_bytes: estimated, of what is sealed here.
        epsilon: in words.
        outputs: what is opened, to whom.
        learns: who learns what.
        model: the model that the job leaves behind, `name@version`; empty if none.
        retention: what stays at this site for how long, in words.
        numbers: how numbers are held, and what is not proven to stay within its limit, in words.
        budgets: what this party's accounts would stand at with the job, in words; empty where others than its people read this.
        prepared_with: of a training: the jobs whose outcomes go into it before its first step, in words.
    """

    party: str
    job: str
    job_digest: str
    plan_digest: str
    job_type: str
    purpose: str
    querier: str
    institution: str
    agreement: str
    agreement_digest: str
    grants: tuple[str, ...]
    roles: tuple[str, ...]
    sends: tuple[Flow, ...]
    receives: tuple[Flow, ...]
    rounds: int
    seconds: int
    memory_bytes: int
    disk_bytes: int
    epsilon: str
    outputs: tuple[PreviewedOutput, ...]
    learns: tuple[tuple[str, str], ...]
    model: str
    retention: str
    numbers: tuple[str, ...]
    budgets: tuple[str, ...]
    prepared_with: tuple[str, ...]

    def to_document(self) -> Document:
        """Returns the preview as a document."""
        document = {name: value for name, value in vars(self).items() if name != "job_type"}
        return document | {
            "format": FORMAT,
            "type": self.job_type,
            "grants": list(self.grants),
            "roles": list(self.roles),
            "sends": [vars(flow) for flow in self.sends],
            "receives": [vars(flow) for flow in self.receives],
            "outputs": [{**vars(output), "shape": list(output.shape)} for output in self.outputs],
            "learns": [{"who": who, "what": what} for who, what in self.learns],
            "numbers": list(self.numbers),
            "budgets": list(self.budgets),
            "prepared_with": list(self.prepared_with),
        }

    def to_bytes(self) -> bytes:
        """Returns the canonical bytes."""
        return canonical_bytes(self.to_document())

    @staticmethod
    def from_bytes(data: bytes) -> Preview:
        """Reads a preview strictly, all problems at once.

        Raises:
            ConfideError: INVALID_DOCUMENT (the sender's fault).
        """
        return _read(parse_canonical(data))


def make_preview(
    job: Job,
    plan: Plan,
    cost: Estimate,
    *,
    party: str,
    directory: Directory,
    agreement: str,
    grants: Iterable[str],
    ranges: Iterable[str],
    budgets: Iterable[str],
) -> Preview:
    """Makes the preview of a job at a party.

    Args:
        job: the job.
        plan: that follows from it.
        cost: the estimate that stands beside the plan.
        party: a participant.
        directory: who belongs to the consortium.
        agreement: name of the agreement; empty if it is unknown here.
        grants: ids of the party's grants that the job uses.
        ranges: what is known of the limits of numbers, in words.
        budgets: what the party's accounts would stand at with the job, in words, for its own people.
    """
    computes = party in job.computing_parties
    return Preview(
        party=party,
        job=job.job_id,
        job_digest=job.digest,
        plan_digest=plan.digest,
        job_type=job.job_type.value,
        purpose=job.purpose,
        querier=job.querier,
        institution=_institution(job, directory),
        agreement=agreement,
        agreement_digest=job.agreement,
        grants=tuple(grants),
        roles=_roles(job, party),
        sends=tuple(sends(job, plan, party)),
        receives=tuple(receives(job, plan, party)),
        rounds=plan.rounds if computes else 0,
        seconds=math.ceil(cost.seconds),
        memory_bytes=cost.memory_bytes,
        disk_bytes=_disk_bytes(job, plan) if computes else 0,
        epsilon=epsilon_in_words(job),
        outputs=tuple(_output(job, plan, output) for output in job.outputs),
        learns=tuple(who_learns_what(job, plan)),
        model="" if job.produced_model is None else job.produced_model.label,
        retention=_retention(job, computes),
        numbers=(_numbers(plan), *ranges),
        budgets=tuple(budgets),
        prepared_with=preparations_in_words(job),
    )


def constraint_in_words(output: Output) -> str:
    """Returns the constraint of an output that is computed on shares before it is opened."""
    words = []
    if output.kind is OutputKind.LABEL:
        words.append("the class only")
    if output.kind is OutputKind.ATTACK_COUNTS:
        words.append(f"counts in steps of at least {output.min_cell} rows, of members and of others")
    elif output.kind is OutputKind.MOMENTS:
        words.append(f"sums of each feature and of its square over all rows, {output.min_cell} or more")
    elif output.kind in SUMMARISED and output.has_noise:
        told = "sums and sizes of groups" if output.kind is OutputKind.GROUP_MEANS else "means and sizes of clusters"
        words.append(f"{told}; none with a noisy size below {output.min_cell}")
    elif output.kind in SUMMARISED:
        words.append(f"no group of fewer than {output.min_cell} rows; exact means of the others")
    elif output.kind is OutputKind.MEAN:
        words.append(f"the mean over the query's samples only, of at least {output.min_cell}")
    elif output.kind is OutputKind.WEIGHTS:
        words.append("every parameter of the model, for good")
    elif output.kind in LOSSES and output.has_noise:
        what = "loss" if output.kind is OutputKind.LOG_LOSS else "error"
        words.append(f"the sum over all rows, none of whose {what} counts for more than {output.bound}")
    elif output.min_cell and output.has_noise:
        words.append(f"no count that is below {output.min_cell} with its noise" if output.min_cell > 1 else "all counts")
    elif output.min_cell:
        words.append(f"nothing about fewer than {output.min_cell} rows")
    if output.group_by:
        words.append(f"by {output.group_by}, scaled to [-1, 1], split at {', '.join(output.group_edges)}")
    elif output.group_edges:
        edges = output.group_edges
        words.append(f"rows of either class by the probability, split at {len(edges)} points from {edges[0]} to {edges[-1]}")
    if output.top_k:
        words.append(f"the {output.top_k} most probable class(es) only")
    if output.decimals is not None:
        words.append(f"rounded to {output.decimals} decimal(s)")
    if output.clip.strip("0."):
        words.append(f"clipped to [{output.clip}, 1 - {output.clip}]")
    if output.has_noise:
        whose = " of the rows' owners" if output.kind in ABOUT_ROWS else ""
        words.append(f"noise{whose} of deviation {output.noise} on each number, against {output.noise_colluders} who pool")
    if output.rows_per_person > 1:
        words.append(f"which hides {output.rows_per_person} rows of one person together")
    if output.abstain_below != "0":
        words.append(f"no answer for samples below {output.abstain_below}")
    if output.abstain_beyond != "0":
        words.append(f"no answer for samples farther than {output.abstain_beyond} from the middle of their ranges")
    return "; ".join(words) or "none"


def epsilon_in_words(job: Job) -> str:
    """Returns what a job spends of anybody's privacy, for people: delta, and for whom it holds, stand beside every epsilon."""
    if job.training is not None:
        return privacy_in_words(job)
    return (spent_in_words(job) or WITHOUT_NOISE) if job.outputs else NOTHING_OPENED


def _numbers(plan: Plan) -> str:
    held = plan.numbers
    return (
        f"values have {held.value_bits} fractional bits and stay below 2^{held.value_limit_bits}, parameters have "
        f"{held.parameter_bits} and stay below 2^{held.parameter_limit_bits}"
    )


def _roles(job: Job, party: str) -> tuple[str, ...]:
    roles = {
        "data owner": party in {dataset.party for dataset in job.datasets},
        "computing party": party in job.computing_parties,
        "lead": party == job.lead,
        "dealer": party == job.dealer,
    }
    return tuple(role for role, held in roles.items() if held)


def _disk_bytes(job: Job, plan: Plan) -> int:
    results = sum(result.num_bytes for result in plan.results)
    if job.training is None or job.training.privacy is not None:
        return results
    # Two checkpoints, each of parameters and at most two tensors of optimiser state for each of them, beside the model.
    return results + 2 * 3 * sum(item.num_bytes for item in plan.model)


def _output(job: Job, plan: Plan, output: Output) -> PreviewedOutput:
    shape = next((planned.shape for planned in plan.outputs if planned.name == output.name), ())
    return PreviewedOutput(output.name, output.kind.value, output.recipient, shape, constraint_in_words(output))


def _retention(job: Job, computes: bool) -> str:
    if not computes:
        return "the job's documents and their entries in the audit log; no shares"
    if job.produced_model is not None:
        kept = "its share of the model until the model is deleted"
        plain = job.training is not None and job.training.privacy is None
        return f"{kept}; checkpoints until the training completes, 7 days at most" if plain else kept
    if job.serving is not None:
        return "no shares: each answer leaves at once, and with the session its keys, masks and opened values are erased"
    return "its shares of the outputs, sealed; each is handed out once"


def _institution(job: Job, directory: Directory) -> str:
    try:
        return directory.researcher(job.querier).institution or ""
    except ConfideError:  # not enrolled: the admission refuses the job
        return ""


def _read(document: Document) -> Preview:
    problems: list[Problem] = []
    fields = fields_of(document, names=_NAMES, form=FORMAT, problems=problems)
    preview = Preview(
        party=fields.text("party"),
        job=fields.text("job"),
        job_digest=fields.text("job_digest"),
        plan_digest=fields.text("plan_digest"),
        job_type=fields.text("type"),
        purpose=fields.text("purpose"),
        querier=fields.text("querier"),
        institution=fields.text("institution"),
        agreement=fields.text("agreement"),
        agreement_digest=fields.text("agreement_digest"),
        grants=_texts(fields, "grants", MAX_GRANTS, problems),
        roles=_texts(fields, "roles", 8, problems),
        sends=tuple(_read_flows(fields, "sends", problems)),
        receives=tuple(_read_flows(fields, "receives", problems)),
        rounds=fields.whole("rounds", least=0),
        seconds=fields.whole("seconds", least=0),
        memory_bytes=fields.whole("memory_bytes", least=0),
        disk_bytes=fields.whole("disk_bytes", least=0),
        epsilon=fields.text("epsilon", most=_MAX_WORDS),
        outputs=tuple(_read_outputs(fields, problems)),
        learns=tuple(_read_learns(fields, problems)),
        model=fields.text("model"),
        retention=fields.text("retention", most=_MAX_WORDS),
        numbers=_texts(fields, "numbers", MAX_NUMBERS, problems),
        budgets=_texts(fields, "budgets", MAX_BUDGETS, problems),
        prepared_with=_texts(fields, "prepared_with", MAX_PREPARATIONS, problems),
    )
    finish(problems, what="the preview")
    return preview


def _texts(fields: Fields, name: str, most: int, problems: list[Problem]) -> tuple[str, ...]:
    found = fields.items(name, most=most)
    if not all(isinstance(value, str) and len(value) <= _MAX_WORDS for value in found):
        problems.append(Problem(name, "a list of short texts is expected", "ask its author"))
    return tuple(str(value) for value in found)


def _read_flows(fields: Fields, name: str, problems: list[Problem]) -> Iterable[Flow]:
    for number, entry in enumerate(fields.items(name, most=_MAX_PEERS)):
        flow = Fields(entry, names=_FLOW_NAMES, where=f"{name}.{number}", problems=problems)
        parts = ("rows", "openings", "corrections", "signals", "noise", "outputs")
        yield Flow(flow.text("peer"), *(flow.whole(part, least=0) for part in parts))


def _read_outputs(fields: Fields, problems: list[Problem]) -> Iterable[PreviewedOutput]:
    for number, entry in enumerate(fields.items("outputs", most=MAX_OUTPUTS)):
        where = f"outputs.{number}"
        output = Fields(entry, names=_OUTPUT_NAMES, where=where, problems=problems)
        shape = output.items("shape", most=8)
        if not all(type(size) is int and size >= 0 for size in shape):
            problems.append(Problem(f"{where}.shape", "a list of whole numbers is expected", "ask its author"))
        sizes = tuple(size for size in shape if isinstance(size, int))
        words = output.text("constraint", most=_MAX_WORDS)
        yield PreviewedOutput(output.text("name"), output.text("kind"), output.text("recipient"), sizes, words)


def _read_learns(fields: Fields, problems: list[Problem]) -> Iterable[tuple[str, str]]:
    for number, entry in enumerate(fields.items("learns", most=MAX_DATASETS)):
        line = Fields(entry, names=_LEARNS_NAMES, where=f"learns.{number}", problems=problems)
        yield line.text("who", most=64 * _MAX_WORDS), line.text("what", most=_MAX_WORDS)
