"""The other end of `vllm_engine`: start it, hear what it says, and see to it that it ends."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import TypeAdapter

from medqa_finetune.errors import Fault, RunError
from medqa_finetune.evaluation.generate import HANG_SECONDS
from medqa_finetune.evaluation.time_limit import TimedOutError, alarm
from medqa_finetune.evaluation.vllm_engine import Asked, Said, engine_fault

log = logging.getLogger(__name__)

# Loading weights from a slow disk, compiling kernels and recording CUDA graphs takes minutes.
START_SECONDS = 1800.0
STOP_SECONDS = 30.0
# vLLM tells its makers' server of every use if it is not told otherwise. For the last one see `vllm_engine`.
VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
# Of what it said when it failed.
TAIL_LINES = 40


@contextmanager
def ask(asked: Asked, folder: Path, patience: float) -> Iterator[Iterator[Said]]:
    """Start vLLM, and yield its answers as they end, once it is ready.

    Args:
        asked: What it is to do.
        folder: For the question and what it says beside the answers.
        patience: Seconds that it may be silent.

    Raises:
        RunError: it failed, ended, or was silent for too long.
    """
    path, spoken = folder / "asked.json", folder / "vllm.log"
    path.write_bytes(TypeAdapter(Asked).dump_json(asked))
    command = [sys.executable, "-m", "medqa_finetune.evaluation.vllm_engine", str(path)]
    variables = {"VLLM_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    # Standard input stays open until it has ended: its closing tells that nobody waits any more.
    with (
        spoken.open("wb") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=variables | os.environ | VARIABLES,
        ) as process,
    ):
        try:
            lines = _lines(process, patience)
            next(lines)  # it is ready
            yield lines
        except RunError:
            log.debug("%s", "\n".join(spoken.read_text(errors="replace").splitlines()[-TAIL_LINES:]))
            raise
        finally:
            _end(process)


def _lines(process: "subprocess.Popen[bytes]", patience: float) -> Iterator[Said]:
    """Yield what vLLM says, first that it is ready.

    Raises:
        RunError: it says why it failed, or ends or is silent without a word.
    """
    assert process.stdout is not None  # noqa: S101 (asked for, above)
    seconds = START_SECONDS
    while True:
        try:
            with alarm(seconds):
                line = process.stdout.readline()
        except TimedOutError:
            raise RunError(engine_fault("timed-out", f"vLLM said nothing for {seconds:g} seconds")) from None
        if not line:
            break
        said = json.loads(line)
        if "faults" in said:
            raise RunError(*map(Fault.from_json, said["faults"]))
        yield TypeAdapter(Said).validate_python(said)
        seconds = patience + max(HANG_SECONDS, patience / 2)
    if process.wait() != 0:
        problem = f"vLLM ended with exit code {process.returncode} before it had answered (out of memory?)"
        raise RunError(engine_fault("process-ended", problem))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """See to it that the process has ended, and its memory with it."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
