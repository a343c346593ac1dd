"""Roles of people at an institution, the actions that bind it, and the one table that says who may do what.

Members of the consortium (parties and researchers) are told apart by their certificates, and what they may call stands in
`parties.server.access`. This table is about people inside one institution: a governed action is done only with the signature of
a person whom the institution's policy lists with a role that the table permits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from protocols.errors import ConfideError, ErrorCode


class PersonRole(Enum):
    """What a person does at an institution; one person may hold several, but never operator and privacy officer."""

    OPERATOR = "operator"  # keeps machines, processes and configuration running; decides nothing about rows or models
    DATA_STEWARD = "data-steward"  # answers for the rows: what they are, who may use them for what
    PRIVACY_OFFICER = "privacy-officer"  # answers for the people behind the rows: what is agreed, approved, opened, spent
    AUDITOR = "auditor"  # reads what was done; changes nothing


class Action(Enum):
    """What binds an institution, so that a person of it must have signed; the value stands in the signed document."""

    SIGN_AGREEMENT = "sign-agreement"
    REVOKE_AGREEMENT = "revoke-agreement"
    ISSUE_GRANT = "issue-grant"
    REVOKE_GRANT = "revoke-grant"
    APPROVE_JOB = "approve-job"
    DENY_JOB = "deny-job"
    SET_ALIAS = "set-alias"
    ROLL_BACK_ALIAS = "roll-back-alias"
    REVOKE_MODEL = "revoke-model"
    DELETE_MODEL = "delete-model"
    SET_BUDGET = "set-budget"
    END_SERVING = "end-serving"
    PUBLISH_MODEL = "publish-model"
    WITHDRAW_MODEL = "withdraw-model"
    MAKE_EVIDENCE = "make-evidence"
    APPROVE_RELEASE = "approve-release"
    ORDER_ASSESSMENT = "order-assessment"
    END_ASSESSMENT = "end-assessment"


_OFFICERS = frozenset({PersonRole.PRIVACY_OFFICER})
_STEWARDS_AND_OFFICERS = frozenset({PersonRole.DATA_STEWARD, PersonRole.PRIVACY_OFFICER})

PERMITTED: Mapping[Action, frozenset[PersonRole]] = {
    Action.SIGN_AGREEMENT: _OFFICERS,
    Action.REVOKE_AGREEMENT: _OFFICERS,
    Action.ISSUE_GRANT: frozenset({PersonRole.DATA_STEWARD}),
    Action.REVOKE_GRANT: _STEWARDS_AND_OFFICERS,
    Action.APPROVE_JOB: _STEWARDS_AND_OFFICERS,
    Action.DENY_JOB: _STEWARDS_AND_OFFICERS,
    Action.SET_ALIAS: _STEWARDS_AND_OFFICERS,
    Action.ROLL_BACK_ALIAS: _STEWARDS_AND_OFFICERS,
    Action.REVOKE_MODEL: _STEWARDS_AND_OFFICERS,
    Action.DELETE_MODEL: _STEWARDS_AND_OFFICERS,
    Action.SET_BUDGET: _OFFICERS,
    Action.END_SERVING: _STEWARDS_AND_OFFICERS,
    Action.PUBLISH_MODEL: frozenset({PersonRole.DATA_STEWARD}),
    Action.WITHDRAW_MODEL: _STEWARDS_AND_OFFICERS,
    Action.MAKE_EVIDENCE: _STEWARDS_AND_OFFICERS,
    Action.APPROVE_RELEASE: _STEWARDS_AND_OFFICERS,
    Action.ORDER_ASSESSMENT: _STEWARDS_AND_OFFICERS,
    Action.END_ASSESSMENT: _STEWARDS_AND_OFFICERS,
}

_APPROVALS = frozenset({Action.APPROVE_JOB, Action.APPROVE_RELEASE})

# Who keeps the machines could otherwise approve what runs on them.
INCOMPATIBLE = frozenset({PersonRole.OPERATOR, PersonRole.PRIVACY_OFFICER})


def is_permitted(action: Action, roles: Iterable[PersonRole]) -> bool:
    """Returns whether somebody with these roles may do this; an operator never approves, whatever else she is."""
    held = frozenset(roles)
    if action in _APPROVALS and PersonRole.OPERATOR in held:
        return False
    return bool(PERMITTED[action] & held)


def require_permitted(action: Action, roles: Iterable[PersonRole], *, person: str) -> None:
    """Checks the table.

    Raises:
        ConfideError: NOT_AUTHORISED (the person's fault), naming the roles that may.
    """
    if not is_permitted(action, roles):
        able = " or ".join(sorted(role.value for role in PERMITTED[action]))
        what = f"{person} may not {action.value.replace('-', ' ')}: it takes the role {able}"
        raise ConfideError(ErrorCode.NOT_AUTHORISED, what)
