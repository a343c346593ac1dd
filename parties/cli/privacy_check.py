"""`confide privacy check`: the gate on evidence, for pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli.evidence import decision_data, decision_text
from parties.cli.options import FounderOption, now
from parties.cli.output import FormatOption, Output, OutputFormat, reported
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from governance.evidence.gate import Decision

PASSED, BLOCKED, NEEDS_OFFICER = 0, 1, 2


@reported
def check(
    *,
    target: Annotated[str, typer.Argument(metavar="BUNDLE-OR-MODEL", help="A signed bundle, or name@version at a party.")],
    config: Annotated[Path | None, typer.Option("--config", help="The institution's party.yaml.", dir_okay=False)] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Its thresholds; else the institution's own.", dir_okay=False)
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", help="The signed directory, where there is no party.yaml.", dir_okay=False)
    ] = None,
    founder_fingerprint: FounderOption = None,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="Of a file: the bundle of the last release.", dir_okay=False)
    ] = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Say whether a model version may be released: exit code 0 is yes, 2 if people must approve, 1 if not, with all reasons.

    A version is judged by the party's records and its people's approvals; a file by what it says alone.
    """
    output = Output(output_format)
    try:
        found = _decide(target, config, policy, directory, founder_fingerprint, previous)
    except ConfideError as error:  # what cannot be judged does not pass, whatever its code
        output.error(error)
        raise typer.Exit(BLOCKED) from None
    from governance.evidence.gate import Verdict

    output.result(decision_data(found), decision_text(found))
    raise typer.Exit({Verdict.PASS: PASSED, Verdict.NEEDS_OFFICER: NEEDS_OFFICER, Verdict.BLOCKED: BLOCKED}[found.verdict])


def _decide(
    target: str,
    config: Path | None,
    policy: Path | None,
    directory: Path | None,
    founder_fingerprint: str | None,
    previous: Path | None,
) -> Decision:
    from governance.documents import SignedDocument
    from governance.identity.directory import read_directory
    from governance.identity.names import parse_fingerprint
    from parties.agreements import load_member
    from parties.config import load_party_config
    from parties.evidence import judge_evidence, judge_file
    from parties.models import read_label
    from parties.own_assessing import judge_own_evidence
    from parties.policy_file import load_policy
    from parties.storage.files import read_public
    from protocols.canonical import MAX_DOCUMENT_BYTES

    party = None if config is None else load_party_config(config)
    terms = None if policy is None else load_policy(policy)
    file = Path(target)
    if not file.exists():
        if party is None:
            what = f"{target[:130]} is no file, and without a party there are no model versions"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name a signed bundle, or add --config.")
        if "@" not in target:
            what = f"{target[:130]} is no file, and no name@version of a model"
            remedy = "Name a signed bundle, or a version of `confide model list`."
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
        ref = read_label(target)
        own = judge_own_evidence(party, ref, policy=terms, now=now())
        return judge_evidence(party, ref, policy=terms, now=now()).decision if own is None else own.decision
    if terms is None:
        if party is None:
            what = "nothing says what a release must keep to"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Add --policy, or --config.")
        terms = load_policy(party.policy)
    if party is not None:
        known = load_member(party, now()).directory
    elif directory is not None and founder_fingerprint is not None:
        signed = SignedDocument.from_bytes(read_public(directory, max_bytes=MAX_DOCUMENT_BYTES))
        known = read_directory(signed, founder_fingerprint=parse_fingerprint(founder_fingerprint))
    else:
        what = "nothing says whose signatures are to be believed"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Add --directory and --founder-fingerprint, or --config.")
    whose = "the policy" if party is None else party.party
    return judge_file(file, policy=terms, party=whose, directory=known, previous=previous, now=now())
