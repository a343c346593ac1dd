"""Files that are written beside opened outputs: reports on utility and risk, and the reliability diagram."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType, OutputKind

if TYPE_CHECKING:
    from governance.documents import SignedDocument
    from governance.utility_report import StatedUtility
    from parties.client.client import Opened
    from privacy.utility.report import UtilityReport
    from protocols.job import Job


def check_utility_files(job: Job, *, report: Path | None, usual: Path | None, picture: Path | None) -> None:
    """Refuses files that could not be written, before outputs are fetched, which are handed out once.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): no evaluation, no diagram among its outputs, no folder, or no such
            report; INVALID_DOCUMENT: the usual report cannot be read.
    """
    kinds = {output.kind for output in job.outputs}
    if report is not None and job.job_type not in (JobType.EVALUATE, JobType.ASSESS):
        what = f"--report is of an evaluation or an assessment, and this is a job to {job.job_type.value}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what)
    if usual is not None and report is None:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "--usual stands beside --report", remedy="Say where to write the report.")
    if picture is not None and OutputKind.RELIABILITY not in kinds:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the job opens no reliability diagram", remedy="Leave out --picture.")
    for path in (report, picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{path}: there is no such folder", remedy="Make it, or name another.")
    if usual is not None:
        _read(usual)


def write_utility_files(
    job: Job,
    opened: Mapping[str, Opened],
    *,
    report: Path | None,
    usual: Path | None,
    picture: Path | None,
    sign: Callable[[StatedUtility], SignedDocument],
) -> None:
    """Writes what was asked for; a report on utility is signed by the researcher, a report on risk by the owners later.

    A report on risk carries the shares of the counts, for the owners alone, so nobody else may read its file.

    Raises:
        ConfideError: INVALID_ARGUMENT (the researcher's): a file cannot be written, nothing that was opened tells about utility,
            or the usual report is of another model.
    """
    from governance.utility_report import StatedUtility
    from parties.storage.files import write_public, write_secret
    from privacy.preparation.group_edges import group_names
    from privacy.preparation.schema import TableSchema
    from privacy.utility.diagram import diagram_svg
    from privacy.utility.report import utility_report

    values = {name: output.value for name, output in opened.items()}
    if picture is not None:
        name = next(output.name for output in job.outputs if output.kind is OutputKind.RELIABILITY)
        write_public(picture, diagram_svg(values[name].astype("float64")).encode())
    if report is None:
        return
    if job.job_type is JobType.ASSESS:
        write_secret(report, _risk(job, opened))
        return
    grouped = next((output for output in job.outputs if output.group_by), None)
    schema = TableSchema.from_document(job.schema)
    groups = () if grouped is None else group_names(schema, grouped.group_by, grouped.group_edges)
    made = utility_report(job, values, groups=groups)
    stated = StatedUtility(job.consortium, job.querier, made if usual is None else made.after_shift(_read(usual)))
    write_public(report, sign(stated).to_bytes())


def _risk(job: Job, opened: Mapping[str, Opened]) -> bytes:
    from governance.opened_assessment import opened_assessment
    from parties.cli.options import now
    from parties.risk_statements import unsigned_risk
    from privacy.risk.joint import risk_of
    from protocols.canonical import canonical_bytes

    (counts,) = opened.values()
    report = unsigned_risk(job, risk_of(job, counts.value), now=now())
    return canonical_bytes(opened_assessment(report, counts.shares).to_document())


def _read(path: Path) -> UtilityReport:
    from governance.documents import SignedDocument
    from governance.utility_report import MAX_BYTES, read_stated_utility
    from parties.storage.files import read_public

    return read_stated_utility(SignedDocument.from_bytes(read_public(path, max_bytes=MAX_BYTES)).document).report
