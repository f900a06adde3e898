"""Names of jobs and folders of a cluster's queue, from cells and records."""

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.config.folder_names import SEPARATOR
from medqa_finetune.record.evaluations import evaluation_parts

if TYPE_CHECKING:
    from medqa_finetune.cell import Cell

# Names of queues, and of their folders in a study.
SLURM = "slurm"
RAY = "ray"
# Longest readable part of a job's name, which names files too.
NAME_LENGTH = 120
DIGEST_LENGTH = 8


def digest_of(evaluation: Path, identity: str) -> str:
    """Return a digest of what a cell is, and where.

    Args:
        evaluation: Folder of the evaluation, which holds no other one.
        identity: Identity of the training.
    """
    # The same cell in two folders is two jobs.
    whole = os.fsencode(evaluation.resolve()) + b"\n" + identity.encode()
    return hashlib.sha256(whole).hexdigest()[:DIGEST_LENGTH]


def job_name(cell: "Cell") -> str:
    """Return the name of a cell's job: the cell's name, and a digest of what and where it is."""
    name = SEPARATOR.join([cell.run.path.name, *evaluation_parts(cell.config.evaluation_name)])
    # The queue's commands take names apart at blanks, commas and quotes, and know ASCII.
    readable = re.sub(r"[^A-Za-z0-9_.=+-]", "_", name)[:NAME_LENGTH]
    return f"{readable}-{digest_of(cell.evaluation.path, cell.identity)}"


def queue_folder(run: Path, queue: str) -> Path:
    """Return the folder of a study with the logs and descriptions of the cells that a queue was given.

    Args:
        run: Folder of one of its runs.
        queue: Name of the queue.
    """
    return run.parent.absolute() / queue
