"""What launchers on clusters share: the jobs of cells, which of them are done, and what is said."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus

from medqa_finetune.config.labels import labels_of
from medqa_finetune.languages.translate import say
from medqa_finetune.launch.cell_launcher import job_return
from medqa_finetune.launch.cluster.naming import job_name
from medqa_finetune.launch.exit_status import ExitStatus, read_or_none
from medqa_finetune.launch.scheduler import Job, job_of, label_jobs
from medqa_finetune.log import visible
from medqa_finetune.record.evaluations import CellDir

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

WATCH_AGAIN = "watch again: the same command, with hydra.launcher.wait=true"


def moved_aside(cell: "Cell") -> "Cell":
    """Return a cell that overwrites nothing, after moving the run aside that it is to overwrite.

    Its job may start several times, and only now is it known what is there to be overwritten.
    """
    if not cell.config.overwrite:
        return cell
    from medqa_finetune.run_state.claim import ensure_records

    own = dataclasses.replace(
        cell.without_overwriting(),
        command=tuple(each for each in cell.command if each.lstrip("+").partition("=")[0] != "overwrite"),
    )
    run = cell.run
    with run.lock(watches=True):
        record = read_or_none(CellDir(run))
        is_new = record is not None and record.status == "pending"
        if not is_new and run.path.exists() and any(run.path.iterdir()):
            tell(say("{run}: moved aside to {path}", run=run.path, path=run.move_aside()))
        ensure_records(own)
    return own


def jobs_of(cells: "Sequence[Cell]") -> dict[str, Job]:
    """Return the jobs of cells by name; those of cells that are done have ended."""
    jobs = {}
    for cell, label in zip(cells, labels_of([cell.config for cell in cells]), strict=True):
        job = job_of(cell, label, cell.overrides)
        if job.is_done_by(job.earlier):
            job.finish(ExitStatus("done"), "done before, untouched")
        jobs[job_name(cell)] = job
    label_jobs(list(jobs.values()))
    return jobs


def left_open(job: Job) -> JobReturn:
    """Return the result of a job that is left in its queue."""
    result = job_return(job)
    result.status = JobStatus.UNKNOWN
    return result


def tell(text: str) -> None:
    """Print a line on the standard error."""
    print(visible(text), file=sys.stderr, flush=True)
