"""A training that was stopped and resumed ends with the same bits as one that was not.

LoRA is stopped at every place, each other method at one of them; the nightly job stops every method everywhere.
"""

import functools
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.stopping import Interrupted, stoppable
from medqa_finetune.training import trainer as trainer_module
from medqa_finetune.training.trainer import MeteredTrainer
from tests.training.trial import Trial, make_config, train

# 48 examples in batches of 10 give 5 steps an epoch, the last one smaller; steps 6 to 10 are the second epoch.
# The curves have a point at every third step, so that some checkpoints lie between two of them.
COMMON: dict[str, Any] = {"epochs": 2, "batch_size": 10, "micro_batch": 5, "logging_steps": 3, "validations": 3}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"dropout": 0.1},
    "nf4": {"dropout": 0.1, "quantization": "nf4", "double_quantization": True},
    "full": {"trains": "all", "optimizer_without_cuda": "adamw_torch_fused"},
    "pissa": {"trains": "pissa", "dropout": 0.1},
    "dora_loraplus": {"dropout": 0.1, "dora": True, "rslora": True, "loraplus_ratio": 16.0},
}
STOPS = {"first": [2], "boundary": [5], "second": [7], "often": [1, 4, 9, 10]}
QUICK = {
    *(("lora", where) for where in STOPS),
    ("nf4", "second"),
    ("full", "first"),
}


def stopped_then_resumed(folder: Path, outputs: Path, config: Config, stops: list[int]) -> Trial:
    """Train until each of the given steps, asked to stop in the middle of it, and then to the end."""
    for step in stops:
        stop_at(folder, outputs, config, step)
    return train(folder, outputs, config)


def stop_at(folder: Path, outputs: Path, config: Config, step: int) -> None:
    """Train until a step, from a checkpoint where there is one, and be stopped in the middle of it."""
    with stoppable() as stop, pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeteredTrainer, "training_step", _signalling(step))
        with pytest.raises(Interrupted):
            train(folder, outputs, config, stop)


def _signalling(step: int) -> Any:
    original = MeteredTrainer.training_step

    def training_step(self: MeteredTrainer, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments, **options)

    return training_step


def bits(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("tokens_per_second", "peak_rss_gib", "vram_allocated_gib", "vram_reserved_gib")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trial]:
    """Trains with a method without a stop, once for all tests of it."""

    @functools.cache
    def trained(name: str) -> Trial:
        return train(micro_model, tmp_path_factory.mktemp("whole"), make_config(METHODS[name], **COMMON))

    return trained


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        pytest.param(name, stops, id=f"{name}-{where}", marks=[] if (name, where) in QUICK else [pytest.mark.slow])
        for name in METHODS
        for where, stops in STOPS.items()
    ],
)
def test_resumed_training_is_bit_equal(
    micro_model: Path, tmp_path: Path, undisturbed: Callable[[str], Trial], name: str, stops: list[int]
) -> None:
    config, whole = make_config(METHODS[name], **COMMON), undisturbed(name)
    resumed = stopped_then_resumed(micro_model, tmp_path / "resumed", config, stops)
    assert bits(resumed.run.adapter_path) == bits(whole.run.adapter_path)
    assert without_times(resumed.rows) == without_times(whole.rows)
    assert resumed.record.best_step == whole.record.best_step
    counted = (
        "samples", "tokens", "answer_tokens", "steps", "epochs", "final_train_loss", "best_validation_loss",
        "weight_change",
    )  # fmt: skip
    assert [getattr(resumed.record, key) for key in counted] == [getattr(whole.record, key) for key in counted]


def test_checkpoint_without_its_curve_is_not_used(
    micro_model: Path, tmp_path: Path, undisturbed: Callable[[str], Trial], caplog: pytest.LogCaptureFixture
) -> None:
    config, whole = make_config(METHODS["lora"], **COMMON), undisturbed("lora")
    run = tmp_path / "resumed" / "run"

    stop_at(micro_model, tmp_path / "resumed", config, 7)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[1:]))
    resumed = train(micro_model, tmp_path / "resumed", config)
    assert "lacks 1 points before step 7" in caplog.text
    assert without_times(resumed.rows) == without_times(whole.rows)
    assert bits(resumed.run.adapter_path) == bits(whole.run.adapter_path)


def test_a_checkpoint_of_an_earlier_version_goes_on_without_fused_adapters(micro_model: Path, tmp_path: Path) -> None:
    old = make_config(METHODS["lora"], **COMMON, fused_adapters=False)
    whole = train(micro_model, tmp_path / "whole", old)
    with pytest.MonkeyPatch.context() as patch:
        # As a record of that version: without the key.
        patch.setattr(trainer_module, "asdict", lambda progress: without(asdict(progress), "fused_adapters"))
        stop_at(micro_model, tmp_path / "resumed", old, 7)
    resumed = train(micro_model, tmp_path / "resumed", make_config(METHODS["lora"], **COMMON))
    assert resumed.record.fused_adapters is False
    assert bits(resumed.run.adapter_path) == bits(whole.run.adapter_path)


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
