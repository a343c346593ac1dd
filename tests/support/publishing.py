"""The models of `examples/encrypted_models.py`, published at a party of a running consortium, and grants for them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from parties import harness
from parties.config import PartyConfig
from parties.encrypted_grant_files import EncryptedGrantTerms
from parties.encrypted_grants import create_encrypted_grant
from parties.publishing import publish_model
from parties.storage.encrypted import EncryptedGrantRecord
from tests.support.tables import EXAMPLES

if TYPE_CHECKING:
    from governance.encrypted.published import PublishedModel

MANY = 10_000_000


@cache
def examples() -> ModuleType:
    """The module of the examples, which is no package of ours."""
    spec = importlib.util.spec_from_file_location("encrypted_models", EXAMPLES / "encrypted_models.py")
    if spec is None or spec.loader is None:
        raise ImportError("examples/encrypted_models.py is gone")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def publish(config: PartyConfig, model: Any, folder: Path) -> PublishedModel:
    """Has a party's data steward publish a model of the examples."""
    steward = harness.person_folder(config, harness.STEWARD)
    return publish_model(config, steward, model.write(folder), model.terms, now=datetime.now(UTC))


def permit(config: PartyConfig, published: PublishedModel, **changes: Any) -> EncryptedGrantRecord:
    """Has the steward permit it to the harness's researcher, for whom it counts as known unless something else is said."""
    terms = EncryptedGrantTerms(
        agreement=harness.AGREEMENT,
        model=published.ref,
        purposes=(harness.PURPOSE,),
        recipients=(harness.RESEARCHER,),
        max_answers=MANY,
        expires=published.expires,
        max_requests_per_hour=10_000,
        counts_as_known=True,
    )
    steward = harness.person_folder(config, harness.STEWARD)
    return create_encrypted_grant(config, steward, replace(terms, **changes), now=datetime.now(UTC))
