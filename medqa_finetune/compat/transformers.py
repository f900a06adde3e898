"""transformers: the cache of keys and values, attention, and names that moved between releases."""

import dataclasses
import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Cache,
    DynamicCache,
    PreTrainedModel,
    TrainingArguments,
)
from transformers.cache_utils import DynamicLayer
from transformers.pytorch_utils import Conv1D
from transformers.training_args import OptimizerNames

__all__ = ["Conv1D"]

# Names of `forward`'s cache argument: the second until 5.23, the first from 5.24 on, which accepts the second as well,
# with a deprecation warning, until 5.40.
CACHE_ARGUMENTS = ("cache", "past_key_values")
TRIAL_TOKENS = 2
# Names of the option of gradient checkpointing: the second until 5.22.
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def forward_arguments(model: Any) -> Collection[str]:
    """Return the names of the arguments that a model's own `forward` takes."""
    return inspect.signature(model.forward).parameters


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Cached keys and values of one layer, in tensors that are allocated once for all tokens.

    Args:
        room: Most tokens per row.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate tensors for keys and values like these, of shape (rows, heads, tokens, width)."""
        super().lazy_initialization(key_states, value_states)
        self._all_keys, self._all_values = (
            states.new_empty((*states.shape[:2], self._room, states.shape[3])) for states in (key_states, value_states)
        )

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append tokens, and return the keys and values of all tokens so far, of shape (rows, heads, tokens, width)."""
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


def head_width(attention: Any) -> int:
    """Return the width of the heads of an attention layer of Llama, Phi or Qwen2."""
    return int(attention.head_dim)


def share_keys(attention: Any, heads_per_key: int) -> None:
    """Set how many heads share one key-value head in an attention layer of Llama, Phi or Qwen2."""
    attention.num_key_value_groups = heads_per_key


Attend = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
# The name of the attention that every model's own module defines, and of the function there.
EAGER, EAGER_FUNCTION = "eager", "eager_attention_forward"


def torch_attention() -> Attend:
    """Return transformers' wrapper of torch's `scaled_dot_product_attention`."""
    found: Attend = AttentionInterface()["sdpa"]  # type: ignore[no-untyped-call]
    return found


def torch_attention_mask() -> Callable[..., Any]:
    """Return the function that builds the mask of `torch_attention`."""
    found: Callable[..., Any] = AttentionMaskInterface()["sdpa"]  # type: ignore[no-untyped-call]
    return found


def eager_attention(module: torch.nn.Module) -> Attend | None:
    """Return the attention function of the file that defines an attention layer; None where it has none.

    It knows what torch's does not: limits of scores in Gemma 2, sinks in gpt-oss.
    """
    found: Attend | None = getattr(sys.modules.get(type(module).__module__), EAGER_FUNCTION, None)
    return found


def attention_name(model: PreTrainedModel) -> str:
    """Return the name of a model's attention function, such as `sdpa` or `eager`."""
    return str(model.config._attn_implementation)


def takes_attention(model: PreTrainedModel) -> bool:
    """Return whether `set_attn_implementation` has an effect on a model; elsewhere it only warns."""
    return bool(model._can_set_attn_implementation())


@contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use the registered attention function `name` in a model without adapters while the block runs."""
    before = attention_name(model)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def is_quantized(model: Any) -> bool:
    """Return whether a model has quantized weights."""
    return bool(getattr(model, "is_quantized", False))


def is_eight_bit(model: Any) -> bool:
    """Return whether a model has 8-bit weights of bitsandbytes."""
    return bool(getattr(model, "is_loaded_in_8bit", False))


def dequantize(model: Any) -> Any:
    """Return the dequantized model; silences transformers' warning about the memory that this needs."""
    logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)
    return model.dequantize()


def is_kept_in_fp32(model: Any, name: str, dtype: torch.dtype) -> bool:
    """Return whether transformers loads a weight in fp32 although half precision is asked for, as some routers."""
    kept = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept |= set(model._keep_in_fp32_modules or ())
    return any(re.search(re.escape(each).replace(r"\*", ".*"), name) for each in kept)


def tied_weights(model: Any) -> Mapping[str, str]:
    """Return the names of tied weights, each with the name of the weight it is tied to."""
    tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    return tied


def forget_ties(model: Any) -> None:
    """Let a model whose tied weights have become apart save and load them as such."""
    model.all_tied_weights_keys = {}
    for settings in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
        settings.tie_word_embeddings = False


def optimizer_names() -> list[str]:
    """Return the names of the optimizers that `TrainingArguments(optim=…)` takes."""
    return [str(each.value) for each in OptimizerNames]


def optimizer_name(arguments: TrainingArguments) -> str:
    """Return the optimizer name in training arguments."""
    return str(OptimizerNames(arguments.optim).value)


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Stop Trainer from splitting each batch over all visible GPUs (DataParallel)."""
    arguments._n_gpu = min(1, arguments.n_gpu)


def checkpointing_options(on: bool) -> dict[str, Any]:
    """Return the arguments of `TrainingArguments` that enable or disable non-reentrant gradient checkpointing."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = next(name for name in CHECKPOINTING if name in known)
    return {name: on, f"{name}_kwargs": {"use_reentrant": False}}


@contextmanager
def gradient_checkpointing(model: Any) -> Iterator[None]:
    """Enable gradient checkpointing in a model, with or without adapters, while the block runs."""
    name = next(name for name in CHECKPOINTING if hasattr(model, f"{name}_enable"))
    getattr(model, f"{name}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()
