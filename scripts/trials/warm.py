"""Runs real commands in forked children of a process that has loaded torch: a run takes one second, not ten.

The parent computes nothing and has no threads, so that a child is equivalent to a fresh process. It runs the command
itself, with its command-line arguments.
"""

import contextlib
import faulthandler
import gc
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.trials.inject import VARIABLE, Event, Strike, plan_from_variable, read_journal, to_variable, watch

TRAIN = "medqa_finetune.train"
PREFLIGHT = "medqa_finetune.preflight"
SUMMARIZE = "medqa_finetune.summarize"
EVALUATE = "medqa_finetune.evaluate"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "BITSANDBYTES_NOWELCOME": "1",
}  # fmt: skip
PATIENCE_SECONDS = 180.0
ROOT = Path(__file__).parents[2]


def load_everything() -> None:
    """Import everything that a run imports, once for all children."""
    os.environ.update(ENVIRONMENT)
    # Background jobs and nohup ignore these signals, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in (
        "torch", "transformers.trainer", "transformers.models.qwen2.modeling_qwen2", "peft", "bitsandbytes", "pandas",
        "seaborn", "matplotlib.backends.backend_agg", "hydra.main", "tensorboard", "torch.utils.tensorboard",
        "sacrebleu",
        "hydra._internal.core_plugins.basic_sweeper", "hydra._internal.core_plugins.basic_launcher",
    ):  # fmt: skip
        __import__(name)
    for path in sorted((ROOT / "medqa_finetune").rglob("*.py")):
        if "discovery" not in path.parts and path.name != "__init__.py":
            __import__(".".join(path.relative_to(ROOT).with_suffix("").parts))
    __import__("scripts.trials.learning")
    # Garbage collection in a child would copy shared memory pages.
    gc.collect()
    gc.freeze()


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; minus the number of the signal that killed it.
        errors: Its output on standard error and standard output.
        journal: Its events, in order.
        pid: Its process id; 0 for none.
    """

    code: int
    errors: str
    journal: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    pid: int = 0

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.journal)


class Child:
    """A forked child that runs `body`; its standard error is captured."""

    def __init__(self, body: Callable[[], object], cwd: Path, journal: Path) -> None:
        self._journal = journal
        self._output = b""
        self._started = time.monotonic()
        self._pipe, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            os.dup2(end, 1)
            os.dup2(end, 2)
            os.close(end)
            os.chdir(cwd)
            take_signals()
            end_with(body)
        os.close(end)
        os.set_blocking(self._pipe, False)
        self._status: int | None = None

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self._output.decode("utf-8", "replace")

    @property
    def events(self) -> list[Event]:
        """Its events so far, in order."""
        return read_journal(self._journal)

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most `seconds`; return whether it has ended."""
        until = time.monotonic() + seconds
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
            left = until - time.monotonic()
            if self._status is None and left <= 0:
                return False
            self._read(min(0.02, max(left, 0.0)) if self._status is None else 0.0)
        return True

    def send(self, number: int) -> None:
        if self._status is None:
            os.kill(self.pid, number)

    def end(self, patience: float = PATIENCE_SECONDS) -> Ended:
        """Wait for the end; a hanging process is killed after it has dumped its stack."""
        if not self.wait(patience):
            self.send(signal.SIGABRT)
            if not self.wait(5):
                self.send(signal.SIGKILL)
                self.wait(30)
        self._read(0.0)
        os.close(self._pipe)
        assert self._status is not None
        code, text = os.waitstatus_to_exitcode(self._status), self._output.decode("utf-8", "replace")
        return Ended(code, text, read_journal(self._journal), time.monotonic() - self._started, self.pid)

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._pipe], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while ready and (block := os.read(self._pipe, 1 << 16)):
                self._output += block
        if ready and seconds:
            time.sleep(0.005)  # a pipe that was closed early is always ready


def take_signals() -> None:
    """Restore default signal handling, even if the harness ignores some signals, as under `nohup`."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with(body: Callable[[], object]) -> None:
    """Run the body of a forked process, and end the process as Python ends a program."""
    code: Any = 1
    try:
        faulthandler.enable(all_threads=True)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        body()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def command_body(module: str, arguments: Sequence[str]) -> Callable[[], object]:
    """Return a function that runs a command with these arguments in the calling process."""

    def run() -> object:
        sys.argv = [f"{module}.py", *arguments]
        # Cell start-up and the record read the program's name.
        sys.modules["__main__"] = sys.modules[module]
        return sys.modules[module].main()

    return run


def struck(body: Callable[[], object], root: Path, journal: Path, strikes: list[Strike]) -> Callable[[], object]:
    """Return `body` in a process where steps are counted and faults strike."""
    from scripts.trials.actions import act
    from scripts.trials.learning import count_steps

    def run() -> object:
        count_steps(watch(root, journal, strikes, act))
        return body()

    return run


def launching(body: Callable[[], object], root: Path, journals: Path, strikes: list[Strike], cold: bool) -> Any:
    """Return `body`, a launcher, whose cells are struck by faults; warm cells are forked from this process."""

    def run() -> object:
        os.environ[VARIABLE] = to_variable(root, journals, strikes)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent / "cold"), str(ROOT)])
        if not cold:
            subprocess.Popen = WarmPopen  # type: ignore[misc, assignment]
        return body()

    return run


class WarmPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Popen that starts `python -m medqa_finetune.train …` and the like by forking only."""

    def __init__(self, args: Any, **options: Any) -> None:
        words = list(map(str, args)) if isinstance(args, list | tuple) else []
        module = next((name for name in (TRAIN, EVALUATE, PREFLIGHT) if name in words), None)
        if module is not None:
            variables = dict(options.get("env") or os.environ)
            options["preexec_fn"] = lambda: _become(module, words[words.index(module) + 1 :], variables)
            # Unflushed output would be written by both processes.
            sys.stdout.flush()
            sys.stderr.flush()
        super().__init__(args, **options)


def _become(module: str, arguments: list[str], variables: dict[str, str]) -> None:
    # Includes the pipe on which subprocess waits for exec.
    os.closerange(3, 256)
    take_signals()
    os.environ.clear()
    os.environ.update(variables)
    logging.getLogger().handlers.clear()
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    body = command_body(module, arguments)
    plan = plan_from_variable(arguments) if module != PREFLIGHT else None
    end_with(struck(body, *plan) if plan else body)
