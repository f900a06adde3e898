"""SLURM's queue, through its own commands: sbatch, squeue, scontrol, scancel and, where there is one, sacct."""

import getpass
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.launch.cluster.naming import SLURM, queue_folder
from medqa_finetune.launch.cluster.queue import (
    ClusterQueue,
    Element,
    End,
    Entry,
    QueueSilentError,
    State,
    Submission,
    digests_of,
)
from medqa_finetune.launch.cluster.script import batch_script
from medqa_finetune.launch.cluster.settings import SlurmLauncherConfig
from medqa_finetune.launch.planned import as_text
from medqa_finetune.record.files import write_text

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun")
# Seconds for an answer; a busy controller takes some.
ANSWER_SECONDS = 120.0
KEY = "hydra/launcher"
# Name of an array until each of its elements has the name of its cell.
UNNAMED = "medqa-unnamed"
FIELDS = "%A|%i|%T|%r|%j"
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING")
ENDED = {
    "COMPLETED": End.BY_ITSELF,
    "FAILED": End.BY_ITSELF,
    "TIMEOUT": End.TIME_LIMIT,
    "DEADLINE": End.TIME_LIMIT,
    "CANCELLED": End.CANCELLED,
    "REVOKED": End.CANCELLED,
    "NODE_FAIL": End.NODE_LOST,
    "BOOT_FAIL": End.NODE_LOST,
    "OUT_OF_MEMORY": End.OUT_OF_MEMORY,
    "PREEMPTED": End.PREEMPTED,
}
# What a test of a submission says while nodes are down; the submission itself waits for them.
FOR_NOW = ("down, drained or reserved", "Requested nodes are busy")
MOST_WORDS = 300


