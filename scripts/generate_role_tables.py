"""Writes docs/roles.md from the two tables that say who may do what, or checks that the page is what they give.

People of an institution: `governance/people/roles.py`. Members of the consortium: `parties/server/access.py`.

    scripts/generate_role_tables.py            writes the page
    scripts/generate_role_tables.py --check    exits with 1 if the page differs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import parties  # noqa: F401  (before gRPC, which the interceptor imports)
from governance.identity.names import MemberKind
from governance.people.roles import Action, PersonRole, is_permitted
from parties.server.access import ACCESS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "roles.md"
MARK = "Generated from `governance/people/roles.py` and `parties/server/access.py` by `make role-tables`; not edited by hand."
INTRODUCTION = """# Roles

Two tables say who may do what, and nothing else does. Both are data in the code, and this page is made from them.

## People of an institution

An institution acts through people. Everything that binds it takes the folder of a person (`--person`), whose key signs for it;
the institution's [policy](policy.md) lists the people with their public keys and roles. The signed document is kept, and an
entry of the audit log names the person, the action and what it was about.

| role | |
|---|---|
| operator | keeps machines, processes and configuration running; decides nothing about rows or models |
| data steward | answers for the rows: what they are, who may use them for what |
| privacy officer | answers for the people behind the rows: what is agreed, approved, opened and spent |
| researcher | asks; is a member of the consortium with an own certificate, see below, and belongs to an institution |
| auditor | reads exported logs and verifies them with `confide-audit`, without a secret of the institution or its help |

One person may hold several roles, but never operator and privacy officer: who runs the machines does not approve what runs on
them. An operator who is also a data steward never approves a job. Nobody approves an own request: whoever signs with the
querier's key, or is listed with the querier's id as `member`, is not among a job's approvers.
"""
BETWEEN = """
An operator holds none of these actions, and needs none to install, configure, start, back up or watch a party. Whoever may write
the party's files could still list a person of their own in the policy: every policy that ever decided something stands in the
audit log with its digest, which the other institutions cosign, so this is seen afterwards; it is not prevented by software that
runs on the operator's machine.

## Members of the consortium

Parties and researchers are told apart by their certificates. Every call passes one table before any code of its method; whether
this member may touch this job or output is then the method's own question. Links between workers, which are no calls, are for
parties alone: the same certificate is asked for, and only a link that a session here expects of that very party is joined.
"""


def page() -> str:
    """Returns the page as the tables give it."""
    lines = [INTRODUCTION, *_people(), BETWEEN, *_members(), "", f"<!-- {MARK} -->", ""]
    return "\n".join(lines)


def _people() -> Iterator[str]:
    yield "| action | " + " | ".join(role.value.replace("-", " ") for role in PersonRole) + " |"
    yield "|---|" + ":-:|" * len(PersonRole)
    for action in Action:
        cells = ("yes" if is_permitted(action, [role]) else "" for role in PersonRole)
        yield f"| {action.value.replace('-', ' ')} | {' | '.join(cells)} |"


def _members() -> Iterator[str]:
    yield "| method | " + " | ".join(kind.value for kind in MemberKind) + " |"
    yield "|---|" + ":-:|" * len(MemberKind)
    for method, permitted in ACCESS.items():
        cells = ("yes" if kind in permitted else "" for kind in MemberKind)
        yield f"| `{method.removeprefix('/confide.v1.').lstrip('/')}` | {' | '.join(cells)} |"


def main() -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="change nothing; say whether the page differs")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.name} differs from the tables: run `make role-tables`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
