"""Fifty steps without padding against a padded reference in plain torch: the same losses, the same gradients."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.data.examples import IGNORED
from medqa_finetune.data.token_sets import Item
from medqa_finetune.training import fit as fit_module
from medqa_finetune.training.batches import Collator, Step
from medqa_finetune.training.trainer import MeteredTrainer
from tests.training.trial import make_config, train

STEPS = 50
TOLERANCE = 1e-5
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "nf4": {"quantization": "nf4", "double_quantization": True},
    "full": {"trains": "all"},
    "dora": {"dora": True, "rslora": True},
}
# A budget of three of the longest examples: every step of 8 takes several packs, gradients are accumulated over them.
LAYOUTS: dict[str, dict[str, Any]] = {
    "packed": {"gradient_checkpointing": False},
    "packed_checkpointed_accumulated": {"gradient_checkpointing": True, "micro_batch": 3, "max_length": 48},
    "padded_accumulated": {"gradient_checkpointing": True, "micro_batch": 3, "packing": False},
}


def padded_reference(model: Any, items: list[dict[str, list[int]]]) -> tuple[float, list[torch.Tensor]]:
    """The mean loss over the answer tokens of a step, and its gradients: one padded batch, whole logits, no hook."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    ours = base.config._attn_implementation
    base.set_attn_implementation("eager")
    longest = max(len(item["input_ids"]) for item in items)
    rows = [(item, longest - len(item["input_ids"])) for item in items]
    logits = model(
        input_ids=torch.tensor([item["input_ids"] + [0] * gap for item, gap in rows]),
        attention_mask=torch.tensor([[1] * (longest - gap) + [0] * gap for _, gap in rows]),
        use_cache=False,
    ).logits
    labels = torch.tensor([item["labels"] + [IGNORED] * gap for item, gap in rows])
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORED)
    gradients = torch.autograd.grad(loss, trained(model))
    base.set_attn_implementation(ours)
    return loss.item(), list(gradients)


def trained(model: Any) -> list[torch.Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


class StepWithItems(Step):
    """A step with the examples that it was made of."""

    items: Sequence[Item]


class KeepingItems(Collator):
    """Adds the examples of a step to its batches."""

    def __call__(self, items: Sequence[Item]) -> StepWithItems:
        return {**super().__call__(items), "items": items}


def largest_difference(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """The largest difference of any number, as a share of the largest number."""
    apart = max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True))
    return apart / max(b.abs().max().item() for b in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_equal_the_padded_reference(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, layout: str
) -> None:
    config = make_config(METHODS[method], max_steps=STEPS, epochs=100, validations=1, **LAYOUTS[layout])
    differences: list[tuple[float, float]] = []

    original = MeteredTrainer.training_step

    def training_step(self: MeteredTrainer, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        loss, gradients = padded_reference(model.train(), inputs["items"])
        found = original(self, model, inputs, *rest, **options)
        ours = [weight.grad for weight in trained(model) if weight.grad is not None]
        differences.append((abs(found.item() - loss) / loss, largest_difference(ours, gradients)))
        return found

    monkeypatch.setattr(fit_module, "Collator", KeepingItems)
    monkeypatch.setattr(MeteredTrainer, "training_step", training_step)
    train(micro_model, tmp_path, config)
    losses, gradients = zip(*differences, strict=True)
    assert len(losses) == STEPS
    assert max(losses) <= TOLERANCE
    assert max(gradients) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_fused_adapters_train_as_those_of_peft(micro_model: Path, tmp_path: Path, checkpointing: bool) -> None:
    losses = []
    for fused in (False, True):
        config = make_config(
            max_steps=STEPS, epochs=100, validations=1, gradient_checkpointing=checkpointing, fused_adapters=fused
        )
        trial = train(micro_model, tmp_path / str(fused), config)
        assert trial.record.fused_adapters is fused
        losses.append(trial.column("loss"))
    assert len(losses[0]) == STEPS
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE)
