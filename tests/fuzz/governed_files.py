"""Targets that read what people write about consent: policies and their cases, agreements, grants."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.identity.keys import SigningKey
from governance.people.person import Person
from governance.people.roles import PersonRole
from governance.policy.rules import Kind
from parties.consent_files import load_agreement, load_grant_terms
from parties.policy_cases import read_described_job, run_cases
from parties.policy_file import load_policy, person_line, write_policy
from tests.fuzz.files import FOLDER, from_file
from tests.fuzz.target import Target
from tests.support.jobs import CREATED

_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x0b" * 32))
_NORA = person_line(Person("nora-lind", frozenset({PersonRole.PRIVACY_OFFICER}), _KEY.public))

_POLICY = f"""api_version: confide.policy/1
people:
  - {_NORA}
rules:
  - name: small-evaluations
    match: {{job_types: [evaluate], max_rows: 1000, any_output: [correct_count]}}
    decision: automatic
  - name: trainings
    match: {{job_types: [train], guarantees: [none, zero-out]}}
    decision: {{approve: {{needed: 1, of: [privacy-officers]}}}}
    reason: a training leaves a model behind
otherwise: {{decision: refuse, reason: nobody has thought of this yet}}
budgets:
  default: {{queries: 50, answers: 1000, epsilon: "1.5"}}
"""
_CASES = """api_version: confide.policy-cases/1
cases:
  - name: a small evaluation runs by itself
    job: {job_type: evaluate, querier: r-anna, datasets: [hospital-a/hearts], outputs: [correct_count], rows: 400}
    expect: automatic
  - name: a training needs an officer
    job: {job_type: train, querier: r-anna, datasets: [hospital-a/hearts], epochs: 3}
    expect: {approve: {needed: 1}}
    rule: trainings
"""
_DESCRIBED = """job: {job_type: evaluate, querier: r-anna, datasets: [hospital-a/hearts], outputs: [correct_count], rows: 400}
"""
_AGREEMENT = """api_version: confide.agreement/1
consortium: cardio
name: prognosis-2026
purposes: [prognosis]
parties: [hospital-a, hospital-b]
datasets: [hospital-a/*, hospital-b/patients]
job_types: [train, evaluate, infer]
outputs: [correct_count, probability]
min_parties: 2
min_rows: 100
expires: 2027-01-31T00:00:00Z
"""
_GRANT = """api_version: confide.grant/1
agreement: prognosis-2026
dataset: patients/2
purposes: [prognosis]
job_types: [train, evaluate]
derived_job_types: [evaluate, infer]
recipients: [alice, institution/hospital-b]
outputs: {correct_count: {min_cell: 10}, probability: {decimals: 2, clip: "0.01"}}
parameters: {max_epochs: 50, min_batch_size: 16, max_query_rows: 100}
min_parties: 2
min_rows: 100
max_uses: 20
expires: 2026-12-31T00:00:00Z
"""


def _run_cases() -> Callable[[bytes], object]:
    policy = write_policy(FOLDER / "policy.yaml", decision=Kind.AUTOMATIC)
    return from_file(lambda path: run_cases(policy, path))


TARGETS = (
    Target("policy-file", from_file(load_policy), lambda: [_POLICY.encode()]),
    Target("policy-cases", _run_cases(), lambda: [_CASES.encode()]),
    Target("described-job", from_file(read_described_job), lambda: [_DESCRIBED.encode()]),
    Target("agreement-file", from_file(lambda path: load_agreement(path, now=CREATED)), lambda: [_AGREEMENT.encode()]),
    Target("grant-file", from_file(load_grant_terms), lambda: [_GRANT.encode()]),
)
