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
    from governance.documents import DocumentKind, SignedDocument
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
        found, is_own = _decide(target, config, policy, directory, founder_fingerprint, previous)
    except ConfideError as error:  # what cannot be judged does not pass, whatever its code
        output.error(error)
        raise typer.Exit(BLOCKED) from None
    from governance.evidence.gate import Verdict
    from parties.own_evidence import own_remedy

    remedy = own_remedy if is_own else None
    output.result(decision_data(found, remedy), decision_text(found, remedy))
    raise typer.Exit({Verdict.PASS: PASSED, Verdict.NEEDS_OFFICER: NEEDS_OFFICER, Verdict.BLOCKED: BLOCKED}[found.verdict])


def _decide(
    target: str,
    config: Path | None,
    policy: Path | None,
    directory: Path | None,
    founder_fingerprint: str | None,
    previous: Path | None,
) -> tuple[Decision, bool]:
    """What the gate says, and whether it is about a model of an institution's own."""
    from governance.documents import DocumentKind
    from governance.evidence.bundle import EvidenceBundle
    from governance.identity.directory import read_directory
    from governance.identity.names import parse_fingerprint
    from parties.agreements import load_member
    from parties.config import load_party_config
    from parties.evidence import judge_alone, judge_evidence
    from parties.models import read_label
    from parties.own_assessing import judge_own_evidence
    from parties.policy_file import load_policy

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
        return (judge_evidence(party, ref, policy=terms, now=now()).decision, False) if own is None else (own.decision, True)
    if terms is None:
        if party is None:
            what = "nothing says what a release must keep to"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Add --policy, or --config.")
        terms = load_policy(party.policy)
    if party is not None:
        known = load_member(party, now()).directory
    elif directory is not None and founder_fingerprint is not None:
        listed = _signed(directory, DocumentKind.DIRECTORY)
        known = read_directory(listed, founder_fingerprint=parse_fingerprint(founder_fingerprint))
    else:
        what = "nothing says whose signatures are to be believed"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Add --directory and --founder-fingerprint, or --config.")
    bundle = _signed(file, DocumentKind.EVIDENCE)
    before = None if previous is None else _signed(previous, DocumentKind.EVIDENCE)
    whose = "this pipeline" if party is None else party.party
    found = judge_alone(bundle, policy=terms, party=whose, directory=known, previous=before, now=now())
    return found, found.ref is not None and EvidenceBundle.from_bytes(bundle.body).own is not None


def _signed(file: Path, kind: DocumentKind) -> SignedDocument:
    """Reads a signed document of one kind; another one, or none, is refused by the name of its file."""
    from governance.documents import DocumentKind, SignedDocument
    from parties.evidence import MAX_FILE_BYTES
    from parties.storage.files import read_public

    wanted = {
        DocumentKind.EVIDENCE: ("bundle of evidence", "Name what `confide model evidence make --out` wrote."),
        DocumentKind.DIRECTORY: ("directory", "Name what `confide consortium publish --out` wrote."),
    }
    what, remedy = wanted[kind]
    body = read_public(file, max_bytes=MAX_FILE_BYTES)
    try:
        signed = SignedDocument.from_bytes(body)
    except ConfideError as error:
        raise ConfideError(error.code, f"{file} is no signed {what}: {error.what}", remedy=remedy) from None
    if signed.kind is not kind:
        held = signed.kind.value.replace("-", " ")
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{file} holds a signed {held}, and no {what}", remedy=remedy)
    return signed
