"""What fp16 cannot hold is found before training and computed in fp32: in training, in answering, after a restart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medqa_finetune.config.schema import Config
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.errors import ModelError, RunError
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.answering import answering_model
from medqa_finetune.model.fp32_blocks import compute_in_fp32, names_in_fp32
from medqa_finetune.model.load import LoadedModel, load_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Fp16Probe, Record
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.fit import Keeping, fit
from medqa_finetune.training.fp16_probe import probe, settle_fp32_blocks
from scripts.small_models import write_micro_model
from tests.faulty import only_fault
from tests.training import trial
from tests.training.half import HALF, fp16_on_a_cpu
from tests.training.trial import Trial, load, logits, make_config

IDS = torch.tensor([[5, 60, 7, 8, 90]])
FIRST, SECOND = "model.layers.0", "model.layers.1"
# Factors of weights that stay within fp16 themselves; what overflows, and the blocks that must be in fp32.
PLANTED: dict[str, tuple[dict[str, float], str, list[str]]] = {
    "an output": (
        {f"{FIRST}.mlp.down_proj": 1e4, f"{FIRST}.mlp.up_proj": 3e3},
        f"{FIRST}.mlp.down_proj.base_layer", [f"{FIRST}.mlp"],
    ),
    "a product within a block": (
        {f"{FIRST}.mlp.gate_proj": 1.5e3, f"{FIRST}.mlp.up_proj": 1.5e3}, f"{FIRST}.mlp.down_proj", [f"{FIRST}.mlp"],
    ),
    "attention": (
        {f"{SECOND}.self_attn.v_proj": 2e3, f"{SECOND}.self_attn.o_proj": 2e3},
        f"{SECOND}.self_attn.o_proj.base_layer", [f"{SECOND}.self_attn"],
    ),
    "a sum of two": (
        {f"{FIRST}.self_attn.v_proj": 300.0, f"{FIRST}.self_attn.o_proj": 1100.0,
         f"{FIRST}.mlp.down_proj": 1100.0, f"{FIRST}.mlp.up_proj": 2400.0},
        FIRST, [f"{FIRST}.mlp"],
    ),
}  # fmt: skip
Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes the micro model with a planted overflow into a folder; `""` plants none."""
    made: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in made:
            folder = made[name] = write_micro_model(tmp_path_factory.mktemp("planted") / "model")
            path = folder / "model.safetensors"
            factors = PLANTED[name][0] if name else {}
            weights = {
                key: weight * factors.get(key.removesuffix(".weight"), 1) for key, weight in load_file(path).items()
            }
            save_file(weights, path, metadata={"format": "pt"})
        return made[name]

    return write


def config_of(method: dict[str, Any] | None = None, blocks: Any = "auto", **settings: Any) -> Config:
    usual = {"max_steps": 3, "validations": 1, "micro_batch": 4}
    made = make_config(method, **(usual | settings))
    return Config(**{**vars(made), "fp32_blocks": blocks})


def settle(config: Config, loaded: LoadedModel, examples: EncodedSet, run: RunDir) -> None:
    if not run.path.exists():
        run.path.mkdir(parents=True)
        run.write(Record("trial", "trial", "running", "lora", "trial", "micro", 0, config={}))
    settle_fp32_blocks(config, loaded, lambda size: examples, run, keep=True)


def train(folder: Path, outputs: Path, config: Config) -> Trial:
    run = RunDir(outputs / "run")
    loaded, sets = load(folder, config)
    settle(config, loaded, sets.validation, run)
    keeping = Keeping(Checkpoints(run.checkpoints_path, "trial"), StopRequest())
    return Trial(fit(loaded, sets, config, run, keeping), run, loaded, sets)


def found_in(run: RunDir) -> Fp16Probe:
    record = run.read()
    assert record is not None
    assert record.fp16 is not None
    return record.fp16


@pytest.mark.parametrize("name", ["an output", "a product within a block", "attention"])
def test_what_overflows_is_named_and_mended(written: Write, name: str) -> None:
    _, place, blocks = PLANTED[name]
    with fp16_on_a_cpu():
        loaded, sets = load(written(name), config_of())
    left = probe(config_of(), loaded, sets.validation, mend=False)
    assert (left.first_overflow, left.fp32_blocks) == (place, [])
    assert (left.finite_loss, left.finite_gradients) == (False, False)
    mended = probe(config_of(), loaded, sets.validation, mend=True)
    assert (mended.first_overflow, mended.fp32_blocks) == (place, blocks)
    assert (mended.finite_loss, mended.finite_gradients, mended.gradient_scale) == (True, True, 65536)
    assert mended.share_of_range == mended.largest_activation / 65504 > 1
    assert mended.largest_at.startswith(blocks[0][: len(FIRST)])


def test_a_large_sum_is_mended_in_the_block_added_last(written: Write) -> None:
    with fp16_on_a_cpu():
        loaded, sets = load(written("a sum of two"), config_of())
    found = probe(config_of(), loaded, sets.validation, mend=True)
    # It is within the range still, and nearer to its end than half.
    assert (found.first_overflow, found.fp32_blocks) == PLANTED["a sum of two"][1:]
    assert found.finite_gradients
    assert 0.5 < found.share_of_range < 1


def test_a_model_within_the_range_stays_as_it_is(written: Write) -> None:
    with fp16_on_a_cpu():
        loaded, sets = load(written(""), config_of({"dropout": 0.1}))
    before, random = logits(loaded.model, IDS), torch.get_rng_state()
    loaded.model.train()
    found = probe(config_of(), loaded, sets.validation, mend=True)
    assert (found.first_overflow, found.fp32_blocks, found.gradient_scale) == (None, [], 65536)
    assert 0 < found.share_of_range < 0.001
    assert torch.equal(torch.get_rng_state(), random)
    assert loaded.model.training
    assert all(weight.grad is None for weight in loaded.model.parameters())
    assert torch.equal(logits(loaded.model, IDS), before)


