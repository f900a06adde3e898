"""Which of the processes that train one cell together this one is, by the variables that torchrun gives each of them.

Rank 0 is the run: it checks, writes, logs and answers. The others train with it, and end with the training.
"""

import os
import sys
from dataclasses import dataclass

from medqa_finetune.errors import EXIT_BAD_INPUT, ConfigError, Fault

RANK, LOCAL_RANK, SIZE = "RANK", "LOCAL_RANK", "WORLD_SIZE"
ON_MACHINE = "LOCAL_WORLD_SIZE"
WITHOUT = "Start it without torchrun."
OF_A_CELL = "hydra.launcher.gpus_per_cell=N starts N processes for each cell of a matrix."
VARIABLES = (RANK, SIZE, LOCAL_RANK, ON_MACHINE, "MASTER_ADDR", "MASTER_PORT")
# Number of processes that a cell starts for its training itself; our launcher sets it.
STARTED_VARIABLE = "MEDQA_TRAINING_PROCESSES"


@dataclass(frozen=True)
class Place:
    """A process's place among those that train together.

    Attributes:
        rank: Its number, from 0.
        size: Number of all.
    """

    rank: int = 0
    size: int = 1


def this_place() -> Place:
    """Return the place of this process by torchrun's variables; that of a single one without them.

    Raises:
        ConfigError: variables are missing or no numbers, or the processes are on several machines.
    """
    size = os.environ.get(SIZE, "1")
    if RANK not in os.environ or size == "1":
        return Place()
    faults = [
        Fault("missing", f"is not set, though {RANK} and {SIZE} are", key=name, hint="torchrun sets it.")
        for name in VARIABLES
        if name not in os.environ
    ]
    faults += [
        Fault("out-of-range", "must be an integer ≥ 0", key=name, got=os.environ[name])
        for name in (RANK, SIZE, ON_MACHINE)
        if not os.environ.get(name, "0").isdecimal()
    ]
    if not faults and os.environ[ON_MACHINE] != size:
        hint = "Give torchrun --nnodes=1 and --nproc_per_node=N, or one cell to each machine."
        problem = f"the processes of one training must be on one machine, which has {os.environ[ON_MACHINE]} of them"
        faults.append(Fault("not-supported", problem, key=SIZE, got=int(size), hint=hint))
    if faults:
        raise ConfigError(*faults)
    return Place(int(os.environ[RANK]), int(size))


def refuse_several(hint: str) -> None:
    """Refuse to run where torchrun has started several processes, each of which would do the same.

    Args:
        hint: What to do instead.

    Raises:
        ConfigError: it has. Other processes than the first end quietly.
    """
    place = this_place()
    if place.rank > 0:
        sys.exit(EXIT_BAD_INPUT)
    if place.size > 1:
        problem = "torchrun starts the training of a single cell (medqa_finetune.train without -m), and nothing else"
        raise ConfigError(Fault("not-supported", problem, key=SIZE, got=place.size, hint=hint))


def training_processes() -> int:
    """Return how many processes train this cell: those of torchrun, or those that the launcher asks for; ≥ 1.

    Raises:
        ConfigError: as `this_place`.
    """
    started = os.environ.get(STARTED_VARIABLE, "")
    return int(started) if started.isdecimal() and int(started) > 1 else this_place().size


class RankLostError(RuntimeError):
    """Another process of the training has ended before it.

    Attributes:
        fault: What is known of its end.
        is_final: Whether it would end so again.
        traceback: Where it failed; empty where that is not known.
    """

    def __init__(self, fault: Fault, *, is_final: bool = False, traceback: str = "") -> None:
        super().__init__(fault.line())
        self.fault = fault
        self.is_final = is_final
        self.traceback = traceback
