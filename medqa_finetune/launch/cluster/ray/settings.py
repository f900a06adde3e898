"""Settings of `hydra/launcher=ray`, and their checks."""

import dataclasses
import os
import re

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cell_launcher import PLUGIN_MODULE
from medqa_finetune.launch.cluster.settings import MOST_GRACE_SECONDS, time_fault

# The cluster of this machine, or one that is started on it.
AUTO = "auto"
ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9a-fA-F:]+\]):\d+")
MEMORY = re.compile(r"([1-9]\d*)([MGT])")
UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Where models are found; that they are not set here is no fault.
USUAL_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "MODELSCOPE_CACHE")


@dataclasses.dataclass
class RayLauncherConfig:
    """`hydra/launcher=ray`: one task of Ray per cell.

    Attributes:
        address: Address of a running cluster, `HOST:PORT`; `auto` is the one that this machine belongs to, or else one
            that is started here for the time of this command.
        gpus_per_cell: GPUs of a cell, each with a process that trains; 0 runs cells on CPUs.
        cpus_per_cell: CPU cores of a cell, which is as many threads as it computes with.
        memory: Main memory that a node must have free for a cell: `32G`; None asks for none.
        time: Time limit of one start of a cell: `4:00:00`; None is none. A cell that needs longer is put back, and
            resumes from its checkpoint.
        environment: Names of environment variables that cells take from this command; others they take from the shell
            in which `ray start` was typed on their node.
        max_parallel: Maximum number of cells at a time; None is as many as the cluster has room for.
        wait: Whether the command runs and shows the cells until all have ended; otherwise it submits a job of Ray's for
            each, and leaves.
        retries: How often a crashed cell is restarted within its task; a deterministic failure is never retried.
        grace_seconds: Seconds that a cell has to stop, to write its checkpoint; also before the time limit.
        stalled_starts: Starts in a row without progress between them after which a cell is not put back any more.
    """

    _target_: str = f"{PLUGIN_MODULE}.RayLauncher"
    address: str = AUTO
    gpus_per_cell: int = 1
    cpus_per_cell: int = 1
    memory: str | None = None
    time: str | None = None
    environment: list[str] = dataclasses.field(default_factory=lambda: list(USUAL_VARIABLES))
    max_parallel: int | None = None
    wait: bool = True
    retries: int = 1
    grace_seconds: int = 120
    stalled_starts: int = 3

    def variables(self) -> dict[str, str]:
        """Return the environment variables that cells take from this process; those by which Python finds code, too."""
        return {name: os.environ[name] for name in (*self.environment, "PYTHONPATH") if name in os.environ}


def check_settings(settings: RayLauncherConfig) -> None:
    """Check settings of the launcher; what only a cluster can judge, it judges when there is one.

    Raises:
        ConfigError: with every fault.
    """
    least = {"max_parallel": 1, "gpus_per_cell": 0, "cpus_per_cell": 1, "retries": 0, "stalled_starts": 1}
    faults = [
        Fault("out-of-range", f"must be an integer ≥ {low}", key=f"hydra.launcher.{key}", got=value)
        for key, low in least.items()
        if (value := getattr(settings, key)) is not None and not value >= low
    ]
    grace = settings.grace_seconds
    if not 1 <= grace <= MOST_GRACE_SECONDS:
        problem = f"must be from 1 to {MOST_GRACE_SECONDS} seconds"
        faults.append(Fault("out-of-range", problem, key="hydra.launcher.grace_seconds", got=grace))
    if settings.time is not None and (fault := time_fault(settings.time, grace)) is not None:
        faults.append(fault)
    if settings.memory is not None and not MEMORY.fullmatch(settings.memory):
        problem, allowed = "is not an amount of memory", ("500M", "32G", "1T")
        faults.append(Fault("wrong-value", problem, key="hydra.launcher.memory", got=settings.memory, allowed=allowed))
    if settings.address != AUTO and not ADDRESS.fullmatch(settings.address):
        problem, forms = "is not the address of a Ray cluster", (AUTO, "HOST:PORT")
        faults.append(Fault("wrong-value", problem, key="hydra.launcher.address", got=settings.address, allowed=forms))
    if settings.max_parallel is not None and not settings.wait:
        problem = "cannot be kept to without a launcher that waits"
        hint = "Leave it out, or give hydra.launcher.wait=true."
        faults.append(
            Fault("conflict", problem, key="hydra.launcher.max_parallel", got=settings.max_parallel, hint=hint)
        )
    missing = [name for name in settings.environment if name not in (*USUAL_VARIABLES, *os.environ)]
    if missing:
        problem = "names environment variables that are not set here"
        hint = "Set them, or leave them out."
        faults.append(Fault("missing", problem, key="hydra.launcher.environment", got=missing, hint=hint))
    if faults:
        raise ConfigError(*faults)


def bytes_of(memory: str) -> int:
    """Return the bytes of an amount of memory: `32G`."""
    found = MEMORY.fullmatch(memory)
    if found is None:
        raise ValueError(memory)
    return int(found[1]) * UNITS[found[2]]
