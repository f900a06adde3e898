"""The batch script of an array: for every element, the plain command line of its cell."""

import shlex
import sys
from collections.abc import Sequence

from medqa_finetune.launch.cluster.naming import SLURM, queue_folder
from medqa_finetune.launch.cluster.queue import Element
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig

HEAD = """\
#!/bin/bash
# One element of the array for each cell. Written by hydra/launcher=slurm.
case $SLURM_ARRAY_TASK_ID in
"""
TAIL = """\
esac
exec >> "$folder/$name.log" 2>&1
"""


def batch_script(elements: Sequence[Element], settings: SlurmLauncherConfig) -> str:
    """Return the script that SLURM runs for every element.

    Args:
        elements: In the order of their numbers in the array.
        settings: Of the launcher.
    """
    cases = "".join(
        f"{number})\n  name={shlex.quote(element.name)}\n"
        f"  folder={shlex.quote(str(queue_folder(element.run.path, SLURM)))}\n"
        f"  cell=({shlex.join(cell_command(element))}) ;;\n"
        for number, element in enumerate(elements)
    )
    options = f"retries={settings.retries} stalled_starts={settings.stalled_starts}"
    # Each GPU trains with a process of its own, as under the local launcher.
    processes = f" processes={settings.gpus_per_cell}" if settings.gpus_per_cell > 1 else ""
    cores = "" if settings.cpus_per_cell is None else f" cores={settings.cpus_per_cell}"
    run = (
        f'exec {shlex.quote(sys.executable)} -m medqa_finetune.launch.cluster.element "folder=$folder" "name=$name" '
        f'{options}{cores}{processes} -- "${{cell[@]}}"\n'
    )
    setup = "".join(f"{line}\n" for line in settings.setup)
    return f"{HEAD}{cases}{TAIL}{setup}{run}"


def cell_command(element: Element) -> list[str]:
    """Return the command line that runs the cell alone, with the interpreter of this process."""
    # It was composed as `python -m medqa_finetune.train …`.
    return [sys.executable, *element.cell.command[1:]]