class SlurmQueue(ClusterQueue):
    """The queue of the SLURM cluster that this machine belongs to.

    Args:
        settings: Settings of the launcher.
        folder: Folder of the batch scripts.

    Raises:
        ConfigError: SLURM's commands are not installed here.
    """

    def __init__(self, settings: SlurmLauncherConfig, folder: Path) -> None:
        check_commands()
        self._settings = settings
        self._folder = folder
        # Jobs of one folder, so that another folder's submission is not taken for one that was left behind.
        self._unnamed = f"{UNNAMED}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]}"

    @property
    def folder(self) -> Path:
        """Folder of the batch scripts."""
        return self._folder

    def lock(self) -> FileLock:
        """Return the lock that a launcher holds from looking into the queue until its cells are in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / ".submit.lock")

    def entries(self) -> list[Entry]:
        """Return this user's jobs, as `ClusterQueue` has it."""
        return list(entries())

    def remove_unnamed(self, found: Sequence[Entry]) -> list[str]:
        """Cancel arrays that a launcher was killed over while it submitted them; they are held and never ran.

        The lock must be held.

        Args:
            found: What is in the queue.
        """
        left = sorted({each.id.partition("_")[0] for each in found if self._is_left_behind(each)})
        if left:
            _ask("scancel", *left)
        return left

    def _is_left_behind(self, entry: Entry) -> bool:
        return entry.name == self._unnamed and entry.state is not State.ENDED

    def check(self) -> None:
        """Ask SLURM whether it takes jobs with these settings; nothing is submitted.

        Raises:
            ConfigError: it refuses them, in its own words.
        """
        self._refuse(["sbatch", "--test-only", *self._options(1), "--wrap=true"], for_now=FOR_NOW)

    def submit(self, elements: Sequence[Element]) -> Submission:
        """Submit cells as one array, whose elements have the names of their cells, as `ClusterQueue` has it.

        The lock must be held.
        """
        script = self._folder / "array.sh"
        options = self._options(len(elements))
        for element in elements:
            queue_folder(element.run.path, SLURM).mkdir(parents=True, exist_ok=True)
            write_text(queue_folder(element.run.path, SLURM) / f"{element.name}.json", as_text(element.cell))
        write_text(script, batch_script(elements, self._settings))
        # Held until every element has its name, by which the next launch finds it.
        command = ["sbatch", "--parsable", "--hold", *options, f"--job-name={self._unnamed}", str(script)]
        array = self._refuse(command).strip().partition(";")[0]
        ids = {element.name: f"{array}_{place}" for place, element in enumerate(elements)}
        try:
            for element in elements:
                _ask("scontrol", "update", f"JobId={ids[element.name]}", f"JobName={element.name}")
            for element in elements:
                if element.after is not None:
                    after = ids.get(element.after, element.after)
                    _ask("scontrol", "update", f"JobId={ids[element.name]}", f"Dependency=afterok:{after}")
            _ask("scontrol", "release", array)
        except BaseException as error:
            _run(["scancel", array])
            if isinstance(error, QueueSilentError):
                raise ConfigError(_refused(str(error))) from None
            raise
        return Submission(array, ids)

    def _options(self, count: int) -> list[str]:
        given = self._settings
        at_a_time = "" if given.max_parallel is None else f"%{given.max_parallel}"
        values = {
            "array": f"0-{count - 1}{at_a_time}",
            "partition": given.partition,
            "account": given.account,
            "time": given.time,
            "gres": f"gpu:{given.gpus_per_cell}" if given.gpus_per_cell else None,
            "cpus-per-task": given.cpus_per_cell,
            "mem": given.memory,
            "signal": f"USR2@{given.grace_seconds}",
            "open-mode": "append",
            # A per cent sign stands for a field.
            "output": str(self._folder / "slurm.log").replace("%", "%%"),
            "chdir": Path.cwd(),
        }
        named = [f"--{key}={value}" for key, value in values.items() if value is not None]
        return [*named, "--nodes=1", "--ntasks=1", "--requeue", "--kill-on-invalid-dep=yes", *given.options]

    def _refuse(self, command: Sequence[str], for_now: Sequence[str] = ()) -> str:
        """Run sbatch, and return what it prints.

        Raises:
            ConfigError: it refuses, in its own words, unless for a reason that may pass.
        """
        done = _run(command)
        if done.returncode and not any(reason in done.stderr for reason in for_now):
            raise ConfigError(_refused(done.stderr))
        return done.stdout

    def cancel_command(self, ids: Sequence[str]) -> str:
        """Return the command that cancels these jobs."""
        return f"scancel {' '.join(ids)}"

    def end_of(self, identifier: str) -> End:
        """Return how a job ended that squeue no longer shows, from SLURM's accounting, where it keeps any."""
        if shutil.which("sacct") is None:
            return End.UNKNOWN
        done = _run(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={identifier}", "--format=State"])
        # The last line is the last start; `CANCELLED by 1000`.
        words = [line.split()[0] for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
        return ENDED.get(words[-1], End.UNKNOWN) if words else End.UNKNOWN

    def log_path(self, name: str, run: Path) -> Path:
        """Return the file with what a cell printed, in its study's folder."""
        return queue_folder(run, SLURM) / f"{name}.log"


def check_commands() -> None:
    """Check that SLURM's commands are installed.

    Raises:
        ConfigError: names those that are not.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        hint = (
            "Type the command on a login node of the cluster, or install SLURM's client (Debian: slurm-client); "
            "without SLURM, leave hydra/launcher out."
        )
        problem = f"{', '.join(missing)} not found on PATH"
        raise ConfigError(Fault("not-installed", problem, key=KEY, got="slurm", hint=hint))


def entries() -> Iterator[Entry]:
    """Yield this user's jobs, arrays by their elements; ended ones as long as SLURM remembers them (MinJobAge).

    Raises:
        QueueSilentError: SLURM does not answer.
    """
    shown = _ask("squeue", "--user", getpass.getuser(), "--noheader", "--array", "--states=all", f"--format={FIELDS}")
    rows = [line.split("|", 4) for line in shown.splitlines() if line.count("|") >= 4]
    for _, identifier, word, reason, name in sorted(rows, key=lambda row: int(row[0])):
        end = ENDED.get(word)
        state = State.ENDED if end is not None else State.RUNNING if word in RUNNING else State.QUEUED
        yield Entry(identifier, name.strip(), state, "" if reason == "None" else reason, end)


def live_digests() -> dict[str, str]:
    """Return the states of this user's jobs that are queued or running, by the digests in their names.

    Raises:
        QueueSilentError: SLURM does not answer, or is not installed here.
    """
    return digests_of(entries())


def _refused(words: str) -> Fault:
    lines = [line.partition("error: ")[2] or line.strip() for line in words.splitlines() if line.strip()]
    said = " ".join(dict.fromkeys(lines))[:MOST_WORDS]
    hint = "Settings are hydra.launcher.partition, account, time, gpus_per_cell, cpus_per_cell, memory, options."
    return Fault("cluster-refused", f"SLURM refuses the cells: {said}", key=KEY, got="slurm", hint=hint)


def _ask(*command: str) -> str:
    done = _run(command)
    if done.returncode:
        raise QueueSilentError(" ".join(done.stderr.split())[:MOST_WORDS] or f"{command[0]} failed")
    return done.stdout


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        # Signals of the terminal reach the launcher alone.
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(command), 1, "", f"{command[0]}: {error}")
