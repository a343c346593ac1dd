"""`confide infer`: a researcher asks a model, one that is held as shares or one that its owner has published for ciphertexts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.cli import serve
from parties.cli.default_command import DefaultCommandGroup
from parties.cli.infer_bars import bars
from parties.cli.opened_client import opened_client
from parties.cli.options import ResearcherConfigOption, now
from parties.cli.output import FormatOption, Json, Output, OutputFormat, reported, table
from protocols.errors import ConfideError, ErrorCode
from protocols.job import TIME_FORMAT

if TYPE_CHECKING:
    from parties.client.client import Client
    from parties.client.encrypted.answers import EncryptedAnswers
    from parties.client.encrypted.local_keys import KeyFiles, StoredKey
    from parties.client.encrypted.pending_files import PendingRequests
    from parties.client.encrypted.unlocking import Unlock

KEYS_FOLDER, REQUESTS_FOLDER = "query-keys", "encrypted-requests"
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="name@version of a published model; its name, if one has it.")
]
SamplesArgument = Annotated[
    Path, typer.Argument(metavar="SAMPLES", help="Your samples, CSV with the model's columns.", dir_okay=False)
]
KeyNameOption = Annotated[str, typer.Option("--key", help="Name of a key that `keygen` made.")]
LaneOption = Annotated[
    str | None, typer.Option("--lane", help="latency, packed or batch; else the one that is predicted to be done first.")
]
OutOption = Annotated[Path, typer.Option("--out", help="The answers, CSV; only you may read it.", dir_okay=False)]
IdOption = Annotated[str | None, typer.Option("--id", help="A column that names rows: it stays here and stands in the answers.")]
AgreementOption = Annotated[str | None, typer.Option("--agreement", help="Name or digest; else the one that permits it.")]
PurposeOption = Annotated[str | None, typer.Option("--purpose", help="One of the agreement's; else its only one.")]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="A file of mode 0600 whose first line is the key's passphrase; else you are asked."),
]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="A file of 32 random bytes that opens the key; `keygen` makes it if missing.")
]
app = typer.Typer(
    cls=DefaultCommandGroup,
    help="Ask a model about your samples: held as shares, or published by its owner for encrypted queries.",
    no_args_is_help=True,
)
app.command("shared")(serve.infer)


@app.command("models")
@reported
def models(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List the models that parties have published for encrypted queries, with what a query takes in each lane."""
    with opened_client(config) as client:
        found = client.all_published()
    output = Output(output_format)
    for party, what in found.unheard.items():
        output.note(f"{party} could not be asked: {what}")
    listed: list[Json] = [dict(zip(found.heads, entry.cells(), strict=True)) for entry in found]
    output.result({"models": listed, "unheard": dict(found.unheard)}, found.table())


