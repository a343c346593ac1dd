"""Which models the parties have published for encrypted queries, each as its owner signed it.

What a researcher encrypts under follows from these documents alone: parameters, layouts and precision are the owner's signed
word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from governance.consent.reading import refuse, time_text
from governance.documents import SignedDocument
from governance.encrypted.published import PublishedModel, verify_published
from governance.identity.directory import Directory
from parties.client.everybody import answers_of_everybody
from parties.client.listing import Listing
from parties.wire import methods
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.publication import publication
from protocols.ckks.wire import WireShape
from protocols.ckks.wire_header import HEADER_BYTES
from protocols.errors import ConfideError, ErrorCode, Problem

if TYPE_CHECKING:
    from parties.client.calls import Calls
    from parties.client.client import Client

HEADS = ("model", "owner", "features", "outputs", "lane", "samples", "a query", "keys", "server", "precision", "until", "privacy")
CALL_TIMEOUT_S = 10.0
_SHOWN_MODELS = 10
_MAX_PAGES = 64  # of some megabytes each
_PREDICTED_WITHIN = 0.25


@dataclass(frozen=True)
class EncryptedModel:
    """A published model; public.

    Attributes:
        published: what its owner signed.
        plans: by lane, how it is asked.
    """

    published: PublishedModel
    plans: Mapping[str, EncryptedPlan] = field(repr=False)

    @property
    def label(self) -> str:
        """How requests name it, `name@version`."""
        return self.published.ref.label

    def plan(self, lane: str) -> EncryptedPlan:
        """Returns the plan of a lane.

        Raises:
            ConfideError: INVALID_ARGUMENT: the model has no such lane.
        """
        if lane not in self.plans:
            what = f"{self.label} has no lane {lane[:20]!r}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Choose among {', '.join(sorted(self.plans))}.")
        return self.plans[lane]


@dataclass(frozen=True)
class PublishedEntry:
    """One lane of a published model, as a listing shows it; public."""

    model: EncryptedModel
    lane: str

    def cells(self) -> tuple[str, ...]:
        """Returns its line in a listing."""
        published, plan = self.model.published, self.model.plans[self.lane]
        said = plan.predictions
        return (
            self.model.label,
            published.issuer,
            str(plan.num_features),
            str(plan.num_outputs),
            self.lane,
            str(plan.samples),
            f"{said.upload_bytes / 1e3:,.0f} kB",
            f"{said.key_bytes / 1e6:,.2f} MB",
            f"{said.server_seconds * 1e3:,.1f} ms",
            f"{plan.precision:g}",
            time_text(published.expires),
            published.privacy,
        )


def list_published(client: Client, label: str = "") -> Listing[PublishedEntry]:
    """Returns published models, a line for each lane; parties that cannot be asked are named beside it.

    Args:
        client: the researcher's connections.
        label: name, or name@version; empty for all.
    """
    asked = tuple(party.id for party in client.directory.parties)
    found: list[EncryptedModel] = []
    unheard: dict[str, str] = {}
    for party, answer in zip(
        asked, answers_of_everybody(asked, lambda party: published_at(client.calls, party, label)), strict=True
    ):
        if isinstance(answer, ConfideError):
            unheard[party] = answer.what
        else:
            found += answer
    found.sort(key=lambda model: (model.published.name, model.published.valid_from), reverse=True)
    return Listing(HEADS, [PublishedEntry(model, lane) for model in found for lane in sorted(model.plans)], unheard=unheard)


def published_at(calls: Calls, party: str, label: str = "") -> list[EncryptedModel]:
    """Returns what one party has published, verified; of one name, or name@version, if one is given.

    Raises:
        ConfideError: a party that cannot be asked; INVALID_DOCUMENT or BAD_SIGNATURE (its fault).
    """

    def told(after: str) -> encrypted_pb2.ListPublishedReply:
        request = encrypted_pb2.ListPublishedRequest(model=label, after=after)
        return methods.LIST_PUBLISHED.call(calls.channel(party), request, party=party, timeout_s=CALL_TIMEOUT_S)

    return all_pages(told, party=party, directory=calls.directory)


def all_pages(
    told: Callable[[str], encrypted_pb2.ListPublishedReply], *, party: str, directory: Directory
) -> list[EncryptedModel]:
    """Returns the models of all pages of a party's listing, verified.

    Args:
        told: gives the page after a model, `name@version`, and for an empty text the first.
        party: which party tells it.
        directory: of the consortium.

    Raises:
        ConfideError: as `verified`; INVALID_DOCUMENT (the party's fault): a listing that goes in circles or does not end.
    """
    found: dict[str, EncryptedModel] = {}
    last = ""
    for _ in range(_MAX_PAGES):
        reply = told(last)
        models = [verified(from_wire(each), party=party, directory=directory) for each in reply.models]
        page = {model.label: model for model in models}
        if len(page) != len(models) or found.keys() & page.keys():
            break
        found |= page
        if not reply.more:
            return list(found.values())
        if not models:
            break
        last = models[-1].label
    raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"{party}'s listing of published models does not end", party=party)


def verified(signed: SignedDocument, *, party: str, directory: Directory) -> EncryptedModel:
    """Checks a description and reads its plans.

    Args:
        signed: as a party showed it.
        party: which party that is: only its own models are believed.
        directory: of the consortium.

    Raises:
        ConfideError: INVALID_DOCUMENT or BAD_SIGNATURE (the party's fault), with all problems of its plans.
    """
    published = verify_published(signed, directory)
    if published.issuer != party:
        what = f"{party} shows a model of {published.issuer} as its own"
        raise ConfideError(ErrorCode.INVALID_DOCUMENT, what, party=party)
    plans = {lane: EncryptedPlan.from_document(document) for lane, document in published.plans.items()}
    refuse([problem for lane, plan in plans.items() for problem in _contradictions(published, lane, plan)], what="the model")
    return EncryptedModel(published, plans)


def find_published(client: Client, label: str) -> EncryptedModel:
    """Returns one published model by `name@version`, or by its name if only one version of one party has it.

    Raises:
        ConfideError: UNKNOWN_MODEL: no party that can be asked has published it, or several have one of this name.
    """
    listing = list_published(client, label)
    models = list({entry.model.published.digest: entry.model for entry in listing}.values())
    found = [model for model in models if label in (model.label, model.published.name)]
    if len(found) == 1:
        return found[0]
    others = found or list({entry.model.label: entry.model for entry in list_published(client)}.values())
    known = ", ".join(model.label for model in others[:_SHOWN_MODELS]) or "none"
    unheard = f" ({', '.join(listing.unheard)} could not be asked)" if listing.unheard else ""
    what = f"several models are called {label[:80]!r}" if found else f"no party has published {label[:80]!r}{unheard}"
    raise ConfideError(ErrorCode.UNKNOWN_MODEL, what, remedy=f"Choose among {known}.")


def _contradictions(published: PublishedModel, lane: str, plan: EncryptedPlan) -> Iterable[Problem]:
    """Yields where a plan and the description around it say different things, and what would harm whoever believed the plan."""
    where, remedy = f"plans.{lane}", "ask its owner to publish it again"
    if (plan.lane is Lane.BATCH) != (lane == "batch"):
        yield Problem(where, f"is a plan of the lane {plan.lane.value}", remedy)
    if published.features and plan.num_features != len(published.features):
        yield Problem(where, f"takes {plan.num_features} features, {len(published.features)} are named", remedy)
    if plan.num_outputs != len(published.outputs):
        yield Problem(where, f"gives {plan.num_outputs} outputs, {len(published.outputs)} are named", remedy)
    if plan.client_activation != published.client_activation:
        yield Problem(where, "ends in another activation", remedy)
    shape = WireShape.of(plan)
    said = plan.predictions
    for what, predicted, exact in (
        ("a query", said.upload_bytes, shape.query_bytes),
        ("keys", said.key_bytes, shape.key_bytes),
        ("an answer", said.answer_bytes, shape.answer_bytes),
    ):
        # The lane is chosen by the predictions, and keys of hundreds of megabytes must not come as a surprise.
        if exact > (1 + _PREDICTED_WITHIN) * predicted + HEADER_BYTES:
            yield Problem(where, f"{what}: {exact} bytes, not {predicted} as predicted", remedy)
    try:
        publication(plan)  # a precision that hides nothing would give the researcher's key away
    except ConfideError as error:
        yield Problem(where, error.what, remedy)
