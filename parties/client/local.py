"""A complete private network on this machine, for trying things: the harness's real processes in a temporary folder.

Nothing is left out but distance: keys, certificates, mutual TLS, workers, plans and countersignatures are those of a real
consortium. Only here may a client register rows, because here, and only here, one person is all owners.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from parties import harness
from parties.alignment_secrets import AlignBy
from parties.registration import register_dataset
from parties.storage.datasets import DatasetRecord
from parties.storage.files import read_public
from privacy.preparation.contract import OnViolation
from privacy.preparation.schema_file import MAX_SCHEMA_BYTES
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    import pandas as pd

Schema: TypeAlias = "Path | str | Mapping[str, Any]"


@dataclass(frozen=True)
class LocalNetwork:
    """The running processes and their folder."""

    folder: Path

    @property
    def harness(self) -> harness.Harness:
        """What runs."""
        return harness.status(self.folder / "network")

    @property
    def researcher_config(self) -> Path:
        """The researcher's configuration."""
        return self.harness.researcher_config

    @property
    def parties(self) -> tuple[str, ...]:
        """Ids of the parties; all may compute and deal."""
        return tuple(party.party for party in self.harness.parties)

    def register(
        self, party: str, name: str, rows: pd.DataFrame, schema: Schema, align_by: AlignBy | None = None
    ) -> DatasetRecord:
        """Registers rows at one of the parties and permits their use there, as its owner does by command.

        Args:
            party: the owner.
            name: the data set's name there.
            rows: with the schema's columns; secret.
            schema: a YAML file, its text, or its content as a mapping.
            align_by: if other parties hold other columns of the same people: secret file and label of all of them.

        Raises:
            ConfideError: as `register_dataset`.
        """
        config = self.harness.party(party).config
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            file, schema_file = Path(scratch) / "rows.parquet", Path(scratch) / "schema.yaml"
            rows.to_parquet(file, index=False)
            schema_file.write_text(_schema_text(schema))
            record = register_dataset(
                config,
                name=name,
                file=file,
                schema_file=schema_file,
                on_violation=OnViolation.REFUSE,
                now=datetime.now(UTC),
                align_by=align_by,
            )
        harness.permit(config, record)
        return record


def start_local(parties: int) -> LocalNetwork:
    """Starts a network of so many parties, `party-a` and so on.

    Raises:
        ConfideError: INVALID_ARGUMENT: too few or too many; SETUP_INCOMPLETE: a party did not start.
    """
    if not 3 <= parties <= harness.MAX_PARTIES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a local network has 3 to {harness.MAX_PARTIES} parties")
    folder = Path(tempfile.mkdtemp(prefix="confide-local-"))
    try:
        harness.up(folder / "network", parties=[f"party-{chr(ord('a') + number)}" for number in range(parties)])
    except ConfideError:
        raise  # nothing runs any more; the folder stays, since the failure names a log in it
    except BaseException:
        stop_local(folder)
        raise
    return LocalNetwork(folder)


def stop_local(folder: Path) -> None:
    """Stops every process of a local network and removes its folder; safe to call again."""
    if (folder / "network" / harness.STATE_FILE).exists():
        harness.down(folder / "network")
    shutil.rmtree(folder, ignore_errors=True)


def _schema_text(schema: Schema) -> str:
    if isinstance(schema, Path):
        return read_public(schema, max_bytes=MAX_SCHEMA_BYTES).decode("utf-8", "replace")
    return schema if isinstance(schema, str) else json.dumps(schema)  # JSON is YAML
