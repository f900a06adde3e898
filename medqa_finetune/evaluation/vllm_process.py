"""vLLM's process, seen by the one that asks: starts it, reads its answers, and sees to it that it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medqa_finetune.child_process import Child, NoReplyError, stream
from medqa_finetune.errors import RunError
from medqa_finetune.evaluation.generate import HANG_SECONDS
from medqa_finetune.evaluation.vllm_engine import Asked, Said, answer, engine_fault

# Loading weights from a slow disk, compiling kernels and recording CUDA graphs takes minutes.
START_SECONDS = 1800.0
# vLLM tells its makers' server of every use if it is not told otherwise. For the last one see `vllm_engine`.
VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


@contextmanager
def ask(asked: Asked, patience: float) -> Iterator[Iterator[Said]]:
    """Start vLLM, and yield its answers as they end, once it is ready.

    Args:
        asked: What it is to do.
        patience: Seconds that it may be silent.

    Raises:
        RunError: it failed, ended, or was silent for too long.
    """
    defaults = {"VLLM_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    variables = {key: value for key, value in defaults.items() if key not in os.environ} | VARIABLES
    with stream(answer, asked, quiet=True, environment=variables) as child:
        for _ in _answers(child, START_SECONDS):
            break  # it is ready
        yield _answers(child, patience + max(HANG_SECONDS, patience / 2))


def _answers(child: Child[Said], seconds: float) -> Iterator[Said]:
    try:
        yield from child.replies(seconds)
    except NoReplyError as error:
        if error.timed_out:
            raise RunError(engine_fault("timed-out", f"vLLM said nothing for {seconds:g} seconds")) from None
        problem = f"vLLM {error.problem} before it had answered"
        raise RunError(engine_fault("process-ended", problem)) from None
