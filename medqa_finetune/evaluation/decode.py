"""Greedy decoding of a batch of prompts through a model's forward pass alone.

For small models, `generate` of transformers spends most of its time elsewhere: it copies the whole cache for every
token, and keeps finished rows until the last one has finished. Here the cache is allocated once in full size, and
finished rows are dropped.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_finetune.compat.key_value_cache import KeyValueCache, new_cache
from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.transformers import forward_arguments
from medqa_finetune.errors import Fault, ModelError

# A model with or without adapters; peft and transformers share no typed base that can generate.
Model = Any

# Prompts are read in groups of about so many tokens. On a CPU activations of more leave its caches, and matrix products
# take twice the time; a GPU waits for the launches of a small group.
GROUP_TOKENS = {"cpu": 2048, "cuda": 16384}
# Share of a group's tokens, padding included, that may be padding once it has enough tokens to be worth a pass.
GROUP_PADDING, GROUP_WORTH = 0.1, 0.25
# Finished rows are dropped once they are this share of the batch, since each drop copies the rest of the cache.
LEAVING_SHARE = 1 / 8


@dataclass(frozen=True)
class Ending:
    """When generation of a prediction ends.

    Attributes:
        stop_ids: Tokens that end a prediction; see `model/stop_tokens.py`.
        pad_id: Padding token; masked.
        max_new_tokens: Maximum tokens per prediction.
        deadline: Time of `time.monotonic()`, in seconds, after which no token is added.
    """

    stop_ids: tuple[int, ...]
    pad_id: int
    max_new_tokens: int
    deadline: float = math.inf


# `decode_greedily`, or a function that does the same.
Decode = Callable[[Model, Sequence[list[int]], Ending], list[list[int]]]


@torch.inference_mode()
def decode_greedily(model: Model, prompts: Sequence[list[int]], ending: Ending) -> list[list[int]]:
    """Return the greedily decoded tokens of each prompt, including the one that ended it.

    Args:
        model: In evaluation mode.
        prompts: Token ids; padded on the left here, so that all predictions begin at the same position.
        ending: When generation ends; a prediction of `max_new_tokens` may not have ended.

    Raises:
        ModelError: the architecture has no key-value cache.
    """
    batch = Batch(model, prompts, ending)
    found = torch.full((len(prompts), ending.max_new_tokens), ending.pad_id, device=model.device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    # Index in `found` of each row that is still in the batch.
    places = torch.arange(len(prompts), device=model.device)
    stops = torch.tensor(ending.stop_ids, device=model.device)
    latest = batch.ids
    for step in range(ending.max_new_tokens):
        latest = most_likely(batch.next_logits(latest))
        found[places, step] = latest
        ended |= torch.isin(latest, stops)
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
    return [up_to_end(row, ending.stop_ids) for row in rows]


def up_to_end(row: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """Return the tokens of a row up to the first that ends it."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
    return row[: end + 1]


