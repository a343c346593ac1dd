"""GovernanceService: the agreements that are known here, and what parties tell each other about consent and its ends."""

from __future__ import annotations

from parties.agreements import standing_of
from parties.server.access import caller
from parties.server.handing_over import adopt
from parties.server.party import Party
from parties.server.statements import MAX_NUMBER, MAX_REPLY_BYTES, Allowance, statements_after, take_in
from parties.wire import methods
from parties.wire.documents import from_wire, to_wire
from parties.wire.generated.confide.v1 import governance_pb2
from parties.wire.methods import Handlers

MAX_LISTED = 200  # agreements in one answer


class GovernanceService:
    """GovernanceService: agreements and statements."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._allowance = Allowance()

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.LIST_AGREEMENTS.unary_handler(self.list_agreements),
                methods.TELL.unary_handler(self.tell),
                methods.LIST_STATEMENTS.unary_handler(self.list_statements),
                methods.HAND_ASSESSMENT.unary_handler(self.hand_assessment),
            )
        )

    def list_agreements(self, _request: governance_pb2.ListAgreementsRequest) -> governance_pb2.ListAgreementsReply:
        """Tells the agreements with the signatures that have arrived, and whether this party regards them as in force."""
        party, now = self._party, self._party.now()
        directory = party.directory
        found, size = [], 0
        with party.database.transaction() as tables:
            for signed in tables.agreements.best_signed(MAX_LISTED):
                size += len(signed.to_bytes())
                if size > MAX_REPLY_BYTES:
                    break
                found.append(
                    governance_pb2.Agreement(
                        body=signed.body,
                        signatures=[to_wire(signature) for signature in signed.signatures],
                        in_force=not standing_of(tables, signed, directory, now=now),
                    )
                )
        return governance_pb2.ListAgreementsReply(party=party.id, agreements=found)

    def tell(self, request: governance_pb2.TellRequest) -> governance_pb2.TellReply:
        """Takes in a statement of a party."""
        self._allowance.take_one(caller().id)
        take_in(self._party, from_wire(request.statement))
        return governance_pb2.TellReply()

    def hand_assessment(self, request: governance_pb2.HandAssessmentRequest) -> governance_pb2.HandAssessmentReply:
        """Takes the openings of an assessment whose rows were this party's too."""
        self._allowance.take_one(caller().id)
        return governance_pb2.HandAssessmentReply(stated=adopt(self._party, caller().id, request.opened))

    def list_statements(self, request: governance_pb2.ListStatementsRequest) -> governance_pb2.ListStatementsReply:
        """Tells this party's own statements after a number, as many as fit; the caller asks on until there are none."""
        found = [
            governance_pb2.Statement(number=record.number, document=to_wire(record.document))
            for record in statements_after(self._party, min(request.after, MAX_NUMBER))
        ]
        return governance_pb2.ListStatementsReply(party=self._party.id, statements=found)
