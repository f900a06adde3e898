"""Trainer calls what ours takes the place of, with the arguments and at the moments that ours counts on."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from medqa_finetune.compat.trainer import AdaptedTrainer, SkippedSteps

# The first arguments of each method, in order, as our overrides take and our calls give them.
ARGUMENTS = {
    "training_step": ["model", "inputs", "num_items_in_batch"],
    "compute_loss": ["model", "inputs", "return_outputs", "num_items_in_batch"],
    "prediction_step": ["model", "inputs"],
    "evaluation_loop": [],
    "evaluate": [],
    "log": ["logs", "start_time"],
    "_prepare_inputs": ["inputs"],
}


@pytest.mark.parametrize("method", ARGUMENTS)
def test_trainer_has_the_method_with_these_arguments(method: str) -> None:
    names = [name for name in inspect.signature(getattr(Trainer, method)).parameters if name != "self"]
    assert names[: len(ARGUMENTS[method])] == ARGUMENTS[method]


def test_trainer_knows_whether_a_loss_is_divided_already(tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    assert isinstance(Trainer(model=Line(), args=arguments).model_accepts_loss_kwargs, bool)


class Line(torch.nn.Module):
    """A model of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


class Noting(AdaptedTrainer):
    """Notes what it is asked, in order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[tuple[Any, ...]] = []

    def take_step(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        losses = [self.backward(model, batch, 4) for batch in item["batches"]]
        weight: Any = model.weight
        self.asked.append(("step", weight.grad.item()))
        return torch.stack(losses).sum()

    def loss_of(self, model: torch.nn.Module, batch: dict[str, Any], tokens: int) -> torch.Tensor:
        self.asked.append(("loss", tokens))
        loss: torch.Tensor = model(batch["x"]).sum() / tokens
        return loss

    def validate_on(self, model: torch.nn.Module, item: dict[str, Any]) -> torch.Tensor:
        self.asked.append(("validate", [type(self.on_device(batch)).__name__ for batch in item["batches"]]))
        return torch.zeros(())

    def validated_loss(self) -> float:
        self.asked.append(("validated",))
        return 0.25


@pytest.fixture
def trainer(tmp_path: Path) -> Noting:
    items = [{"batches": [{"x": torch.tensor([1.0, 2.0])}, {"x": torch.tensor([3.0])}]}]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", max_steps=1, per_device_train_batch_size=1,
        remove_unused_columns=False, save_strategy="no", prediction_loss_only=True, learning_rate=0.0,
        disable_tqdm=True,
    )  # fmt: skip
    return Noting(
        model=Line(), args=arguments, train_dataset=items, eval_dataset=items, data_collator=lambda rows: rows[0]
    )


def test_a_step_adds_up_the_gradients_of_its_batches_undivided(trainer: Noting) -> None:
    """(1 + 2) / 4 and 3 / 4: Trainer must neither divide by a number of batches nor by one of tokens of its own."""
    trainer.train()
    assert trainer.asked == [("loss", 4), ("loss", 4), ("step", 1.5)]


def test_the_loss_of_validation_is_ours(trainer: Noting) -> None:
    assert trainer.evaluate()["eval_loss"] == 0.25
    assert trainer.asked == [("validate", ["dict", "dict"]), ("validated",)]


def test_unwrapping_takes_autocast_off_the_model(tmp_path: Path) -> None:
    def in_half() -> Noting:
        items = [{"batches": [{"x": torch.tensor([1.0, 2.0])}]}]
        arguments = TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, bf16=True, report_to="none", max_steps=1, disable_tqdm=True,
            remove_unused_columns=False, save_strategy="no", per_device_train_batch_size=1,
        )  # fmt: skip
        return Noting(model=Linear(), args=arguments, train_dataset=items, data_collator=lambda rows: rows[0])

    trainer = in_half()
    model: Any = trainer.model
    assert trainer.autocast_dtype() == torch.bfloat16
    trainer.train()
    assert model.seen == [torch.bfloat16]
    model(torch.ones(2))
    # accelerate leaves it on; should it once take it off, `unwrap` has nothing to do.
    assert model.seen == [torch.bfloat16] * 2
    trainer.unwrap()
    model(torch.ones(2))
    assert model.seen[-1] == torch.float32
    assert "forward" not in vars(model)
    trainer.unwrap()


class Linear(Line):
    """A model with a matrix product, whose precision it notes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = self.weight[None] @ x[None]
        self.seen.append(product.dtype)
        return product


def test_pinned_batches_are_copied_without_waiting(trainer: Noting) -> None:
    asked: list[Any] = []

    class Pinned(torch.Tensor):
        def is_pinned(self, *arguments: Any) -> bool:
            return True

        def to(self, *arguments: Any, **options: Any) -> Any:
            asked.append(options.get("non_blocking"))
            return self

    trainer.on_device({"x": torch.ones(2).as_subclass(Pinned), "lengths": [2]})
    assert asked == [True]


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_a_scaler_skips_are_counted(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight], lr=0.5, fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    skips = SkippedSteps(scaler)
    skips.start_at(3, 1)
    counted = []
    for factor in (torch.inf, torch.nan, 1.0, torch.inf):
        before = weight.item()
        scaler.scale(weight.sum() * factor).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        counted.append((*skips.read(), weight.item() == before))
    assert counted == [(4, 2, True), (5, 3, True), (5, 0, False), (6, 1, True)]
