"""vLLM's engine taken step by step.

What vLLM documents, the class `LLM`, answers a list of prompts whole. Here answers are needed as each ends, and one
that takes too long is given up. Its engine alone can do that: a class kept for older callers, with modules around it
that vLLM does not export.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args


@dataclass(frozen=True)
class Step:
    """What one request has gained in one step.

    Attributes:
        name: Of the request.
        tokens: New ones.
        finished: Whether these are the last.
    """

    name: str
    tokens: Sequence[int]
    finished: bool


def lora_ranks() -> list[int]:
    """Return the values that `max_lora_rank` may have, in ascending order; an adapter may have any rank up to it."""
    from vllm.config.lora import MaxLoRARanks

    return sorted(get_args(MaxLoRARanks))


class Engine:
    """Answers requests by the likeliest token.

    Args:
        end_id: The one token that ends an answer, whatever the model's files say.
        max_new_tokens: Tokens of an answer at most.
        adapter: Folder of an adapter that all requests are answered with.
        options: Of vLLM's `EngineArgs`.
    """

    def __init__(self, end_id: int, max_new_tokens: int, adapter: str | None, **options: Any) -> None:
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext

        self._sampling = SamplingParams(
            temperature=0.0,
            max_tokens=max_new_tokens,
            stop_token_ids=[end_id],
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._adapter = None if adapter is None else LoRARequest("adapter", 1, adapter)
        # vLLM takes the size of its batches from it: the one that `LLM` has is for throughput.
        self._engine = LLMEngine.from_engine_args(EngineArgs(**options), usage_context=UsageContext.LLM_CLASS)

    def add(self, name: str, prompt: list[int]) -> None:
        """Take up a request; `prompt` is token ids."""
        self._engine.add_request(name, {"prompt_token_ids": prompt}, self._sampling, lora_request=self._adapter)

    def step(self) -> Iterator[Step]:
        """Compute one token of every request that is worked on, and yield what has come of it."""
        for output in self._engine.step():
            yield Step(output.request_id, output.outputs[0].token_ids, output.finished)

    def give_up(self, name: str) -> None:
        """Drop a request; nothing more of it is yielded."""
        self._engine.abort_request([name])
