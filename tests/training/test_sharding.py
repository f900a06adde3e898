"""Several processes divide the weights of a full fine-tuning: curves, files, stops and restarts are those of one."""

import os
import signal
from collections.abc import Collection
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from medqa_finetune.config.schema import Config, MethodConfig, TrainConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.preflight import check_processes
from medqa_finetune.ranks import STARTED_VARIABLE
from tests.training.together import (
    LONG,
    assert_equal_curves,
    lines_in,
    newest_step,
    ranks_of,
    record_in,
    run,
    training,
    training_in,
)

FULL, SHARDED = "method=full", "train.sharding=full"
CONFIG = Config(method=MethodConfig(name="full", trains="all"), train=TrainConfig(batch_size=8, sharding="full"))


def test_one_process_has_nobody_to_divide_the_weights_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as refused:
        check_processes(CONFIG)
    found = [(fault.code, fault.key, fault.got, fault.allowed) for fault in refused.value.faults]
    assert found == [("no-effect", "train.sharding", "full", ("none",))]
    monkeypatch.setenv(STARTED_VARIABLE, "2")
    check_processes(CONFIG)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("train.packing=true", "train.gradient_checkpointing=false"),
        ("train.packing=false", "train.gradient_checkpointing=true", "method.optimizer_without_cuda=adamw_torch"),
    ],
)
def test_processes_that_divide_the_weights_train_as_one(
    settings: tuple[str, ...], micro_model: Path, tmp_path: Path
) -> None:
    # Of 20 examples in batches of 7, the last step of an epoch has 6; a pass takes 2.
    arguments = (f"model.path={micro_model}", FULL, "data=20k", "train.batch_size=7", "train.max_steps=5",
                 "train.micro_batch=2", "train.max_length=64", *settings)  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    for outputs, processes, sharding in ((one, 1, ()), (two, 2, (SHARDED,))):
        done = run(processes, outputs, *arguments, *sharding)
        assert done.returncode == 0, done.stderr
    assert_equal_curves(one, two)
    found = training_in(two)
    assert (found.processes, found.sharding, training_in(one).sharding) == (2, "full", "none")
    assert record_in(two).identity == record_in(one).identity
    answers = [lines_in(outputs, "demo/*/evaluations/*/predictions.jsonl") for outputs in (one, two)]
    assert [each["prediction"] for each in answers[0]] == [each["prediction"] for each in answers[1]]
    assert_same_files(one, two, "checkpoints/step-5", ignored={"rng_state.pth", "rng_state_0.pth", "rng_state_1.pth"})
    assert_same_files(one, two, "adapter")


def assert_same_files(one: Path, two: Path, folder: str, ignored: Collection[str] = ()) -> None:
    """Whoever wrote them: files of the same names, and weights and states of the same names, shapes and types."""
    (first,), (second,) = (list(outputs.glob(f"demo/*/{folder}")) for outputs in (one, two))
    names = [{path.name for path in each.iterdir()} - set(ignored) for each in (first, second)]
    assert names[0] == names[1]
    weights = [load_file(each / "model.safetensors") for each in (first, second)]
    assert [{name: (w.shape, w.dtype) for name, w in each.items()} for each in weights[:1]] == [
        {name: (w.shape, w.dtype) for name, w in each.items()} for each in weights[1:]
    ]
    if "optimizer.pt" in names[0]:
        states = [torch.load(each / "optimizer.pt", weights_only=True) for each in (first, second)]
        assert states[0]["param_groups"] == states[1]["param_groups"]
        for number, values in states[0]["state"].items():
            assert {name: type(value) for name, value in states[1]["state"][number].items()} == {
                name: type(value) for name, value in values.items()
            }


@pytest.mark.slow
def test_a_stopped_training_goes_on_divided_or_whole(micro_model: Path, tmp_path: Path) -> None:
    # At the usual rate, this many steps learn the examples by heart, and differences by rounding grow with it.
    settings = (f"model.path={micro_model}", FULL, "train.learning_rate=1e-4")
    whole, outputs = tmp_path / "whole", tmp_path / "stopped"
    assert run(1, whole, *LONG, *settings).returncode == 0
    stopped_at = []
    for processes, sharding in ((2, (SHARDED,)), (1, ()), (2, (SHARDED,))):
        with training(processes, outputs, *settings, *sharding) as process:
            process.terminate()
            assert process.wait(60) != 0
        assert record_in(outputs).status == "interrupted"
        stopped_at.append(newest_step(outputs))
    done = run(2, outputs, *LONG, *settings)
    assert done.returncode == 0, done.stderr
    found = training_in(outputs)
    assert (found.resumed_from, found.processes, found.sharding) == (stopped_at, 2, "none")
    assert_equal_curves(whole, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_ends_a_divided_training_and_is_recorded(rank: int, micro_model: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "lost"
    arguments = (FULL, SHARDED, f"model.path={micro_model}")
    with training(2, outputs, *arguments) as process:
        ranks = ranks_of(process.pid)
        os.kill(ranks[rank].pid, signal.SIGKILL)
        assert process.wait(60) != 0
        assert psutil.wait_procs(ranks, timeout=10)[1] == []
    record = record_in(outputs)
    assert record.failure is not None
    assert [fault["code"] for fault in record.failure.faults] == ["process-lost"]
    done = run(2, outputs, *LONG, *arguments)
    assert done.returncode == 0, done.stderr
    assert record_in(outputs).status == "done"
