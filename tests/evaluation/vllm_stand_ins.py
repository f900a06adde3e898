"""Functions that replace vLLM's engine in a child process."""

import os
import time
from collections.abc import Iterator

from medqa_finetune.evaluation.vllm_engine import READY, Asked, Said

IS_READY = Said(READY, [], False, 0.0)
ANSWER = Said(0, [4, 0], False, 0.5)


def answer_once(asked: Asked) -> Iterator[Said]:
    yield IS_READY
    yield ANSWER


def echo_prompts(asked: Asked) -> Iterator[Said]:
    yield IS_READY
    for place, tokens in enumerate(asked.prompts):
        yield Said(place, tokens, asked.eager, asked.timeout_seconds)


def leave(asked: Asked) -> Iterator[Said]:
    os._exit(9)
    yield IS_READY


def be_killed(asked: Asked) -> Iterator[Said]:
    os.kill(os.getpid(), 9)
    yield IS_READY


def be_silent(asked: Asked) -> Iterator[Said]:
    yield IS_READY
    time.sleep(60)
