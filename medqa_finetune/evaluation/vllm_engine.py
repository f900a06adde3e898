"""vLLM in a process of its own, which yields each answer as soon as it has ended.

A process of its own gives its memory back whole, however it ends, and what vLLM does to its surroundings (settings of
torch, handlers, output) stays there. Within it the engine runs without a process of its own in turn, so that its
schedule, and with it the batches, are the same each time (vLLM's guide to reproducibility).
"""

import dataclasses
import time
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

from medqa_finetune.compat.vllm import Engine, lora_ranks
from medqa_finetune.errors import Fault, MedQAError, ModelError, RunError

# Of a card's free memory; the rest is for what torch and the driver need in addition. vLLM wants the share named, and
# takes what its weights, its largest batch and the cache that we name need.
FREE_SHARE = 0.95
# vLLM's pages of the cache are this many tokens at most.
PAGE_TOKENS = 128
READY = -1


@dataclasses.dataclass(frozen=True)
class Asked:
    """What vLLM is to do.

    Attributes:
        model: Folder of plain weights with a `config.json`.
        dtype: What they are computed in: `float32`, `float16` or `bfloat16`.
        adapter: Folder of an adapter of peft of these weights; None for none.
        rank: Its rank, also where there is none yet; None where there will be none.
        trial: Take random weights in place of those in the folder.
        eager: Compile nothing.
        cache_tokens: Tokens that the cache of keys and values has room for.
        token_bytes: What it keeps of a token, over all layers.
        at_once: Prompts that are worked on at once at most.
        length: Tokens of a prompt and its answer together at most.
        end_id: The token that ends an answer.
        max_new_tokens: Tokens of an answer at most.
        timeout_seconds: Seconds from when a prompt is taken up, after which its answer is cut off.
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
    end_id: int
    max_new_tokens: int
    timeout_seconds: float
    prompts: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Said:
    """One answer, or before the first that it is ready (`place` is `READY`).

    Attributes:
        place: Of the prompt.
        tokens: Generated, the end token included.
        timed_out: Whether it was cut off by `timeout_seconds`.
        seconds: Since it was ready.
    """

    place: int
    tokens: list[int]
    timed_out: bool
    seconds: float


def answer(asked: Asked) -> Iterator[Said]:
    """Start the engine, say so, and yield the answers as they end.

    Raises:
        RunError: vLLM cannot answer; says why.
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
    """Return vLLM's engine, ready to answer.

    Raises:
        ModelError: the rank is larger than any that vLLM serves.
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
        asked.end_id, asked.max_new_tokens, asked.adapter,
        model=asked.model, dtype=asked.dtype, load_format="dummy" if asked.trial else "safetensors",
        skip_tokenizer_init=True, generation_config="vllm", max_model_len=asked.length, max_num_seqs=asked.at_once,
        kv_cache_memory_bytes=_pages(max(asked.cache_tokens, asked.length)) * PAGE_TOKENS * asked.token_bytes,
        enforce_eager=asked.eager, disable_log_stats=True, use_tqdm_on_load=False, **options,
    )  # fmt: skip


def _pages(tokens: int) -> int:
    """Return how many pages it takes to hold so many tokens; vLLM keeps one for itself."""
    return -(-tokens // PAGE_TOKENS) + 1


def generate(engine: Engine, asked: Asked) -> Iterator[tuple[int, list[int], bool]]:
    """Yield place, tokens and whether time ran out, of each answer when it ends."""
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
    """Return why vLLM cannot answer, of what it or we raised."""
    if isinstance(error, MedQAError):
        return error.faults
    reason = " ".join(str(error).split())[:400].rstrip(".")
    return (engine_fault("engine-failed", f"vLLM failed: {type(error).__name__}: {reason}"),)


def engine_fault(code: str, problem: str) -> Fault:
    """Return a fault of vLLM as such."""
    hint = "If this persists, give evaluate.backend=transformers."
    return Fault(code, problem, key="evaluate.backend", got="vllm", hint=hint)
