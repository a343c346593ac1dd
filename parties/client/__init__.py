"""The researcher's side, as a library: `from parties.client import Client`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parties.client.catalogue import DatasetEntry, ModelEntry
    from parties.client.client import Client, PreparedJob, Progress
    from parties.client.failures import (
        BudgetExhausted,
        ClientError,
        Defect,
        IntegrityError,
        InvalidRequest,
        JobCancelled,
        JobFailed,
        NotAuthenticated,
        NotFound,
        NotReady,
        PartyUnavailable,
        PolicyRefused,
        SetupError,
        TimedOut,
    )
    from parties.client.handle import Explanation, JobHandle
    from parties.client.listing import Listing
    from parties.client.placement import Placement

# Loaded when first used: `confide health` and a party's own calls live in this package too, and need none of it.
_HOMES = {
    "catalogue": ("DatasetEntry", "ModelEntry"),
    "client": ("Client", "PreparedJob", "Progress"),
    "failures": (
        "BudgetExhausted", "ClientError", "Defect", "IntegrityError", "InvalidRequest", "JobCancelled", "JobFailed",
        "NotAuthenticated", "NotFound", "NotReady", "PartyUnavailable", "PolicyRefused", "SetupError", "TimedOut",
    ),
    "handle": ("Explanation", "JobHandle"),
    "listing": ("Listing",),
    "placement": ("Placement",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BudgetExhausted",
    "Client",
    "ClientError",
    "DatasetEntry",
    "Defect",
    "Explanation",
    "IntegrityError",
    "InvalidRequest",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "Listing",
    "ModelEntry",
    "NotAuthenticated",
    "NotFound",
    "NotReady",
    "PartyUnavailable",
    "Placement",
    "PolicyRefused",
    "PreparedJob",
    "Progress",
    "SetupError",
    "TimedOut",
]


def __getattr__(name: str) -> object:
    """Loads one of the names above."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