def test_without_fp32_the_run_stops_and_says_what_helps(written: Write, tmp_path: Path) -> None:
    with fp16_on_a_cpu(), pytest.raises(RunError) as caught:
        train(written("an output"), tmp_path, config_of(blocks="none"))
    assert only_fault(caught).code == "not-finite"
    assert "fp32_blocks" in only_fault(caught).hint
    assert found_in(RunDir(tmp_path / "run")).fp32_blocks == []


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ({}, {}),
        ({"quantization": "nf4", "double_quantization": True}, {}),
        pytest.param(
            {}, {"packing": False, "gradient_checkpointing": False, "fused_adapters": False}, marks=pytest.mark.slow
        ),
        pytest.param({"trains": "all"}, {"learning_rate": 1e-4}, marks=pytest.mark.slow),
    ],
    ids=["lora", "nf4", "padded", "full"],
)
def test_training_with_blocks_in_fp32_is_that_in_fp32(
    written: Write, tmp_path: Path, method: dict[str, Any], settings: dict[str, Any]
) -> None:
    folder, config = written("a product within a block"), config_of(method, **settings)
    exact = trial.train(folder, tmp_path / "fp32", config)
    with fp16_on_a_cpu(2.0**10):
        half = train(folder, tmp_path / "fp16", config)
    assert found_in(half.run).fp32_blocks == [f"{FIRST}.mlp"]
    assert half.record.skipped_steps == 0
    assert half.column("loss") == pytest.approx(exact.column("loss"), rel=5e-3)
    assert half.column("eval_loss") == pytest.approx(exact.column("eval_loss"), rel=5e-3)
    assert half.record.weight_change == pytest.approx(exact.record.weight_change, rel=0.1)


@pytest.mark.parametrize("method", [{}, {"quantization": "nf4"}, {"trains": "all"}], ids=["lora", "nf4", "full"])
def test_answers_are_of_the_same_form_after_a_restart(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any]
) -> None:
    folder, config = written("attention"), config_of(method, max_steps=1)
    with fp16_on_a_cpu():
        trained = train(folder, tmp_path, config)
        restarted, sets = load(folder, config)
    # From the record: nothing is tried again.
    monkeypatch.setattr("medqa_finetune.training.fp16_probe.probe", None)
    settle(config, restarted, sets.validation, trained.run)
    model_method(config.method).restore(restarted.model, trained.run.adapter_path)
    found = [answering_model(each.model, config.method, HALF) for each in (trained.loaded, restarted)]
    assert [names_in_fp32(each) for each in found] == [[f"{SECOND}.self_attn"]] * 2
    ours, again = (logits(each, IDS) for each in found)
    assert torch.equal(ours, again)
    assert bool(torch.isfinite(ours).all())
    prompts = [[5, 60, 7], [9, 10, 11, 12]]
    first, second = (decode_greedily(each, prompts, Ending((), 0, 6)) for each in found)
    assert first == second


def test_the_untuned_model_answers_without_overflow(written: Write, tmp_path: Path) -> None:
    folder = written("a product within a block")
    config = config_of({"name": "none", "trains": "nothing"})
    loaded = load_model(folder, config.method, HALF, seed=0)
    assert not bool(torch.isfinite(logits(loaded.model, IDS)).all())
    with fp16_on_a_cpu():
        _, sets = load(folder, config_of())
    settle(config, loaded, sets.validation, RunDir(tmp_path / "run"))
    model = answering_model(loaded.model, config.method, HALF)
    exact = logits(load_model(folder, config.method, trial.CPU, seed=0).model, IDS)
    torch.testing.assert_close(logits(model, IDS).float(), exact, rtol=0.02, atol=0.02)
    found = found_in(RunDir(tmp_path / "run"))
    assert (found.fp32_blocks, found.finite_gradients) == ([f"{FIRST}.mlp"], None)


def test_named_blocks_compute_in_fp32(written: Write, tmp_path: Path) -> None:
    config = config_of(blocks=["self_attn", "layers.0.mlp"])
    with fp16_on_a_cpu():
        loaded, sets = load(written(""), config)
    settle(config, loaded, sets.validation, RunDir(tmp_path / "run"))
    named = [f"{FIRST}.self_attn", f"{FIRST}.mlp", f"{SECOND}.self_attn"]
    assert names_in_fp32(loaded.model) == found_in(RunDir(tmp_path / "run")).fp32_blocks == named


@pytest.mark.parametrize(("blocks", "code"), [(["experts"], "no-such-module"), (["mlp"], "conflict")])
def test_names_without_an_effect_are_refused(written: Write, tmp_path: Path, blocks: list[str], code: str) -> None:
    config = config_of(blocks=blocks)
    loaded, sets = load(written(""), config)  # in fp32
    with pytest.raises(ModelError) as caught:
        settle(config, loaded, sets.validation, RunDir(tmp_path / "run"))
    assert (only_fault(caught).code, only_fault(caught).key) == (code, "fp32_blocks")


def test_eight_bit_layers_are_refused(written: Write) -> None:
    with fp16_on_a_cpu():
        loaded, _ = load(written(""), config_of({"quantization": "int8"}))
    with pytest.raises(ModelError) as caught:
        compute_in_fp32(loaded.model, [f"{FIRST}.mlp"], torch.float16)
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-supported", "method.quantization")