def most_likely(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely token of each row, int64, of shape (rows,); `logits` is of shape (rows, vocabulary)."""
    return logits.argmax(-1)


@torch.inference_mode()
def stream_tokens(
    model: Model,
    prompt: Sequence[int],
    ending: Ending,
    choose: Callable[[torch.Tensor], torch.Tensor] = most_likely,
) -> Iterator[int]:
    """Yield the next tokens of one prompt as they are generated, including the one that ends them.

    With the default `choose`, they are those of `decode_greedily`.

    Args:
        model: In evaluation mode.
        prompt: Token ids.
        ending: When generation ends.
        choose: Maps logits of shape (1, vocabulary) to the chosen token, of shape (1,).

    Raises:
        ModelError: the architecture has no key-value cache.
    """
    batch = Batch(model, [list(prompt)], ending)
    latest = batch.ids
    for _ in range(ending.max_new_tokens):
        chosen = choose(batch.next_logits(latest))
        yield int(chosen)
        if int(chosen) in ending.stop_ids or time.monotonic() >= ending.deadline:
            return
        latest = chosen.unsqueeze(1)


class Batch:
    """Rows of a batch with their key-value cache; every row grows by one token at a time.

    Attributes:
        ids: The prompts, of shape (rows, longest prompt), padded on the left.
        lengths: Their tokens without padding, of shape (rows, 1).
        seen: For every place whether it is none of padding, of shape (rows, room).
        takes_positions: Whether the model is given positions.
    """

    def __init__(
        self, model: Model, prompts: Sequence[list[int]], ending: Ending, cache: KeyValueCache | None = None
    ) -> None:
        self._prompt_lengths = [len(prompt) for prompt in prompts]
        longest = max(self._prompt_lengths)
        room = longest + ending.max_new_tokens
        rows = [[ending.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts]
        self.ids = torch.tensor(rows, device=model.device)
        self.lengths = torch.tensor(self._prompt_lengths, device=model.device).unsqueeze(1)
        self.seen = torch.arange(room, device=model.device) >= longest - self.lengths
        # Without padding a model needs no mask, and can use its fastest attention kernel.
        self._padded = min(self._prompt_lengths) < longest
        self._model = model
        cache = cache or new_cache(bare(model), room)
        if cache is None:
            raise no_cache(model)
        self._cache: KeyValueCache = cache
        self._filled = 0
        self.takes_positions = "position_ids" in forward_arguments(bare(model))

    def next_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Run the model on new tokens and return the logits of the next token.

        Args:
            ids: New tokens, of shape (rows, tokens).

        Returns:
            Logits of shape (rows, vocabulary).
        """
        if self._filled == 0 and self._cache.takes_groups():
            return self._read_in_groups(ids)
        begin, self._filled = self._filled, self._filled + ids.shape[1]
        rows = slice(0, len(ids))
        return self._logits(ids, rows, (begin, self._filled), padded=self._padded)

    def _read_in_groups(self, ids: torch.Tensor) -> torch.Tensor:
        """Read the prompts a group of rows at a time, each padded to the longest of its group alone."""
        logits, self._filled = [], ids.shape[1]
        for rows in groups_of(self._prompt_lengths, GROUP_TOKENS.get(ids.device.type, GROUP_TOKENS["cuda"])):
            lengths = self._prompt_lengths[rows]
            ahead = self._filled - max(lengths)
            self._cache.begin_group(rows, ahead, len(ids))
            padded = min(lengths) < max(lengths)
            logits.append(self._logits(ids[rows, ahead:], rows, (ahead, self._filled), padded=padded))
        self._cache.end_groups(self._filled)
        return torch.cat(logits)

    def _logits(self, ids: torch.Tensor, rows: slice, places: tuple[int, int], *, padded: bool) -> torch.Tensor:
        """Return the logits of the next token of some rows, whose new tokens go to these places."""
        begin, end = places
        first = end - ids.shape[1] if self._cache.tokens() == 0 else 0
        options: dict[str, Any] = self._cache.as_argument()
        if padded:
            options["attention_mask"] = self.seen[rows, first:end]
        if self.takes_positions:
            # Positions count from a row's first token; those of padding are masked.
            columns = torch.arange(begin, end, device=ids.device)
            options["position_ids"] = (columns - (self.ids.shape[1] - self.lengths[rows])).clamp(min=0)
        output = self._model(input_ids=ids, use_cache=True, logits_to_keep=1, **options)
        if self._cache.tokens() != end - first:
            raise no_cache(self._model)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows; `rows` holds their indices, int64."""
        self._cache.keep(rows)
        self.lengths, self.seen = self.lengths[rows], self.seen[rows]


def groups_of(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Yield consecutive rows whose prompts are read together.

    Args:
        lengths: Tokens of each prompt; padding is least where they are sorted.
        tokens: Most tokens of a group, padding included, unless it is a single row.
    """
    begin, longest, held = 0, 0, 0
    for row, length in enumerate(lengths):
        padded = max(longest, length) * (row - begin + 1)
        is_worth = padded >= GROUP_WORTH * tokens
        if row > begin and (padded > tokens or (is_worth and held + length < (1 - GROUP_PADDING) * padded)):
            yield slice(begin, row)
            begin, longest, held = row, 0, 0
        longest, held = max(longest, length), held + length
    yield slice(begin, len(lengths))


def no_cache(model: Model) -> ModelError:
    """Return the error for a model without a key-value cache."""
    problem = f"{type(bare(model)).__name__} keeps no cache of keys and values, and answering needs one"
    return ModelError(Fault("no-cache", problem, key="model", hint="Use another model."))
