"""`confide policy`: look at the institution's policy, and try it out before it decides anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from governance.policy.budgets import Caps
from governance.policy.release import Quorum, ReleaseClass, ReleaseTerms
from governance.policy.rules import Decision, Kind, Policy, Rule, unreachable
from parties.cli.options import PartyConfigOption
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from parties.config import load_party_config
from parties.policy_cases import decision_in_words, run_cases
from parties.policy_file import load_policy, policy_schema
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.private_training import RELATION

app = typer.Typer(help="The institution's own rules about jobs: show, test, explain.", no_args_is_help=True)


@app.command("show")
@reported
def show(*, config: PartyConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Show people, rules, budgets and what releases are asked for, as they are read from the policy file."""
    policy = load_policy(load_party_config(config).policy)
    data: dict[str, Json] = {"digest": policy.digest, "policy": json.loads(json.dumps(policy.to_document()))}
    Output(output_format).result(data, _in_words(policy))


@app.command("test")
@reported
def try_cases(
    *,
    cases: Annotated[Path, typer.Argument(metavar="CASES", help="Described jobs with expected decisions, YAML.", dir_okay=False)],
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Decide about described jobs, and compare with what is expected of each."""
    output = Output(output_format)
    policy = load_policy(load_party_config(config).policy)
    for rule, why in unreachable(policy.rules):
        output.note(f"warning: rule {rule} never decides: {why}")
    outcomes = run_cases(policy, cases)
    rows = [
        ("ok" if o.passed else "FAILED", o.name, o.expected, decision_in_words(o.decision), o.decision.rule) for o in outcomes
    ]
    data: list[Json] = [
        {
            "case": o.name,
            "expected": o.expected,
            "decision": decision_in_words(o.decision),
            "rule": o.decision.rule,
            "passed": o.passed,
        }
        for o in outcomes
    ]
    failed = [o for o in outcomes if not o.passed]
    text = table(("", "case", "expected", "decision", "rule"), rows)
    if failed:
        output.note(text)
        problems = [
            Problem(o.name, f"expected {o.expected}, decided {decision_in_words(o.decision)} by {o.decision.rule}", "")
            for o in failed
        ]
        what = f"{len(failed)} of {len(outcomes)} cases are decided otherwise than expected"
        raise ConfideError(ErrorCode.INVALID_CONFIG, what, problems=problems, remedy="Correct the policy, or the case.")
    output.result({"cases": data}, text)


@app.command("explain")
@reported
def explain(
    *,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id or its beginning, or a YAML file that describes one.")],
    config: PartyConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Say which rule decides about a job, and why the earlier ones do not."""
    from parties.approving import policy_decision

    decision = policy_decision(load_party_config(config), job)
    Output(output_format).result(describe_decision(decision), decision_explained(decision))


@app.command("schema")
@reported
def schema(*, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """Print the JSON Schema of the policy file."""
    found: dict[str, Json] = json.loads(json.dumps(policy_schema()))
    Output(output_format).result(found, json.dumps(found, indent=2))


def describe_decision(decision: Decision) -> dict[str, Json]:
    """Returns a decision for the JSON formats."""
    return {
        "decision": decision.kind.value,
        "rule": decision.rule,
        "needed": decision.needed,
        "approvers": list(decision.approvers),
        "reason": decision.reason,
        "passed_over": [{"rule": rule, "because": list(why)} for rule, why in decision.passed_over],
    }


def decision_explained(decision: Decision) -> str:
    """Returns a decision for people: each rule that was passed over with its reasons, then the one that decides."""
    lines = []
    for rule, why in decision.passed_over:
        lines += [f"{rule} does not match:", *(f"    {reason}" for reason in why)]
    words = decision_in_words(decision)
    if decision.kind is Kind.APPROVAL:
        words += f" of {', '.join(decision.approvers)}"
    lines.append(f"{decision.rule} decides: {words}" + (f" ({decision.reason})" if decision.reason else ""))
    return "\n".join(lines)


def _in_words(policy: Policy) -> str:
    people = [
        (p.id, ", ".join(sorted(role.value for role in p.roles)), p.member or "", p.key.fingerprint[:16]) for p in policy.people
    ]
    rules = [(rule.name, _match(rule), _verdict(rule), rule.reason) for rule in (*policy.rules, policy.otherwise)]
    budgets = policy.budgets
    caps = [
        *budgets.datasets.items(),
        ("every other data set", budgets.default),
        *((f"model {n}", c) for n, c in budgets.models.items()),
        ("every other model", budgets.default_model),
        *((f"a model for {n}", c) for n, c in budgets.consumers.items()),
        ("a model for every other researcher", budgets.default_consumer),
    ]
    return "\n".join(
        [
            f"policy {policy.digest}",
            "",
            table(("person", "roles", "researcher", "key"), people) if people else "nobody acts for this institution yet",
            "",
            table(("rule", "match", "decision", "reason"), rules),
            "",
            table(
                ("budget of", "queries", "answers", "epsilon", "delta"),
                [(name, *_caps(each)) for name, each in caps],
            ),
            "",
            _release(policy.release),
        ]
    )


def _caps(caps: Caps) -> tuple[str, ...]:
    queries, answers, epsilon, delta = caps.in_words
    beside = f"; beside it {', '.join(caps.permits)} without noise" if caps.permits else ""
    return queries, answers, epsilon + beside, delta


def _release(terms: ReleaseTerms | None) -> str:
    if terms is None:
        return "nothing is released: the policy has no block `release`"
    rows = [
        (
            name,
            _guarantee(each),
            _figures(each),
            f"{each.max_age_days} days",
            _quorum(each.approvals),
            _quorum(each.more_approvals),
        )
        for name, each in terms.classes.items()
    ]
    named = [f"{dataset} {name}" for dataset, name in terms.datasets.items()]
    return "\n".join(
        [
            table(("releases, class", "guarantee", "figures", "reports last", "approved by", "if something is worse"), rows),
            f"class of data sets: {', '.join([*named, f'every other {terms.default_class}'])}",
        ]
    )


def _guarantee(asked: ReleaseClass) -> str:
    """Returns what is asked of the trainings behind a version: relation and unit stand beside the limit of epsilon."""
    limits = [
        f"{name} at most {limit:f}"
        for name, limit in (("epsilon", asked.max_epsilon), ("delta", asked.max_delta))
        if limit is not None
    ]
    unit = f"{RELATION}, {asked.unit.value.replace('_', ' ')} at least"
    if asked.requires_guarantee:
        return ", ".join(["needed", *limits, unit])
    return ", ".join(["not needed", *limits, *([unit] if limits else [])])


def _figures(asked: ReleaseClass) -> str:
    limits = [f"{name} at most {limit:f}" for name, limit in asked.max_figures.items()]
    limits += [f"{name} at least {limit:f}" for name, limit in asked.min_figures.items()]
    limits += [f"{asked.shadows_asked} shadows at least"] if asked.shadows_asked else []
    limits += [f"audits by {asked.min_canaries} canaries of each owner"] if asked.min_canaries else []
    limits += ["an evaluation"] if asked.requires_utility else []
    return ", ".join(limits) or "any"


def _quorum(quorum: Quorum | None) -> str:
    return "nobody" if quorum is None else f"{quorum.needed} of {', '.join(quorum.of)}"


def _match(rule: Rule) -> str:
    return "; ".join(f"{c.name} {', '.join(c.among) or c.bound}" for c in rule.conditions) or "everything"


def _verdict(rule: Rule) -> str:
    verdict = rule.verdict
    if verdict.kind is Kind.APPROVAL:
        return f"approve by {verdict.needed} of {', '.join(verdict.of)}"
    return "automatic" if verdict.kind is Kind.AUTOMATIC else "refuse"
