"""Greedy decoding of a batch of prompts, over what every causal language model of transformers offers: a forward pass.

`generate` of transformers spends most of a small model's time elsewhere: it copies the whole cache for every token, and
keeps rows that have ended until the last one has. Here the cache is as large as it will be from the start, and rows
leave.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from medqa_finetune.errors import ModelError

# A model with or without adapters; peft and transformers share no typed base that can generate.
Model = Any

# Rows leave once this share of them has ended: each time, what is kept of the cache is copied once.
LEAVING_SHARE = 1 / 8


@dataclass(frozen=True)
class Ending:
    """When an answer ends.

    Attributes:
        end_id: The token that ends an answer.
        pad_id: The token that fills rows; never seen by the model.
        max_new_tokens: Tokens per answer at most.
        deadline: Moment of `time.monotonic()` after which no token is added.
    """

    end_id: int
    pad_id: int
    max_new_tokens: int
    deadline: float = math.inf


@torch.inference_mode()
def decode_greedily(model: Model, prompts: Sequence[list[int]], ending: Ending) -> list[list[int]]:
    """Return the most likely next tokens of each prompt, one after another, up to and with the end token.

    Args:
        model: In evaluation mode.
        prompts: Token ids; padded on the left here, so that all answers begin at the same position.
        ending: When an answer ends; one that reaches `max_new_tokens` may lack the end token.

    Raises:
        ModelError: the architecture keeps no cache of keys and values.
    """
    batch = _Batch(model, prompts, ending)
    found = torch.full((len(prompts), ending.max_new_tokens), ending.pad_id, device=model.device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    # Where in `found` the rows lie that are still in the batch.
    places = torch.arange(len(prompts), device=model.device)
    latest = batch.ids
    for step in range(ending.max_new_tokens):
        latest = most_likely(batch.next_logits(latest))
        found[places, step] = latest
        ended |= latest == ending.end_id
        over = int(ended.sum())
        if over == len(ended) or time.monotonic() >= ending.deadline:
            found = found[:, : step + 1]
            break
        if over >= LEAVING_SHARE * len(ended):
            staying = (~ended).nonzero().squeeze(1)
            batch.keep(staying)
            places, latest, ended = places[staying], latest[staying], ended[staying]
        latest = latest.unsqueeze(1)
    rows: list[list[int]] = found.tolist()
    return [row[: row.index(ending.end_id) + 1] if ending.end_id in row else row for row in rows]


def most_likely(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely token of each row; `logits` is of shape (rows, vocabulary)."""
    return logits.argmax(-1)


@torch.inference_mode()
def stream_tokens(
    model: Model,
    prompt: Sequence[int],
    ending: Ending,
    choose: Callable[[torch.Tensor], torch.Tensor] = most_likely,
) -> Iterator[int]:
    """Yield the next tokens of one prompt as they come, up to and with the end token.

    Chosen as the most likely ones, they are those of `decode_greedily`.

    Args:
        model: In evaluation mode.
        prompt: Token ids.
        ending: When the answer ends.
        choose: Takes logits of shape (1, vocabulary), returns the chosen token, of shape (1,).

    Raises:
        ModelError: the architecture keeps no cache of keys and values.
    """
    batch = _Batch(model, [list(prompt)], ending)
    latest = batch.ids
    for _ in range(ending.max_new_tokens):
        chosen = choose(batch.next_logits(latest))
        yield int(chosen)
        if int(chosen) == ending.end_id or time.monotonic() >= ending.deadline:
            return
        latest = chosen.unsqueeze(1)


class _Batch:
    """Rows of a batch, with their cache; all answers grow by one token at a time.

    Attributes:
        ids: The prompts, of shape (rows, longest prompt), padded on the left.
    """

    def __init__(self, model: Model, prompts: Sequence[list[int]], ending: Ending) -> None:
        longest = max(map(len, prompts))
        room = longest + ending.max_new_tokens
        rows = [[ending.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts]
        self.ids = torch.tensor(rows, device=model.device)
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device).unsqueeze(1)
        self._seen = torch.arange(room, device=model.device) >= longest - self._lengths
        # Without padding a model needs no mask, and can take its fastest attention.
        self._padded = min(map(len, prompts)) < longest
        self._model = model
        self._cache = _new_cache(model, room)
        self._filled = 0
        self._takes_positions = "position_ids" in _forward_options(model)

    def next_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Let the model read on, and return how it rates each token as the next one.

        Args:
            ids: Of shape (rows, tokens): what has been added to each row.

        Returns:
            Of shape (rows, vocabulary).
        """
        begin, self._filled = self._filled, self._filled + ids.shape[1]
        options: dict[str, Any] = {}
        if self._padded:
            options["attention_mask"] = self._seen[:, : self._filled]
        if self._takes_positions:
            # Counted from a row's own first token; those of the padding are never looked at.
            columns = torch.arange(begin, self._filled, device=ids.device)
            options["position_ids"] = (columns - (self.ids.shape[1] - self._lengths)).clamp(min=0)
        output = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1, **options)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        """Keep these rows alone, given by number."""
        self._cache.reorder_cache(rows)  # type: ignore[arg-type]
        self._lengths, self._seen = self._lengths[rows], self._seen[rows]


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, in tensors that have room for every token from the start.

    Args:
        room: Tokens per row that there will be at most.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for keys and values shaped like these, of shape (rows, heads, tokens, width)."""
        super().lazy_initialization(key_states, value_states)
        self._all_keys, self._all_values = (
            states.new_empty((*states.shape[:2], self._room, states.shape[3])) for states in (key_states, value_states)
        )

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add tokens, and return the keys and values of all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[2]
        self._all_keys[:, :, begin:end] = key_states
        self._all_values[:, :, begin:end] = value_states
        self.keys, self.values = self._all_keys[:, :, :end], self._all_values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these rows, in this order."""
        end = self.get_seq_length()
        self._all_keys, self._all_values = self._all_keys[beam_idx], self._all_values[beam_idx]
        self.keys, self.values = self._all_keys[:, :, :end], self._all_values[:, :, :end]


def _new_cache(model: Model, room: int) -> DynamicCache:
    """Return an empty cache; layers that keep every token get the room, others (sliding windows) stay as they are."""
    if "past_key_values" not in _forward_options(model):
        raise ModelError(f"{type(_bare(model)).__name__} keeps no cache of keys and values; answering needs one.")
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _forward_options(model: Model) -> Any:
    return inspect.signature(_bare(model).forward).parameters


def _bare(model: Model) -> Model:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
