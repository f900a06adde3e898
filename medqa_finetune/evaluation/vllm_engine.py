"""Runs vLLM in a child process, which yields each prediction as soon as it ends.

A child process returns all its memory however it ends, and confines vLLM's side effects (torch settings, handlers,
output). Inside it the engine runs without a further process, so that its schedule, and with it the batches, are the
same each time (vLLM's guide to reproducibility).
"""

import dataclasses
import time
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

from medqa_finetune.compat.vllm import Engine, lora_ranks
from medqa_finetune.errors import Fault, MedQAError, ModelError, RunError

# Share of a GPU's free memory; the rest is for torch and the driver. vLLM requires the share, and takes what its
# weights, its largest batch and the configured cache need.
FREE_SHARE = 0.95
# Maximum tokens per page of vLLM's cache.
PAGE_TOKENS = 128
READY = -1


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request to vLLM.

    Attributes:
        model: Folder of plain weights with a `config.json`.
        dtype: Precision of computation: `float32`, `float16` or `bfloat16`.
        adapter: Folder of a peft adapter of these weights; None without one.
        rank: Rank of the adapter, also where it does not exist yet; None without one.
        trial: Use random weights instead of those in the folder.
        eager: Disable compilation.
        cache_tokens: Capacity of the key-value cache in tokens.
        token_bytes: Bytes of the cache per token, over all layers.
        at_once: Maximum number of concurrent prompts.
        length: Maximum tokens of a prompt and its prediction together.
        stop_ids: Tokens that end a prediction.
        max_new_tokens: Maximum tokens of a prediction.
        timeout_seconds: Seconds from the start of a prompt after which its prediction is cut off.
        prompts: Token ids.
    """

    model: str
    dtype: str
    adapter: str | None
    rank: int | None
    trial: bool
    eager: bool
    cache_tokens: int
    token_bytes: int
    at_once: int
    length: int
    stop_ids: list[int]
    max_new_tokens: int
    timeout_seconds: float
    prompts: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Said:
    """A prediction, or, with `place` equal to `READY`, the message that the engine is ready.

    Attributes:
        place: Index of the prompt.
        tokens: Generated token ids, including the one that ended the prediction.
        timed_out: Whether `timeout_seconds` cut the prediction off.
        seconds: Seconds since the engine was ready.
    """

    place: int
    tokens: list[int]
    timed_out: bool
    seconds: float


def answer(asked: Asked) -> Iterator[Said]:
    """Start the engine, report that it is ready, and yield the predictions as they end.

    Raises:
        RunError: vLLM fails; contains the reason.
    """
    try:
        engine = start_engine(asked)
        yield Said(READY, [], False, 0.0)
        started = time.monotonic()
        for place, tokens, timed_out in generate(engine, asked):
            yield Said(place, tokens, timed_out, time.monotonic() - started)
    except Exception as error:
        traceback.print_exc()
        raise RunError(*faults_of(error)) from error


def start_engine(asked: Asked) -> Engine:
    """Start vLLM's engine.

    Raises:
        ModelError: the rank exceeds the largest that vLLM serves.
        ValueError: vLLM refuses the model.
    """
    import torch

    options: dict[str, Any] = {}
    if asked.rank is not None:
        served = lora_ranks()
        ranks = [rank for rank in served if rank >= asked.rank]
        if not ranks:
            raise ModelError(Fault(
                "out-of-range", f"must be ≤ {served[-1]}, the largest rank of an adapter that vLLM serves",
                key="method.rank", got=asked.rank, hint="Give evaluate.backend=transformers, or a smaller rank.",
            ))  # fmt: skip
        options |= {"enable_lora": True, "max_lora_rank": ranks[0]}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        options["gpu_memory_utilization"] = FREE_SHARE * free / total
    return Engine(
        asked.stop_ids, asked.max_new_tokens, asked.adapter,
        model=asked.model, dtype=asked.dtype, load_format="dummy" if asked.trial else "safetensors",
        skip_tokenizer_init=True, generation_config="vllm", max_model_len=asked.length, max_num_seqs=asked.at_once,
        kv_cache_memory_bytes=_pages(max(asked.cache_tokens, asked.length)) * PAGE_TOKENS * asked.token_bytes,
        enforce_eager=asked.eager, disable_log_stats=True, use_tqdm_on_load=False, **options,
    )  # fmt: skip


def _pages(tokens: int) -> int:
    """Return the number of cache pages for so many tokens; vLLM reserves one for itself."""
    return -(-tokens // PAGE_TOKENS) + 1


def generate(engine: Engine, asked: Asked) -> Iterator[tuple[int, list[int], bool]]:
    """Yield (prompt index, token ids, whether it timed out) of each prediction when it ends."""
    waiting, tokens, until = deque(range(len(asked.prompts))), dict[int, list[int]](), dict[int, float]()
    while waiting or tokens:
        while waiting and len(tokens) < asked.at_once:
            place = waiting.popleft()
            tokens[place], until[place] = [], time.monotonic() + asked.timeout_seconds
            engine.add(str(place), asked.prompts[place])
        for step in engine.step():
            place = int(step.name)
            tokens[place] += step.tokens
            if step.finished:
                yield place, tokens.pop(place), False
        for place in [place for place in tokens if time.monotonic() >= until[place]]:
            engine.give_up(str(place))
            yield place, tokens.pop(place), True


def faults_of(error: Exception) -> tuple[Fault, ...]:
    """Return the faults of an exception raised by vLLM or by this package."""
    if isinstance(error, MedQAError):
        return error.faults
    reason = " ".join(str(error).split())[:400].rstrip(".")
    return (engine_fault("engine-failed", f"vLLM failed: {type(error).__name__}: {reason}"),)


def engine_fault(code: str, problem: str) -> Fault:
    """Return a fault of the key `evaluate.backend`."""
    hint = "If this persists, give evaluate.backend=transformers."
    return Fault(code, problem, key="evaluate.backend", got="vllm", hint=hint)
