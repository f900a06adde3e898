"""Cross-entropy on answer tokens, without holding the logits of a whole batch in memory."""

import logging
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medqa_finetune.compat.peft import bare
from medqa_finetune.model.estimate import FP32, LOGIT_BYTES_AT_ONCE
from medqa_finetune.training.batches import Batch
from medqa_finetune.training.head_loss import HeadLoss, is_fusible

log = logging.getLogger(__name__)

# Maximum difference from the model's own logits due to rounding, relative to the largest logit.
ROUNDING = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


class AnswerLoss:
    """Computes the loss of a causal language model, with or without adapters.

    Logits are computed from the last hidden states, only where an answer token is predicted, and in chunks that the
    backward pass computes again. For a vocabulary of 152k tokens, logits at every position of a pack would need more
    memory than a 3B model. Some models change the logits of their head (Gemma 2 caps them, Cohere scales them); if the
    first finite batch shows such a change, the model's own logits of the whole batch are used.

    Args:
        model: A causal language model whose `forward` accepts `logits_to_keep`.
    """

    def __init__(self, model: Any) -> None:
        own = bare(model)
        self._head = own.get_output_embeddings()
        self._head_suffices: bool | None = None
        self._body = own.base_model

    def __call__(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy summed over the answer tokens of a batch, in nats: a scalar in fp32, ≥ 0.

        Args:
            model: The model given to the constructor, or a wrapper of it.
            batch: From `concatenate` or `pad_right`.
        """
        inputs = {name: value for name, value in batch.items() if name not in ("positions", "targets")}
        positions, targets = batch["positions"], batch["targets"]
        if self._head_suffices is False:
            logits = model(**inputs, use_cache=False).logits
            return functional.cross_entropy(logits.flatten(0, 1)[positions].float(), targets, reduction="sum")
        # Calls the whole model, since wrappers (autocast, distributed training) hook into its forward pass; it is asked
        # for as few logits as possible.
        outputs: list[Any] = []
        hook = self._body.register_forward_hook(lambda body, arguments, output: outputs.append(output))
        try:
            logits = model(**inputs, use_cache=False, logits_to_keep=1).logits
        finally:
            hook.remove()
        states = outputs[0].last_hidden_state
        if self._head_suffices is None:
            self._head_suffices = self._is_like(logits[:, -1], states[:, -1])
            if self._head_suffices is False:
                log.info("this model changes the logits of its head: those of a whole batch are computed at once")
                return self(model, batch)
        return self._of_states(states.flatten(0, 1)[positions], targets)

    @torch.no_grad()
    def _is_like(self, logits: torch.Tensor, states: torch.Tensor) -> bool | None:
        """Return whether the head alone gives these logits; None where they are not finite, and show nothing."""
        found, expected = self._head(states), logits.float()
        apart, largest = (found.float() - expected).abs().max(), expected.abs().max()
        is_like, shows = torch.stack([apart <= ROUNDING[found.dtype] * largest, torch.isfinite(apart)]).tolist()
        return bool(is_like) if shows else None

    def _of_states(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the summed loss of hidden states of shape (answer tokens, width)."""
        rows = max(1, LOGIT_BYTES_AT_ONCE // (FP32 * self._head.weight.shape[0]))
        if is_fusible(self._head, states):
            loss: torch.Tensor = HeadLoss.apply(states, targets, self._head, rows)  # type: ignore[no-untyped-call]
            return loss
        if len(targets) <= rows:
            return self._of_chunk(states, targets)
        parts = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
        losses = [checkpoint(self._of_chunk, *part, use_reentrant=False) for part in parts]
        return torch.stack(losses).sum()

    def _of_chunk(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self._head(states).float(), targets, reduction="sum")
