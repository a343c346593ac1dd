"""What a program that uses the client catches: one class for each way to go on, all of them `ConfideError`.

    ConfideError
      +-- InvalidRequest        what was asked for is not valid: change it
      |     +-- NotFound        no such job, data set, model or output
      +-- NotReady              not now: not ended yet, taken, or too late
      +-- PartyUnavailable      a party, or the network to it, is down or busy: try again
      +-- TimedOut              it did not end in time; the job may go on
      +-- NotAuthenticated      this certificate is not accepted
      +-- PolicyRefused         a party does not permit it
      |     +-- BudgetExhausted no more of it is permitted
      +-- IntegrityError        something was altered, or the parties do not agree: stop and ask
      +-- JobFailed             the job ended otherwise than completed
      |     +-- JobCancelled    because somebody asked for it
      +-- SetupError            this institution's installation or files
      +-- Defect                a fault of Confide

`code` stays the closed vocabulary; `fix` says what to do, and `page` where more is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from protocols.error_pages import page_of
from protocols.errors import ConfideError, ErrorCode, Fault, Kind

P = ParamSpec("P")
R = TypeVar("R")


class ClientError(ConfideError):
    """What all failures of the client have beside their code."""

    @property
    def fix(self) -> str:
        """What to do about it."""
        return self.remedy

    @property
    def page(self) -> str:
        """The documentation page of the code."""
        return page_of(self.code)


class InvalidRequest(ClientError):
    """What was asked for is not valid."""


class NotFound(InvalidRequest):
    """No such job, data set, model or output."""


class NotReady(ClientError):
    """It cannot be done as things stand: not ended yet, taken, or too late."""


class PartyUnavailable(ClientError):
    """A party, or the network to it, is down or busy."""


class TimedOut(ClientError):
    """It did not end in time; the job may go on."""


class NotAuthenticated(ClientError):
    """The certificate is not accepted."""


class PolicyRefused(ClientError):
    """A party does not permit it."""


class BudgetExhausted(PolicyRefused):
    """No more of it is permitted."""


class IntegrityError(ClientError):
    """Something was altered, or the parties do not agree."""


class JobFailed(ClientError):
    """The job ended otherwise than completed."""


class JobCancelled(JobFailed):
    """The job was cancelled."""


class SetupError(ClientError):
    """This institution's installation, configuration or files."""


class Defect(ClientError):
    """A fault of Confide."""


_BY_KIND: Mapping[Kind, type[ClientError]] = {
    Kind.INVALID: InvalidRequest,
    Kind.NOT_FOUND: NotFound,
    Kind.CONFLICT: NotReady,
    Kind.UNAUTHENTICATED: NotAuthenticated,
    Kind.DENIED: PolicyRefused,
    Kind.NOT_READY: NotReady,
    Kind.UNAVAILABLE: PartyUnavailable,
    Kind.TIMEOUT: TimedOut,
    Kind.INTEGRITY: IntegrityError,
    Kind.EXHAUSTED: BudgetExhausted,
    Kind.ENDED: JobFailed,
    Kind.INTERNAL: Defect,
}
# Where the kind alone would send the caller the wrong way.
_BY_CODE: Mapping[ErrorCode, type[ClientError]] = {
    ErrorCode.PARTY_BUSY: PartyUnavailable,
    ErrorCode.TOO_MANY_STREAMS: PartyUnavailable,
    ErrorCode.PEER_SILENT: PartyUnavailable,
    ErrorCode.CANCELLED: JobCancelled,
    ErrorCode.JOB_EXPIRED: JobFailed,
    ErrorCode.STATE_DAMAGED: SetupError,
}
_SETUP_KINDS = frozenset({Kind.INVALID, Kind.CONFLICT, Kind.NOT_READY})


def class_of(code: ErrorCode) -> type[ClientError]:
    """Returns the class that failures with a code have; every code has exactly one."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code.fault is Fault.OPERATOR and code.kind in _SETUP_KINDS:
        return SetupError
    return _BY_KIND[code.kind]


def typed(error: ConfideError) -> ClientError:
    """Returns the failure with the class of its code; one that has it already as it is."""
    if isinstance(error, ClientError):
        return error
    return class_of(error.code)(error.code, error.what, problems=error.problems, remedy=error.remedy, party=error.party)


@contextmanager
def typed_failures() -> Iterator[None]:
    """Gives every failure of a `with` block the class of its code."""
    try:
        yield
    except ClientError:
        raise
    except ConfideError as error:
        # One failure, not two: with the place where it arose, and what had led to it.
        raise typed(error).with_traceback(error.__traceback__) from error.__cause__


def raises_typed(function: Callable[P, R]) -> Callable[P, R]:
    """Gives every failure of a function the class of its code; not for generators, whose body runs later."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with typed_failures():
            return function(*args, **kwargs)

    return call
