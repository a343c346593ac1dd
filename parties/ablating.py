"""An ablation on rows of this party's own: what is read and signed for it; rows are kept nowhere and told to nobody."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from governance.ablation_report import StatedAblation, sign_ablation_report, verify_ablation_report
from governance.documents import SignedDocument
from governance.people.roles import Action
from parties.agreements import load_member
from parties.authority import authorise, keep_authorisation
from parties.client.private_request import delta_for
from parties.config import PartyConfig
from parties.registration import read_rows
from parties.storage.database import one_transaction
from parties.storage.files import read_public
from privacy.ablation.lines import SHADOWS, Line, Part
from privacy.ablation.own_rows import Ablation, ablation_of
from privacy.ablation.protections import Settings
from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES, schema_from_yaml
from privacy.preparation.table import Content
from protocols.errors import ConfideError, ErrorCode

MAX_REPORT_BYTES = 1 << 20
_SEED_BITS = 48


def read_ablation(
    file: Path,
    schema_file: Path,
    *,
    parts: Sequence[Part],
    groups_by: Sequence[str],
    quasi: Sequence[str],
    epsilons: Sequence[str],
    seed: int | None,
) -> Ablation:
    """Reads own rows and returns what is to be measured on them; measures nothing.

    Args:
        file: the rows with their label, CSV or Parquet; secret.
        schema_file: their schema, with declared ranges.
        parts: to be measured.
        groups_by: features by which a table counts rows.
        quasi: features by which somebody could be singled out.
        epsilons: of the private trainings.
        seed: of everything that is drawn; None to draw it.

    Raises:
        ConfideError: INVALID_DATA, INVALID_SCHEMA or INVALID_ARGUMENT (the owner's fault), with every problem.
    """
    schema = schema_from_yaml(read_public(schema_file, max_bytes=MAX_SCHEMA_BYTES))
    if not schema.has_label:
        what = "an ablation is of a classification, and the schema has no label column"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, remedy="Name the label column in the schema, with its classes.")
    rows = prepare(read_rows(file, schema, Content.LABELLED_ROWS), schema, OnViolation.REFUSE)
    settings = Settings(
        delta=delta_for(max(2, rows.num_rows // 2)),
        epsilons=tuple(epsilons),
        seed=secrets.randbits(_SEED_BITS) if seed is None else seed,
    )
    return ablation_of(rows, schema, parts=parts, groups_by=groups_by, quasi=quasi, settings=settings)


def require_may_state(config: PartyConfig, person_folder: Path, out: Path, *, now: datetime) -> None:
    """Checks what would keep a report from being signed or written, before minutes are spent on what it says.

    Args:
        config: the party's.
        person_folder: of the person who is to state it.
        out: where the report is to be written.
        now: the time, UTC.

    Raises:
        ConfideError: NOT_AUTHORISED or BAD_SIGNATURE (the person's fault); NOT_ENROLLED or INVALID_CONFIG (the operator's);
            INVALID_ARGUMENT: there is no folder for the report.
    """
    load_member(config, now)
    # Thrown away: what she signs for does not exist yet.
    authorise(config, person_folder, Action.MAKE_EVIDENCE, "an ablation", now)
    if not out.absolute().parent.is_dir():
        what = f"the report cannot be written to {out}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Name a file in a folder that exists.")


def state_ablation(
    config: PartyConfig, person_folder: Path, ablation: Ablation, lines: Sequence[Line], left_out: Sequence[str], *, now: datetime
) -> SignedDocument:
    """Has a person of a party state what an ablation on its rows found; signed by the party, and told to nobody.

    Args:
        config: the party's.
        person_folder: of a data steward or privacy officer.
        ablation: what was measured.
        lines: what was found.
        left_out: what was not measured, in words.
        now: the time, UTC.

    Raises:
        ConfideError: NOT_AUTHORISED (the person's fault).
    """
    now = now.replace(microsecond=0)
    member = load_member(config, now)
    stated = StatedAblation(
        consortium=member.directory.consortium,
        owner=config.party,
        made=now,
        members=len(ablation.rows.labels),
        others=len(ablation.rows.other_labels),
        classes=ablation.rows.classes,
        shadows=SHADOWS,
        seed=ablation.settings.seed,
        lines=tuple(lines),
        left_out=tuple(left_out),
    )
    authorisation = authorise(config, person_folder, Action.MAKE_EVIDENCE, stated.digest, now)
    with one_transaction(config.folder.database_file) as tables:
        keep_authorisation(tables, authorisation, now=now)
    return sign_ablation_report(stated, member.signing_key)


def read_stated(config: PartyConfig, report: Path, *, now: datetime) -> StatedAblation:
    """Reads a signed report and checks who signed it.

    Raises:
        ConfideError: INVALID_DOCUMENT, BAD_SIGNATURE or NOT_ENROLLED (the signer's fault); INVALID_ARGUMENT: no such file.
    """
    signed = SignedDocument.from_bytes(read_public(report, max_bytes=MAX_REPORT_BYTES))
    return verify_ablation_report(signed, load_member(config, now).directory)
