"""A choice is tried before it is trusted, noted, and kept at every restart."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config import steps
from medqa_finetune.config.schema import Config
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.model.auto_batch import SHARE
from medqa_finetune.model.estimate import PROCESS_BYTES, Machine, training_memory
from medqa_finetune.model.load import Device, LoadedModel
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Environment, Fitted, Record, Validated
from medqa_finetune.training import auto_settings, computing
from medqa_finetune.training.auto_settings import choose, runs, settle, settle_validations, usable_bytes
from medqa_finetune.training.fit import TrainingSets
from tests.training.trial import load, make_config

AUTO: dict[str, Any] = {"micro_batch": "auto", "gradient_checkpointing": "auto", "max_length": 64}


def begun(folder: Path, config: Config) -> RunDir:
    run = RunDir(folder / "run")
    run.write(Record("run", "0", "running", config.method.name, config.data.name, "micro", config.seed, config={}))
    return run


def test_a_choice_is_noted_and_kept(micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(**AUTO)
    loaded, _ = load(micro_model, config)
    run = begun(tmp_path, config)
    settled = settle(config, loaded, run)
    # All of a step at once: the micro model fits anywhere.
    assert (settled.train.micro_batch, settled.train.gradient_checkpointing) == (8, False)
    record = run.read()
    assert record is not None
    assert record.fitted == Fitted(8, gradient_checkpointing=False, chosen_in="run", decided_by="run", among=["run"])
    # On another machine, or with less memory, the run goes on as it began.
    monkeypatch.setattr(auto_settings, "usable_bytes", lambda device: 1)
    assert settle(config, loaded, run) == settled
    fresh = begun(tmp_path / "other", config)
    assert settle(config, loaded, fresh).train.micro_batch == 1


def test_nothing_is_noted_where_nothing_is_left_to_be_chosen(micro_model: Path, tmp_path: Path) -> None:
    config = make_config()
    loaded, _ = load(micro_model, config)
    run = begun(tmp_path, config)
    assert settle(config, loaded, run) is config
    record = run.read()
    assert record is not None
    assert record.fitted is None


def in_study(study: Path, name: str, config: Config, **changes: Any) -> RunDir:
    """Write a run as a matrix leaves it before it starts, or with `environment` and others, as it is later."""
    run = RunDir(study / name)
    settings = dataclasses.asdict(config)
    run.write(
        Record(name, name, "pending", config.method.name, "20k", "micro", 0, settings, environment=PLACE).updated(
            **{"environment": None} | changes
        )
    )
    return run


PLACE = Environment({}, "CPU", "fp32", None, [])
BEGUN: dict[str, Any] = {"status": "running", "environment": PLACE}


def test_the_cell_that_needs_most_memory_decides_for_all(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, full = (make_config(method, **AUTO) for method in (None, {"name": "full", "trains": "all"}))
    loaded, _ = load(micro_model, config)
    assert loaded.size is not None
    # Enough for LoRA with all activations kept, and for full training with less.
    kept = [settle_as(each, 8, again=False) for each in (config, full)]
    needs = [training_memory(loaded.size, each, Machine("cpu", "CPU", 0)).total for each in kept]
    room = round((sum(needs) / 2 + PROCESS_BYTES) / SHARE)
    monkeypatch.setattr(auto_settings, "usable_bytes", lambda device: room)
    first = in_study(tmp_path, "lora_20k", config)
    in_study(tmp_path, "full_20k", full)
    in_study(tmp_path, "full_50k", make_config({"name": "full", "trains": "all"}, **AUTO | {"max_length": 32}))
    assert settle(config, loaded, in_study(tmp_path / "alone", "lora_20k", config)).train.micro_batch == 8
    settled = settle(config, loaded, first)
    assert settled != settle_as(config, 8, again=False)
    chosen = first.read()
    assert chosen is not None
    assert chosen.fitted is not None
    assert (chosen.fitted.chosen_in, chosen.fitted.decided_by) == ("lora_20k", "full_20k")
    assert chosen.fitted.among == ["full_20k", "lora_20k"]


def settle_as(config: Config, micro_batch: int, *, again: bool) -> Config:
    train = dataclasses.replace(config.train, micro_batch=micro_batch, gradient_checkpointing=again)
    return dataclasses.replace(config, train=train)


def test_a_later_cell_takes_the_choice_of_its_study_over(
    micro_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(**AUTO)
    loaded, _ = load(micro_model, config)
    choice = Fitted(2, gradient_checkpointing=True, chosen_in="qlora_20k", decided_by="qlora_20k", among=["qlora_20k"])
    in_study(tmp_path, "qlora_20k", config, fitted=choice, **BEGUN)
    run = in_study(tmp_path, "lora_20k", config)
    assert settle(config, loaded, run) == settle_as(config, 2, again=True)
    record = run.read()
    assert record is not None
    assert record.fitted == choice
    # Not of another study, nor of a run that never began.
    assert settle(config, loaded, in_study(tmp_path / "mine", "lora_20k", config)) == settle_as(config, 8, again=False)


def test_a_choice_that_does_not_fit_is_not_taken_over(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(**AUTO)
    loaded, _ = load(micro_model, config)
    in_study(
        tmp_path, "qlora_20k", config, fitted=Fitted(8, gradient_checkpointing=False, chosen_in="qlora_20k"), **BEGUN
    )
    for tight in ("physical_bytes", "usable_bytes"):
        monkeypatch.setattr(auto_settings, tight, lambda *device: 1)
    for name in ("lora_20k", "lora_50k"):
        run = in_study(tmp_path, name, config)
        assert settle(config, loaded, run) == settle_as(config, 1, again=True)
        record = run.read()
        assert record is not None
        assert record.fitted is not None
        assert record.fitted.instead_of == "qlora_20k"
        run.update(**BEGUN)
    assert sum(record.levelname == "WARNING" and "qlora_20k" in record.message for record in caplog.records) == 2


def test_a_run_of_an_earlier_version_goes_on_as_it_began(micro_model: Path, tmp_path: Path) -> None:
    config = make_config(**AUTO)
    loaded, _ = load(micro_model, config)
    former = settle_as(config, 4, again=True)
    assert settle(config, loaded, in_study(tmp_path, "lora_20k", former, **BEGUN)) == former
    # And cells that are compared with it do as well.
    assert settle(config, loaded, in_study(tmp_path, "lora_50k", config)) == former


def test_a_trial_computes_as_training_does(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(micro_batch=2, max_length=32)
    loaded, _ = load(micro_model, config)
    seen: list[int] = []

    @contextmanager
    def noted(*given: Any, **options: Any) -> Iterator[int]:
        with computing.computing(*given, **options) as count:
            seen.append(count)
            yield count

    monkeypatch.setattr(auto_settings, "computing", noted)
    assert runs(config, loaded)
    assert seen == [7 * 2]


def on_gpu(loaded: LoadedModel) -> LoadedModel:
    return dataclasses.replace(loaded, device=Device("cuda", "GPU", "fp32"))


def test_on_a_gpu_what_does_not_run_is_stepped_down_from(
    micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**AUTO)
    loaded, _ = load(micro_model, config)
    tried: list[tuple[int, bool]] = []

    def refuse(config: Config, loaded: LoadedModel) -> bool:
        tried.append((config.train.micro_batch, config.train.gradient_checkpointing))
        return tried[-1] == (4, True)

    monkeypatch.setattr(auto_settings, "usable_bytes", lambda device: 2**40)
    monkeypatch.setattr(auto_settings, "runs", refuse)
    found = choose(config, on_gpu(loaded))
    assert (found.micro_batch, found.gradient_checkpointing) == (4, True)
    assert tried == [(8, False), (8, True), (4, True)]
    monkeypatch.setattr(auto_settings, "runs", lambda config, loaded: False)
    assert choose(config, on_gpu(loaded)).micro_batch == 1


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_trying_takes_the_longest_pairs_and_leaves_no_trace(packing: bool, again: bool, micro_model: Path) -> None:
    config = make_config(packing=packing, gradient_checkpointing=again, micro_batch=3, max_length=40)
    loaded, _ = load(micro_model, config)
    model: Any = loaded.model
    model.eval()
    seen: list[tuple[int, ...]] = []
    body = model.get_base_model().model
    handle = body.register_forward_pre_hook(
        lambda part, arguments, options: seen.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert runs(config, loaded)
    handle.remove()
    # Before it, the attention is tried on short rows.
    assert seen[-1] == ((1, 120) if packing else (3, 40))
    assert not model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
    assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    assert body.config._attn_implementation == "sdpa"


def test_out_of_memory_is_an_answer_and_no_failure(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(micro_batch=2)
    loaded, _ = load(micro_model, config)

    def fail(*of: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(auto_settings, "_pass", fail)
    assert not runs(config, loaded)


def test_usable_memory_is_what_is_free_and_what_is_held_already() -> None:
    import psutil

    held = psutil.Process().memory_info().rss
    assert held < usable_bytes("cpu") <= psutil.virtual_memory().total


def test_a_library_without_memory_of_its_own_is_out_of_memory_too(
    micro_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(micro_batch=2)
    loaded, _ = load(micro_model, config)
    words = ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "shapes do not match"]

    def fail(*of: Any) -> None:
        raise RuntimeError(words[0])

    monkeypatch.setattr(auto_settings, "_pass", fail)
    assert not runs(config, loaded)
    words.pop(0)
    with pytest.raises(RuntimeError, match="shapes"):
        runs(config, loaded)


ONE = Encoded([1, 2, 3], 1, cut=False)
SETS = TrainingSets(EncodedSet([ONE] * 300), EncodedSet([ONE] * 100))


def validations(config: Config, run: RunDir) -> tuple[Any, Any]:
    train = settle_validations(config, SETS, run).train
    return train.validations, train.validation_samples


def test_validations_are_recorded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(validations="auto", validation_samples="auto", batch_size=10, epochs=1.0)
    run = begun(tmp_path, config)
    run.update(config={"train": {"validations": "auto", "validation_samples": "auto"}})
    assert validations(config, run) == (2, 32)
    record = run.read()
    assert record is not None
    assert record.validation == Validated(2, 32, 100, 0.2133)
    # A later version with another rule goes on with them.
    monkeypatch.setattr(steps, "VALIDATION_SHARE", 1)
    assert validations(config, run) == (2, 32)


def test_a_run_of_an_earlier_version_validates_as_it_began(tmp_path: Path) -> None:
    config = make_config(validations="auto", validation_samples="auto", batch_size=10, epochs=1.0)
    run = begun(tmp_path, config)
    run.update(config={"train": {"validations": 5}})
    assert validations(config, run) == (5, 100)
