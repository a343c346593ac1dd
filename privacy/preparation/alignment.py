"""The alignment of a data set: a digest that only data sets of the same people in the same order share.

    HMAC-SHA256( secret, "confide.alignment/1" 00 | label | rows (8) | identifier of every row, in order )

Numbers are little-endian; label and identifiers are UTF-8, each after its length (4). Owners who hold different columns of the
same people bring their files to one order beforehand, agree on a secret of 32 random bytes and a label, and register their parts
with both. The digest is public. Learns: everybody, whether two parts are of the same people in the same order; who holds the
secret, besides, whether a list of people that it guesses whole is the one; nobody else anything, as long as HMAC-SHA256 under a
secret key is a pseudorandom function. It is no private set intersection: it finds no common people, it only confirms them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

import pyarrow as pa

from privacy.preparation.schema import TableSchema
from privacy.preparation.table import MAX_REPORTED, Table
from protocols.errors import ConfideError, ErrorCode, Problem

SECRET_BYTES = 32
MAX_LABEL_CHARS = 63
_DOMAIN = b"confide.alignment/1\x00"


def identifiers_of(table: Table, schema: TableSchema) -> tuple[str, ...]:
    """Returns the identifier of every row; secret.

    Args:
        table: read as aligned rows under the schema, secret.
        schema: with one identifier column.

    Returns:
        Texts without the spaces around them, whole numbers as their digits, in the order of the file.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): not one identifier column; INVALID_DATA (the owner's fault):
            identifiers that are missing or stand twice, or are neither texts nor whole numbers. Values are never named.
    """
    name = identifier_column(schema)
    cells = table.columns[name]
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    kind = cells.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise _refused([Problem(f"column {name}", "is neither text nor whole numbers", "export it as text")])
    try:
        found = [None if cell is None else str(cell).strip() for cell in cells.to_pylist()]
    except UnicodeDecodeError:  # of a Parquet file; its text would quote the cell
        raise _refused([Problem(f"column {name}", "holds text that is not UTF-8", "export it again")]) from None
    problems = list(_identifier_problems(found))
    if problems:
        raise _refused(problems[:MAX_REPORTED])
    return tuple(text for text in found if text)


def identifier_column(schema: TableSchema) -> str:
    """Returns the name of the one identifier column.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): there is none, or there are several.
    """
    if len(schema.identifiers) != 1:
        what = f"{len(schema.identifiers)} columns have the role identifier; rows are aligned by exactly one"
        problem = Problem("columns", what, "give the role identifier to one column, and the role ignored to the others")
        raise ConfideError(
            ErrorCode.INVALID_SCHEMA, "the schema does not say by which column rows are aligned", problems=[problem]
        )
    return schema.identifiers[0].name


def align(identifiers: Sequence[str], *, secret: bytes, label: str) -> str:
    """Returns the alignment of rows, 64 hexadecimal digits, public.

    Args:
        identifiers: of every row, in order, secret.
        secret: 32 random bytes that the owners of all parts hold.
        label: what they call this set of people; public among them, 1 to 63 printable characters.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a secret or label of the wrong length.
    """
    if len(secret) != SECRET_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"an alignment secret has {SECRET_BYTES} bytes")
    # What cannot be printed could not be handed on either; a broken encoding on the command line is among it.
    if not 1 <= len(label) <= MAX_LABEL_CHARS or label != label.strip() or not label.isprintable():
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"an alignment label has 1 to {MAX_LABEL_CHARS} printable characters")
    digest = hmac.new(secret, _DOMAIN + _field(label) + len(identifiers).to_bytes(8, "little"), hashlib.sha256)
    for identifier in identifiers:
        digest.update(_field(identifier))
    return digest.hexdigest()


def _field(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _identifier_problems(found: Sequence[str | None]) -> Iterable[Problem]:
    seen: dict[str, int] = {}
    for row, text in enumerate(found, start=1):
        if not text:
            yield Problem(f"row {row}", "has no identifier", "complete it, or remove the row at every owner")
        elif text in seen:
            yield Problem(f"row {row}", f"has the identifier of row {seen[text]}", "keep one row a person at every owner")
        else:
            seen[text] = row


def _refused(problems: Sequence[Problem]) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_DATA, f"{len(problems)} problem(s) with the identifiers", problems=problems)
