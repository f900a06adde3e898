"""Steps that fp16's gradient scaler skips: counted, shown, kept through stops, and never a result of their own."""

from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import EXIT_RUN_FAILED, RunError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.training import trainer as trainer_module
from tests.faulty import only_fault
from tests.training.half import fp16_on_a_cpu
from tests.training.test_resume import bits, stopped_then_resumed
from tests.training.trial import Trial, make_config, train

# Halved five times before the micro model's gradients are finite.
TOO_LARGE, SKIPPED = 2.0**24, 5
HOPELESS = 2.0**60


def config_of(optimizer: str = "adamw_torch_fused", method: dict[str, Any] | None = None, **settings: Any) -> Config:
    chosen = {"optimizer_without_cuda": optimizer} | (method or {})
    usual = {"max_steps": 8, "epochs": 2, "validations": 2, "gradient_checkpointing": False}
    return make_config(chosen, **(usual | settings))


@pytest.fixture(scope="module")
def skipping(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    with fp16_on_a_cpu(TOO_LARGE):
        return train(micro_model, tmp_path_factory.mktemp("skipping"), config_of())


def test_skipped_steps_are_counted_and_shown(skipping: Trial) -> None:
    assert skipping.record.skipped_steps == SKIPPED
    assert skipping.column("skipped_steps") == [min(step, SKIPPED) for step in range(1, 9)]
    assert skipping.record.weight_change is not None
    assert skipping.record.weight_change > 0


def test_the_rate_follows_all_steps_whatever_the_optimizer(skipping: Trial, micro_model: Path, tmp_path: Path) -> None:
    with fp16_on_a_cpu(TOO_LARGE):
        # The first one skips in its kernel, unseen by accelerate and Trainer; this one is not called.
        other = train(micro_model, tmp_path, config_of("adamw_torch"))
    assert other.record.skipped_steps == SKIPPED
    assert other.column("learning_rate") == skipping.column("learning_rate")
    assert skipping.column("learning_rate")[-1] < 0.1 * skipping.column("learning_rate")[0]


def test_a_validation_before_anything_trained_keeps_no_weights(skipping: Trial) -> None:
    # The first one comes after four skipped steps.
    assert [row["step"] for row in skipping.rows if "eval_loss" in row] == [4, 8]
    assert skipping.record.best_step == 8


def test_skipped_steps_are_counted_through_a_stop(skipping: Trial, micro_model: Path, tmp_path: Path) -> None:
    with fp16_on_a_cpu(TOO_LARGE):
        resumed = stopped_then_resumed(micro_model, tmp_path, config_of(), [3, 6])
    assert resumed.record.skipped_steps == SKIPPED
    assert resumed.record.weight_change == skipping.record.weight_change
    assert bits(resumed.run.adapter_path) == bits(skipping.run.adapter_path)


def test_skips_that_do_not_end_stop_the_run(micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "MOST_SKIPPED_IN_A_ROW", 3)
    with fp16_on_a_cpu(HOPELESS), pytest.raises(RunError) as caught:
        train(micro_model, tmp_path, config_of(validations=8))
    fault, run = only_fault(caught), RunDir(tmp_path / "run")
    assert (fault.code, fault.got, caught.value.exit_code) == ("steps-skipped", 3, EXIT_RUN_FAILED)
    assert str(run.checkpoints_path / "step-2") in fault.problem
    assert "precision=fp32" in fault.hint
    assert not run.adapter_path.exists()


def test_a_run_of_skipped_steps_alone_is_no_result(micro_model: Path, tmp_path: Path) -> None:
    with fp16_on_a_cpu(HOPELESS), pytest.raises(RunError) as caught:
        train(micro_model, tmp_path, config_of(max_steps=2))
    assert only_fault(caught).code == "nothing-trained"
    assert "2 of 2 steps" in only_fault(caught).problem
    assert not RunDir(tmp_path / "run").adapter_path.exists()
    with fp16_on_a_cpu(HOPELESS), pytest.raises(RunError) as again:  # resumed behind the last step
        train(micro_model, tmp_path, config_of(max_steps=2))
    assert only_fault(again) == only_fault(caught)


def test_a_rate_too_small_to_change_a_weight_is_told(micro_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(micro_model, tmp_path, config_of(method={"trains": "all"}, max_steps=1, learning_rate=1e-60))
    assert only_fault(caught).code == "nothing-trained"
    assert "train.learning_rate" in only_fault(caught).hint
