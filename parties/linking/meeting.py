"""What both sides of a private intersection check of each other before anything of a set is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from privacy.preparation.parts import column_problems
from privacy.preparation.schema import TableSchema
from protocols.canonical import parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.identifiers.intersection import Mode, Side

RUN_LIMIT = timedelta(minutes=30)


def side_of(party: str, size: int, schema_document: bytes, commitment: bytes) -> Side:
    """Returns a side as it announces itself.

    Raises:
        ConfideError: INVALID_ARGUMENT or BAD_FRAME (that side's fault): no size or no commitment.
    """
    return Side(party, size, sha256_hex(schema_document), commitment)


def check_schemas(mode: Mode, documents: Mapping[str, bytes]) -> None:
    """Checks that the columns of both sides can stand side by side.

    Args:
        mode: of the run; in one that tells sizes, no columns are told.
        documents: canonical bytes of the schema of each party, public.

    Raises:
        ConfideError: INVALID_SCHEMA (the operators' fault): a schema that cannot be read, a column that both have, two labels;
            all problems at once.
    """
    if mode is Mode.SIZE:
        if any(documents.values()):
            raise ConfideError(ErrorCode.INVALID_SCHEMA, "no columns are told where sizes alone are disclosed")
        return
    parts = {party: TableSchema.from_document(parse_canonical(document)) for party, document in documents.items()}
    problems = list(column_problems(parts))
    labelled = [party for party, schema in parts.items() if schema.has_label]
    if len(labelled) > 1:
        what = f"{' and '.join(labelled)} both have a label"
        problems.append(Problem("columns", what, "give it the role ignored in all schemas but one"))
    if problems:
        what = "the columns of both sides do not stand side by side"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, problems=problems)