@app.command("keygen")
@reported
def keygen(
    *,
    model: ModelArgument,
    name: Annotated[str, typer.Option("--name", help="The key's name: lower-case letters, digits, hyphens.")],
    lane: Annotated[str, typer.Option("--lane", help="For which lane of the model: latency, packed or batch.")],
    config: ResearcherConfigOption,
    passphrase_file: PassphraseOption = None,
    key_file: KeyFileOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Make a key for one lane of a published model; the secret key never leaves its file here."""
    from parties.client.encrypted.keys import make_key, most_opened
    from parties.client.encrypted.published import find_published

    with opened_client(config) as client:
        found = find_published(client, model)
        plan = found.plan(lane)
        unlock = _unlock(passphrase_file, key_file, new=True)
        key = make_key(found.published, lane, plan, now=now(), name=name)
        stored = _keys(client).store(key, found, unlock)
    size = len(key.message)
    text = (
        f"key {name} for {found.label}, lane {lane}: {size:,} bytes to upload, once; expires {stored.expires:{TIME_FORMAT}};"
        f" opens {most_opened(plan):,} answers at most"
    )
    Output(output_format).result({**_describe_key(stored), "upload_bytes": size, "most_opened": most_opened(plan)}, text)


@app.command("keys")
@reported
def keys(*, config: ResearcherConfigOption, output_format: FormatOption = OutputFormat.TEXT) -> None:
    """List your keys."""
    output = Output(output_format)
    found: list[StoredKey] = []
    with opened_client(config) as client:
        files = _keys(client)
        for name in files.names():
            try:
                found.append(files.about(name))
            except ConfideError as error:  # the others are listed all the same
                output.note(f"{error.what}; `confide infer forget {name}` removes it")
    rows = [(each.name, each.model, each.lane, each.means.value, each.expires.strftime(TIME_FORMAT)) for each in found]
    text = table(("key", "model", "lane", "opens with", "expires"), rows)
    listed: list[Json] = [_describe_key(each) for each in found]
    output.result({"keys": listed}, text)


@app.command("forget")
@reported
def forget(
    *,
    name: Annotated[str, typer.Argument(metavar="KEY", help="The key's name.")],
    config: ResearcherConfigOption,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Remove a key; answers that were not opened cannot be opened any more."""
    with opened_client(config) as client:
        _keys(client).remove(name)
    Output(output_format).result({"key": name}, f"key {name} is removed")


@app.command("run")
@reported
def run(
    *,
    model: ModelArgument,
    samples: SamplesArgument,
    out: OutOption,
    config: ResearcherConfigOption,
    lane: LaneOption = None,
    key_name: Annotated[str | None, typer.Option("--key", help="A key that `keygen` made; else one for this command.")] = None,
    id_column: IdOption = None,
    agreement: AgreementOption = None,
    purpose: PurposeOption = None,
    passphrase_file: PassphraseOption = None,
    key_file: KeyFileOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Ask a published model about samples that nobody else sees, and wait for the answers."""
    from parties.client.encrypted.enquiring import Permission
    from parties.client.encrypted.evaluator import RemoteEvaluator
    from parties.client.encrypted.inference import ask_request, prepare_request
    from parties.client.encrypted.published import find_published
    from parties.client.encrypted.sample_files import read_samples, require_place, write_answers

    output = Output(output_format)
    require_place(out)
    with opened_client(config) as client:
        found = find_published(client, model)
        file = read_samples(samples, found, id_column=id_column)
        stored = None if key_name is None else _matching(_keys(client).about(key_name), lane)
        request = prepare_request(client, found, file.values, lane=lane if stored is None else stored.lane)
        output.note(request.choice.in_words())
        evaluator, permission = RemoteEvaluator(client.calls, found.published.issuer), Permission(agreement, purpose)
        with bars() as tell:
            if stored is None:
                answers = ask_request(client, evaluator, request, permission, key=None, tell=tell)
            else:
                with _keys(client).opened(stored.name, found, _unlock(passphrase_file, key_file)) as key:
                    answers = ask_request(client, evaluator, request, permission, key=key, tell=tell)
    write_answers(out, answers, decimals=found.published.decimals, id_column=id_column, ids=file.ids)
    output.result(_describe_answers(answers, out), _in_words(answers, out))


@app.command("submit")
@reported
def submit(
    *,
    model: ModelArgument,
    samples: SamplesArgument,
    key_name: KeyNameOption,
    config: ResearcherConfigOption,
    name: Annotated[
        str | None, typer.Option("--id", help="An id of yours; the same command with it goes on where it was cut off.")
    ] = None,
    agreement: AgreementOption = None,
    purpose: PurposeOption = None,
    passphrase_file: PassphraseOption = None,
    key_file: KeyFileOption = None,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Send encrypted queries whose answers are kept until `fetch`, 15 minutes at most; prints the enquiry's id."""
    from parties.client.encrypted.enquiring import Permission
    from parties.client.encrypted.evaluator import RemoteEvaluator
    from parties.client.encrypted.inference import prepare_request
    from parties.client.encrypted.pending import submit_request
    from parties.client.encrypted.published import find_published
    from parties.client.encrypted.sample_files import read_samples

    output = Output(output_format)
    with opened_client(config) as client:
        found = find_published(client, model)
        values = read_samples(samples, found).values
        request = prepare_request(client, found, values, lane=_keys(client).about(key_name).lane)
        output.note(request.choice.in_words())
        evaluator, permission = RemoteEvaluator(client.calls, found.published.issuer), Permission(agreement, purpose)
        with _keys(client).opened(key_name, found, _unlock(passphrase_file, key_file)) as key, bars() as tell:
            kept = _requests(client)
            pending = submit_request(client, evaluator, request, permission, kept, key=key, name=name or "", tell=tell)
    enquiry = pending.enquiry
    data: dict[str, Json] = {"enquiry": enquiry.enquiry_id, "model": found.label, "requests": len(pending.requests)}
    output.result({**data, "numbers": enquiry.max_answers}, enquiry.enquiry_id)


@app.command("fetch")
@reported
def fetch(
    *,
    enquiry: Annotated[
        str, typer.Argument(metavar="ENQUIRY", help="Its id, as `submit` printed it, its beginning, or your own.")
    ],
    out: OutOption,
    config: ResearcherConfigOption,
    passphrase_file: PassphraseOption = None,
    key_file: KeyFileOption = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for what is being computed.")] = 60.0,
    output_format: FormatOption = OutputFormat.TEXT,
) -> None:
    """Fetch the answers of `submit`, open them here and write them."""
    from parties.client.encrypted.evaluator import RemoteEvaluator
    from parties.client.encrypted.pending import fetch_request
    from parties.client.encrypted.sample_files import require_place, write_answers

    require_place(out)
    with opened_client(config) as client:
        kept = _requests(client)
        pending = kept.find(enquiry)
        evaluator = RemoteEvaluator(client.calls, pending.enquiry.evaluator)
        with _keys(client).opened(pending.key, pending.model, _unlock(passphrase_file, key_file)) as key, bars() as tell:
            answers = fetch_request(evaluator, pending, kept, key=key, timeout_s=timeout_s, tell=tell)
        write_answers(out, answers, decimals=pending.model.published.decimals)
        kept.remove(pending.enquiry.enquiry_id)
    Output(output_format).result(_describe_answers(answers, out), _in_words(answers, out))


def _keys(client: Client) -> KeyFiles:
    from parties.client.encrypted.local_keys import KeyFiles

    return KeyFiles(client.folder / KEYS_FOLDER)


def _requests(client: Client) -> PendingRequests:
    from parties.client.encrypted.pending_files import PendingRequests

    return PendingRequests(client.folder / REQUESTS_FOLDER)


def _unlock(passphrase_file: Path | None, key_file: Path | None, *, new: bool = False) -> Unlock:
    """Returns what opens a key: a file that is named, or what the researcher types."""
    from parties.client.encrypted import unlocking

    if passphrase_file is not None and key_file is not None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "both --passphrase-file and --key-file are given", remedy="Give one.")
    if key_file is not None:
        return unlocking.make_key_file(key_file) if new else unlocking.by_key_file(key_file)
    if passphrase_file is not None:
        return unlocking.by_passphrase_file(passphrase_file)
    return unlocking.by_passphrase(typer.prompt("Passphrase of the key", hide_input=True, confirmation_prompt=new, err=True))


def _matching(stored: StoredKey, lane: str | None) -> StoredKey:
    if lane not in (None, stored.lane):
        what = f"the key {stored.name} is for the lane {stored.lane}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Leave out --lane, or name another key.")
    return stored


def _describe_key(stored: StoredKey) -> dict[str, Json]:
    return {
        "key": stored.name,
        "model": stored.model,
        "lane": stored.lane,
        "digest": stored.key,
        "means": stored.means.value,
        "created": stored.created.strftime(TIME_FORMAT),
        "expires": stored.expires.strftime(TIME_FORMAT),
    }


def _describe_answers(answers: EncryptedAnswers, out: Path) -> dict[str, Json]:
    return {
        "model": answers.model,
        "lane": answers.lane,
        "why": answers.why,
        "enquiries": list(answers.enquiries),
        "requests": answers.requests,
        "numbers": answers.numbers,
        "rows": len(answers),
        "out": str(out),
    }


def _in_words(answers: EncryptedAnswers, out: Path) -> str:
    queries = "1 query" if answers.requests == 1 else f"{answers.requests:,} queries"
    return f"{len(answers):,} samples answered by {answers.model} in {queries} (lane {answers.lane}): {out}"
