"""transformers: the cache of keys and values, attention, and names that moved between releases."""

import dataclasses
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel, TrainingArguments
from transformers.cache_utils import DynamicLayer
from transformers.pytorch_utils import Conv1D
from transformers.training_args import OptimizerNames

__all__ = ["Conv1D"]

# What `forward` calls the cache that it takes: the second name until 5.23, the first from 5.24 on, which takes the
# second as well, with a deprecation, until 5.40.
CACHE_ARGUMENTS = ("cache", "past_key_values")
TRIAL_TOKENS = 2
# The switch of gradient checkpointing: the second name until 5.22.
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def forward_arguments(model: Any) -> Collection[str]:
    """Return the names of the arguments that a model's own `forward` takes."""
    return inspect.signature(model.forward).parameters


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


def cache_argument(model: Any) -> str | None:
    """Return by which argument of `forward` a model takes a cache, None where it takes none.

    Where no known name is among its arguments, the name by which a tiny forward pass gives a cache back is tried: a
    model takes it by the same, whatever a release calls it.
    """
    names = forward_arguments(model)
    known = next((name for name in CACHE_ARGUMENTS if name in names), None)
    if known is not None:
        return known
    try:
        given = _tiny_pass(model)
    except Exception:  # whatever a model raises that is used in no other way before
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
    """A cache of keys and values, and how a model is given it.

    Attributes:
        argument: Of `forward`.
        cache: As transformers has it.
    """

    argument: str
    cache: DynamicCache

    def as_argument(self) -> dict[str, Any]:
        """Return the cache object to pass to a forward pass."""
        return {self.argument: self.cache}

    def tokens(self) -> int:
        """Return the tokens per row, including padding."""
        return int(self.cache.get_seq_length())

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows, given by index."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]


def new_cache(model: Any, room: int) -> KeyValueCache | None:
    """Return an empty cache for a model, None where it keeps no keys and values.

    Layers that keep every token get the room; others, such as those with a sliding window, stay as transformers has
    them. The name of the argument says nothing of what is kept: since 5.24 Mamba's states come by `cache` too. So it is
    judged by the kinds of the cache's layers; and one that a model does not fill stays at 0 tokens.

    Args:
        model: Without adapters.
        room: Tokens per row that there will be at most.
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
    """Say whether a model keeps the keys and values of each token in a cache that it is given: a tiny pass shows it.

    On the meta device a pass may be impossible, for example where experts are chosen by values that are not there; the
    kinds of the cache's layers decide then.

    Args:
        model: Without adapters, on any device.
    """
    cache = new_cache(model, TRIAL_TOKENS)
    if cache is None:
        return False
    try:
        _tiny_pass(model, logits_to_keep=1, **cache.as_argument())
    except RuntimeError:  # of operators, which lack values on the meta device
        return True
    except Exception:  # of a model that has another kind of cache, and says so or stumbles over ours
        return False
    return cache.tokens() == TRIAL_TOKENS


def head_width(attention: Any) -> int:
    """Return the width of the heads of an attention layer of Llama, Phi or Qwen2."""
    return int(attention.head_dim)


def share_keys(attention: Any, heads_per_key: int) -> None:
    """Set how many heads of an attention layer of Llama, Phi or Qwen2 share one head of keys and values."""
    attention.num_key_value_groups = heads_per_key


def torch_attention() -> Callable[..., tuple[torch.Tensor, None]]:
    """Return transformers' own function around torch's `scaled_dot_product_attention`."""
    found: Callable[..., tuple[torch.Tensor, None]] = AttentionInterface()["sdpa"]  # type: ignore[no-untyped-call]
    return found


def takes_attention(model: PreTrainedModel) -> bool:
    """Say whether `set_attn_implementation` has an effect on a model; elsewhere it warns and changes nothing."""
    return bool(model._can_set_attn_implementation())


@contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use the registered attention function `name` in a model without adapters while the block runs."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def is_quantized(model: Any) -> bool:
    """Say whether a model holds quantized weights."""
    return bool(getattr(model, "is_quantized", False))


def is_eight_bit(model: Any) -> bool:
    """Say whether a model holds 8-bit weights of bitsandbytes."""
    return bool(getattr(model, "is_loaded_in_8bit", False))


def dequantize(model: Any) -> Any:
    """Return a quantized model dequantized; silences the warning of transformers that this takes memory."""
    logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)
    return model.dequantize()


def tied_weights(model: Any) -> Mapping[str, str]:
    """Return tied weights with the name of the weight that they are tied to."""
    tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    return tied


def optimizer_names() -> list[str]:
    """Return the names of the optimizers that `TrainingArguments(optim=…)` takes."""
    return [str(each.value) for each in OptimizerNames]


def optimizer_name(arguments: TrainingArguments) -> str:
    """Return the name of the optimizer that training arguments ask for."""
    return str(OptimizerNames(arguments.optim).value)


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Stop Trainer from splitting each batch over all visible GPUs (DataParallel)."""
    arguments._n_gpu = min(1, arguments.n_gpu)


def checkpointing_options(on: bool) -> dict[str, Any]:
    """Return the arguments of `TrainingArguments` that switch gradient checkpointing, the non-reentrant one."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = next(name for name in CHECKPOINTING if name in known)
    return {name: on, f"{name}_kwargs": {"use_reentrant": False}}


@contextmanager
def gradient_checkpointing(model: Any) -> Iterator[None]:
    """Let a model, with adapters or without, checkpoint its gradients while the block runs."""
    name = next(name for name in CHECKPOINTING if hasattr(model, f"{name}_enable"))
    getattr(model, f"{name}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()
