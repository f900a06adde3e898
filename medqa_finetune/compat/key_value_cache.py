"""transformers' caches of keys and values, with layers that allocate once or keep their shapes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from medqa_finetune.compat.transformers import forward_arguments

# Names of `forward`'s cache argument: the second until 5.23, the first from 5.24 on, which accepts the second as well,
# with a deprecation warning, until 5.40.
CACHE_ARGUMENTS = ("cache", "past_key_values")
TRIAL_TOKENS = 2


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Cached keys and values of one layer, in tensors that are allocated once for all tokens.

    Args:
        room: Most tokens per row.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room
        self._group: tuple[slice, int, int] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate tensors for keys and values like these, of shape (rows, heads, tokens, width)."""
        super().lazy_initialization(key_states, value_states)
        self._all_keys, self._all_values = (
            states.new_empty((*states.shape[:2], self._room, states.shape[3])) for states in (key_states, value_states)
        )

    def begin_group(self, rows: slice, ahead: int, of: int) -> None:
        """Let the next pass read the prompts of some rows, as if there were no others.

        Args:
            rows: The rows.
            ahead: Places of padding before the longest of these prompts.
            of: Number of all rows.
        """
        self._group = (rows, ahead, of)
        self.is_initialized = False

    def end_groups(self, tokens: int) -> None:
        """Show all rows again, with so many tokens each."""
        self._group = None
        self.is_initialized = True
        self.keys, self.values = self._all_keys[:, :, :tokens], self._all_values[:, :, :tokens]

    def _store_group(self, states: Sequence[torch.Tensor], rows: slice, ahead: int, of: int) -> None:
        """Store the keys and values of the prompts of some rows."""
        if rows.start == 0:
            self._all_keys, self._all_values = (
                each.new_empty((of, each.shape[1], self._room, each.shape[3])) for each in states
            )
        for stored, each in zip((self._all_keys, self._all_values), states, strict=True):
            # What is masked is multiplied by 0, which infinite numbers would survive.
            stored[rows, :, :ahead] = 0
            stored[rows, :, ahead : ahead + each.shape[2]] = each

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append tokens, and return the keys and values of all tokens so far, of shape (rows, heads, tokens, width)."""
        if self._group is not None:
            self._store_group((key_states, value_states), *self._group)
            self.is_initialized = True
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[2]
        self._all_keys[:, :, begin:end] = key_states
        self._all_values[:, :, begin:end] = value_states
        self.keys, self.values = self._all_keys[:, :, :end], self._all_values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        end = self.get_seq_length()
        self._all_keys, self._all_values = (
            self._only(states, beam_idx, end) for states in (self._all_keys, self._all_values)
        )
        self.keys, self.values = self._all_keys[:, :, :end], self._all_values[:, :, :end]

    def _only(self, states: torch.Tensor, rows: torch.Tensor, tokens: int) -> torch.Tensor:
        """Return some rows; no place is copied that holds no token yet."""
        kept = states.new_empty((len(rows), *states.shape[1:]))
        torch.index_select(states.detach()[:, :, :tokens], 0, rows, out=kept[:, :, :tokens])
        return kept


def cache_argument(model: Any) -> str | None:
    """Return the argument of `forward` that takes a cache, None where there is none.

    Where it has no known name, a tiny forward pass returns a cache under some name; models take it under the same name.
    """
    names = forward_arguments(model)
    known = next((name for name in CACHE_ARGUMENTS if name in names), None)
    if known is not None:
        return known
    try:
        given = _tiny_pass(model)
    except Exception:  # the first call of an unknown model may raise anything
        return None
    return next((name for name, value in given.items() if isinstance(value, Cache) and name in names), None)


def _tiny_pass(model: Any, **options: Any) -> Mapping[str, Any]:
    """Return a model's output for two tokens; its training mode is restored."""
    ids = torch.zeros((1, TRIAL_TOKENS), dtype=torch.long, device=model.device)
    was_training = model.training
    try:
        with torch.no_grad():
            output: Mapping[str, Any] = model.eval()(input_ids=ids, use_cache=True, **options)
    finally:
        model.train(was_training)
    return output


@dataclasses.dataclass(frozen=True)
class KeyValueCache:
    """A key-value cache, and the argument that passes it to a model.

    Attributes:
        argument: Name of the argument of `forward`.
        cache: The cache of transformers.
    """

    argument: str
    cache: DynamicCache

    def as_argument(self) -> dict[str, Any]:
        """Return the cache as a keyword argument of a forward pass."""
        return {self.argument: self.cache}

    def tokens(self) -> int:
        """Return the number of tokens per row, including padding."""
        return int(self.cache.get_seq_length())

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows; `rows` are indices."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]

    def takes_groups(self) -> bool:
        """Return whether prompts can be read some rows at a time: all layers keep every token of every row."""
        return all(isinstance(layer, RoomyLayer) for layer in self.cache.layers)

    def begin_group(self, rows: slice, ahead: int, of: int) -> None:
        """Let the next pass read the prompts of some of all rows; see `RoomyLayer`."""
        for layer in self._roomy():
            layer.begin_group(rows, ahead, of)

    def end_groups(self, tokens: int) -> None:
        """Show all rows again, once the prompts of all are read."""
        for layer in self._roomy():
            layer.end_groups(tokens)

    def _roomy(self) -> list[RoomyLayer]:
        return [layer for layer in self.cache.layers if isinstance(layer, RoomyLayer)]


class FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Cached keys and values of one layer, in tensors that outlive a batch and have the same shape in every step.

    First the prompts are read, as by other layers; then `shown` says which rows and tokens a step attends to.

    Args:
        place: Where the keys and values of the next token go, int64, of shape (1,).
    """

    def __init__(self, place: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._place = place
        self._all_keys: torch.Tensor | None = None
        self._all_values: torch.Tensor | None = None
        self.begin(0, 0)

    def begin(self, rows: int, room: int) -> None:
        """Prepare for the prompts of another batch of at most so many rows, and tokens each."""
        self._rows, self._room, self._read = rows, room, 0
        self.shown: tuple[int, int] | None = None

    def release(self) -> None:
        """Free the tensors."""
        self._all_keys = self._all_values = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new tokens, and return the keys and values to attend to, of shape (rows, heads, tokens, width)."""
        if self._all_keys is None or self._all_values is None:
            self.is_initialized = True
            # Of zeros: what is masked is multiplied by 0, which infinite numbers would survive.
            self._all_keys, self._all_values = (
                states.new_zeros((self._rows, states.shape[1], self._room, states.shape[3]))
                for states in (key_states, value_states)
            )
        if self.shown is None:
            rows, _, self._read, _ = key_states.shape
            self._all_keys[:rows, :, : self._read] = key_states
            self._all_values[:rows, :, : self._read] = value_states
            return key_states, value_states
        rows, window = self.shown
        keys, values = self._all_keys[:rows, :, :window], self._all_values[:rows, :, :window]
        keys.index_copy_(2, self._place, key_states)
        values.index_copy_(2, self._place, value_states)
        return keys, values

    def get_seq_length(self) -> int:
        """Return the tokens of the prompts."""
        return self._read

    def keep_first(self, rows: torch.Tensor, tokens: int) -> None:
        """Move these rows, and so many tokens of each, to the front."""
        for states in (self._all_keys, self._all_values):
            if states is not None:
                states[: len(rows), :, :tokens] = states[rows, :, :tokens]


@dataclasses.dataclass(frozen=True)
class FixedCache(KeyValueCache):
    """A cache whose layers are `FixedLayer`s."""

    def begin(self, rows: int, room: int) -> None:
        """Prepare for another batch, see `FixedLayer`."""
        for layer in self._layers():
            layer.begin(rows, room)

    def shown(self, rows: int, window: int) -> dict[str, Any]:
        """Return the cache as an argument of a step with these rows that attends to this many tokens."""
        for layer in self._layers():
            layer.shown = (rows, window)
        return self.as_argument()

    def keep_first(self, rows: torch.Tensor, tokens: int) -> None:
        """Move these rows to the front."""
        for layer in self._layers():
            layer.keep_first(rows, tokens)

    def release(self) -> None:
        """Free all keys and values."""
        for layer in self._layers():
            layer.release()

    def _layers(self) -> list[FixedLayer]:
        return [layer for layer in self.cache.layers if isinstance(layer, FixedLayer)]


def fixed_cache(model: Any, place: torch.Tensor) -> FixedCache | None:
    """Return a cache of fixed shapes for a model without adapters; None where a layer does not keep every token."""
    argument = cache_argument(model)
    if argument is None:
        return None
    cache = DynamicCache(config=model.config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [FixedLayer(place) for _ in cache.layers]
    return FixedCache(argument, cache)


def new_cache(model: Any, room: int) -> KeyValueCache | None:
    """Return an empty cache for a model, None where it has no key-value cache.

    Layers that keep every token get preallocated tensors; others, such as those with a sliding window, stay those of
    transformers. The name of the argument does not show what is cached: since 5.24 Mamba's states use `cache` too. So
    the kinds of the cache's layers decide; a cache that a model does not fill stays at 0 tokens.

    Args:
        model: A model without adapters.
        room: Most tokens per row.
    """
    argument = cache_argument(model)
    if argument is None:
        return None
    cache = DynamicCache(config=model.config)
    if not any(isinstance(layer, DynamicLayer) for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return KeyValueCache(argument, cache)


def keeps_keys_and_values(model: Any) -> bool:
    """Return whether a model fills a given cache with keys and values of each token, as a tiny pass shows.

    On the meta device a pass may be impossible, for example where values select experts; the kinds of the cache's
    layers decide then.

    Args:
        model: A model without adapters, on any device.
    """
    cache = new_cache(model, TRIAL_TOKENS)
    if cache is None:
        return False
    try:
        _tiny_pass(model, logits_to_keep=1, **cache.as_argument())
    except RuntimeError:  # operators without values on the meta device
        return True
    except Exception:  # models with another kind of cache fail in their own ways
        return False
    return cache.tokens() == TRIAL_TOKENS
