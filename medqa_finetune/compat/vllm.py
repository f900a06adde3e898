"""Runs vLLM's engine step by step.

The documented class `LLM` returns only when all prompts are answered. Here each answer is needed when it ends, and
answers that take too long are aborted. Only the engine supports that, a class kept for older callers, with modules that
vLLM does not export.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args


@dataclass(frozen=True)
class Step:
    """Progress of one request in one step.

    Attributes:
        name: Name of the request.
        tokens: New token ids.
        finished: Whether the request is complete.
    """

    name: str
    tokens: Sequence[int]
    finished: bool


def lora_ranks() -> list[int]:
    """Return the allowed values of `max_lora_rank`, ascending; an adapter may have any rank up to it."""
    from vllm.config.lora import MaxLoRARanks

    return sorted(get_args(MaxLoRARanks))


class Engine:
    """Generates by greedy decoding.

    Args:
        stop_ids: The only tokens that end an answer, whatever the model's files say.
        max_new_tokens: Most tokens of an answer.
        adapter: Folder of an adapter for all requests; None for none.
        options: Options of vLLM's `EngineArgs`.
    """

    def __init__(self, stop_ids: Sequence[int], max_new_tokens: int, adapter: str | None, **options: Any) -> None:
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext

        self._sampling = SamplingParams(
            temperature=0.0,
            max_tokens=max_new_tokens,
            stop_token_ids=list(stop_ids),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._adapter = None if adapter is None else LoRARequest("adapter", 1, adapter)
        # The usage context determines batch sizes; that of `LLM` gives the highest throughput.
        self._engine = LLMEngine.from_engine_args(EngineArgs(**options), usage_context=UsageContext.LLM_CLASS)

    def add(self, name: str, prompt: list[int]) -> None:
        """Add a request; `prompt` is token ids."""
        self._engine.add_request(name, {"prompt_token_ids": prompt}, self._sampling, lora_request=self._adapter)

    def step(self) -> Iterator[Step]:
        """Run one engine step, and yield the progress of every request in it."""
        for output in self._engine.step():
            yield Step(output.request_id, output.outputs[0].token_ids, output.finished)

    def give_up(self, name: str) -> None:
        """Abort a request; nothing more is yielded for it."""
        self._engine.abort_request([name])
