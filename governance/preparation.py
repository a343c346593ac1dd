"""What an owner signs about how the rows of a data set were made from its raw file.

    {format, dataset, rows, rows_commitment, contract, recipe, seed_commitment, raw_commitment, code}

Public, and says nothing of any row: contract and recipe are agreed documents, and the commitments are under secrets of 256 bits
that stay with the owner.

    seed_commitment = SHA-256( "confide.preparation-seed/1" 00 | seed (32) )
    raw_commitment  = SHA-256( "confide.raw-file/1" 00 | salt (32) | SHA-256 of the file (32) | its length (8, little-endian) )
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privacy.preparation.data_contract import DataContract
from privacy.preparation.raw_table import RawIdentity
from privacy.preparation.recipes.recipe import Recipe
from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.secrets import SecretBytes

FORMAT = "confide.preparation/1"
SALT_BYTES = 32
_KEYS = {"format", "dataset", "rows", "rows_commitment", "contract", "recipe"} | {"seed_commitment", "raw_commitment", "code"}
_SEED_DOMAIN, _RAW_DOMAIN = b"confide.preparation-seed/1\x00", b"confide.raw-file/1\x00"


@dataclass(frozen=True)
class PreparationStatement:
    """How a data set was prepared; public.

    Attributes:
        dataset: name and version, `ward/3`.
        num_rows: how many rows were registered.
        rows_commitment: the data set's commitment.
        contract: under which contract.
        recipe: by which recipe.
        seed_commitment: to the seed of its random draws.
        raw_commitment: to the raw file.
        code: which version of Confide did it.
    """

    dataset: str
    num_rows: int
    rows_commitment: str
    contract: DataContract
    recipe: Recipe
    seed_commitment: str
    raw_commitment: str
    code: str

    @property
    def digest(self) -> str:
        """SHA-256 of the statement's canonical bytes, 64 hexadecimal digits."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def to_document(self) -> dict[str, Any]:
        """Returns the statement as a document; `from_document` returns an equal one."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "rows": self.num_rows,
            "rows_commitment": self.rows_commitment,
            "contract": self.contract.to_document(),
            "recipe": self.recipe.to_document(),
            "seed_commitment": self.seed_commitment,
            "raw_commitment": self.raw_commitment,
            "code": self.code,
        }

    @staticmethod
    def from_document(document: Document) -> PreparationStatement:
        """Reads a statement.

        Raises:
            ConfideError: INVALID_DOCUMENT, INVALID_CONTRACT or INVALID_RECIPE (the signer's fault).
        """
        if set(document) != _KEYS or document["format"] != FORMAT or type(document["rows"]) is not int:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"this is no statement of the format {FORMAT}")
        texts = {key: document[key] for key in ("dataset", "rows_commitment", "seed_commitment", "raw_commitment", "code")}
        if not all(isinstance(text, str) for text in texts.values()) or not all(
            isinstance(document[key], Mapping) for key in ("contract", "recipe")
        ):
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the fields of a preparation's statement are texts and documents")
        contract, recipe = DataContract.from_document(document["contract"]), Recipe.from_document(document["recipe"])
        return PreparationStatement(num_rows=document["rows"], contract=contract, recipe=recipe, **texts)


def commit_seed(seed: SecretBytes) -> str:
    """Returns the commitment to a seed of 32 random bytes, 64 hexadecimal digits, public."""
    return hashlib.sha256(_SEED_DOMAIN + seed.reveal()).hexdigest()


def commit_raw(identity: RawIdentity, salt: bytes) -> str:
    """Returns the commitment to a raw file, 64 hexadecimal digits, public.

    Args:
        identity: of the file, secret: a bare digest of rows can be guessed.
        salt: 32 random bytes, secret, kept by the owner.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): a salt of another length.
    """
    if len(salt) != SALT_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a salt has {SALT_BYTES} bytes")
    hashed = bytes.fromhex(identity.digest) + identity.num_bytes.to_bytes(8, "little")
    return hashlib.sha256(_RAW_DOMAIN + salt + hashed).hexdigest()
