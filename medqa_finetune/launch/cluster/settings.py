"""Settings of `hydra/launcher=slurm`, and their checks."""

import dataclasses
import math
import re

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cell_launcher import PLUGIN_MODULE

# Of `--signal`; SLURM keeps the number in 16 bits.
MOST_GRACE_SECONDS = 65535
# Options of sbatch that this launcher gives itself, and what sets them.
OWN_OPTIONS = {
    "--array": "hydra.launcher.max_parallel",
    "--partition": "hydra.launcher.partition",
    "--account": "hydra.launcher.account",
    "--time": "hydra.launcher.time",
    "--gres": "hydra.launcher.gpus_per_cell",
    "--gpus": "hydra.launcher.gpus_per_cell",
    "--cpus-per-task": "hydra.launcher.cpus_per_cell",
    "--mem": "hydra.launcher.memory",
    "--signal": "hydra.launcher.grace_seconds",
    "--job-name": "",
    "--output": "",
    "--error": "",
    "--open-mode": "",
    "--requeue": "",
    "--no-requeue": "",
    "--hold": "",
    "--wait": "hydra.launcher.wait",
    "--wrap": "",
    "--chdir": "",
    "--parsable": "",
    "--test-only": "",
    "--dependency": "",
    "--nodes": "",
    "--ntasks": "",
}
# As `man sbatch` has it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes[:seconds].
TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")
TIME_FORMS = ("MINUTES", "HOURS:MINUTES:SECONDS", "DAYS-HOURS", "DAYS-HOURS:MINUTES:SECONDS")


@dataclasses.dataclass
class SlurmLauncherConfig:
    """`hydra/launcher=slurm`: one job array, one element per cell.

    Attributes:
        partition: Partition of the jobs; None is SLURM's default.
        account: Account that is charged; None is the user's default.
        time: Time limit of one start of a cell, as for sbatch: `4:00:00`; None is the partition's. A cell that needs
            longer is put back into the queue, and resumes from its checkpoint.
        gpus_per_cell: GPUs of a cell, each with a process that trains; 0 runs cells on CPUs.
        cpus_per_cell: CPU cores of a cell; None is SLURM's default.
        memory: Main memory of a cell, as for sbatch: `32G`; None is SLURM's default.
        setup: Lines of shell before a cell starts: `module load cuda`, `source venv/bin/activate`.
        options: Further options of sbatch: `--qos=long`.
        max_parallel: Maximum number of cells at a time; None is as many as SLURM gives.
        wait: Whether the command shows the cells until all have ended; otherwise it submits and leaves.
        retries: How often a crashed cell is restarted within its job; a deterministic failure is never retried.
        grace_seconds: Seconds before the time limit at which a cell is asked to stop, to write its checkpoint.
        stalled_starts: Starts in a row without progress between them after which a cell is not put back any more.
    """

    _target_: str = f"{PLUGIN_MODULE}.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpus_per_cell: int = 1
    cpus_per_cell: int | None = None
    memory: str | None = None
    setup: list[str] = dataclasses.field(default_factory=list)
    options: list[str] = dataclasses.field(default_factory=list)
    max_parallel: int | None = None
    wait: bool = True
    retries: int = 1
    grace_seconds: int = 120
    stalled_starts: int = 3


def check_settings(settings: SlurmLauncherConfig) -> None:
    """Check settings of the launcher; what only SLURM can judge, it judges when cells are submitted.

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
    if not (math.isfinite(grace) and 1 <= grace <= MOST_GRACE_SECONDS):
        problem = f"must be from 1 to {MOST_GRACE_SECONDS} seconds"
        faults.append(Fault("out-of-range", problem, key="hydra.launcher.grace_seconds", got=grace))
    if settings.time is not None and (fault := time_fault(settings.time, grace)) is not None:
        faults.append(fault)
    faults += [fault for option in settings.options if (fault := _option_fault(option)) is not None]
    if faults:
        raise ConfigError(*faults)


def time_fault(time: str, grace: int) -> Fault | None:
    """Return what is wrong with a time limit; None if nothing is.

    Args:
        time: The limit.
        grace: Seconds before it at which a cell is asked to stop.
    """
    key = "hydra.launcher.time"
    if not TIME.fullmatch(time):
        return Fault("wrong-value", "is not a length of time", key=key, got=time, allowed=TIME_FORMS)
    if seconds_of(time) <= grace:
        hint = "Give a longer time, or a smaller hydra.launcher.grace_seconds."
        problem = f"must be longer than the {grace} seconds that a cell has to stop"
        return Fault("conflict", problem, key=key, got=time, hint=hint)
    return None


def seconds_of(time: str) -> int:
    """Return the seconds of a time as SLURM writes it: `90`, `1:30`, `4:00:00`, `1-12:30:00`; 0 stands for no limit."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # A single number, or the first of two, is minutes; after days, hours come first.
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return int(days or 0) * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=False))


def _option_fault(option: str) -> Fault | None:
    name = option.partition("=")[0]
    key = "hydra.launcher.options"
    if not option.startswith("--") or " " in name:
        hint = "Give each as --NAME=VALUE or --NAME, an entry of the list for each: [--qos=long,--exclusive]."
        return Fault("wrong-value", "is not a long option of sbatch", key=key, got=option, hint=hint)
    if name in OWN_OPTIONS:
        instead = OWN_OPTIONS[name]
        hint = f"Give {instead}." if instead else "Leave it out."
        return Fault("conflict", "is set by the launcher", key=key, got=option, hint=hint)
    return None
