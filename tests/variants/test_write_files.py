"""The files of a variant, in this process: what is loaded from them says what the run's own model says."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.chat_form import PLAIN_FORM
from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, load_model, load_tokenizer
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.variants.kinds import choose, quantization_of
from medqa_finetune.variants.measure import MeasureRequest, load_variant
from medqa_finetune.variants.write_files import WriteRequest, build
from scripts.small_models import write_micro_model
from tests.variants.runs import FULL, LORA, NONE, QLORA, write_run

CPU = Device("cpu", "CPU", "fp32")
IDS = torch.tensor([[5, 60, 7, 8, 90, 11]])
FP4 = MethodConfig(name="fp4", quantization="fp4", dropout=0.0)
DORA = dataclasses.replace(LORA, name="dora", dora=True)
RSLORA = dataclasses.replace(LORA, name="rslora", rslora=True)
METHODS = {method.name: method for method in (LORA, QLORA, FP4, FULL, NONE)}


@torch.no_grad()
def said(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(input_ids=IDS).logits
    return logits


def made(run: RunDir, base: Path, method: MethodConfig, variant: str, **options: Any) -> Path:
    folder = run.path / "made" / variant
    folder.mkdir(parents=True)
    held = quantization_of("auto", method)
    options = {"dtype": "fp32"} | options
    build(WriteRequest(variant, folder, base, run.adapter_path, method, held, "fp32", **options))
    return folder


def loaded(folder: Path, base: Path, method: MethodConfig) -> Any:
    beside = base if folder.name == "lora" else None
    asked = MeasureRequest(folder, beside, method, folder, folder, EvaluateConfig(), None, 64, PLAIN_FORM, "fp32", None)
    return load_variant(asked, CPU, load_tokenizer(folder))


def expected(run: RunDir, base: Path, method: MethodConfig, variant: str, template: str | None = None) -> Any:
    """What the run's own model says, or the untuned one; None where no other model says the same."""
    if variant == "lora_quantized":
        return None
    if variant in ("base", "quantized"):
        method = quantization_of("auto", method) if variant == "quantized" else NONE
        return said(load_model(base, method, CPU, 0, template=template).model)
    tuned = load_model(base, method, CPU, 0, template=template).model
    model_method(method).restore(tuned, run.adapter_path)
    return said(tuned)


@pytest.mark.parametrize("name", METHODS)
def test_every_variant_says_what_it_should(micro_model: Path, tmp_path: Path, name: str) -> None:
    method = METHODS[name]
    run = write_run(tmp_path / name, micro_model, method)
    heard = {}
    for variant in choose(None, method):
        folder = made(run, micro_model, method, variant)
        heard[variant] = said(loaded(folder, micro_model, method))
        wanted = expected(run, micro_model, method, variant)
        if variant == "merged":
            torch.testing.assert_close(heard[variant], wanted, rtol=0, atol=1e-5)
        elif wanted is not None:
            assert torch.equal(heard[variant], wanted), variant
    assert len({float(logits.sum()) for logits in heard.values()}) >= min(3, len(heard))


def test_quantizing_after_merging_needs_no_merged_variant(micro_model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "qlora", micro_model, QLORA)
    merged = made(run, micro_model, QLORA, "merged")
    alone = made(run, micro_model, QLORA, "lora_quantized")
    again = tmp_path / "again"
    again.mkdir()
    held = quantization_of("auto", QLORA)
    build(WriteRequest("lora_quantized", again, micro_model, run.adapter_path, QLORA, held, "fp32", "fp32", merged))
    assert (again / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
    assert sorted(path.name for path in (run.path / "made").iterdir()) == ["lora_quantized", "merged"]


@pytest.mark.parametrize("variant", ["merged", "quantized"])
def test_weights_are_stored_in_the_precision_asked_for(micro_model: Path, tmp_path: Path, variant: str) -> None:
    run = write_run(tmp_path / "lora", micro_model, LORA)
    folder = made(run, micro_model, LORA, variant, dtype="bf16")
    model = loaded(folder, micro_model, dataclasses.replace(LORA))
    assert model.config.dtype == torch.float32  # as it was loaded here; the files hold half as much
    assert (folder / "model.safetensors").stat().st_size < 0.6 * (micro_model / "model.safetensors").stat().st_size


def test_no_code_and_no_pickles_are_taken_along(micro_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in micro_model.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    for name in ("modeling.py", "pytorch_model.bin", "notes.txt"):
        (base / name).write_text("x", encoding="utf-8")
    run = write_run(tmp_path / "none", base, NONE)
    names = {path.name for path in made(run, base, NONE, "base").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not names & {"modeling.py", "pytorch_model.bin", "notes.txt"}


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize(
    ("family", "method"),
    [
        # Every family and every method once; the other pairs are slow.
        pytest.param(family, method, id=f"{method.name}-{family}", marks=() if number == place else pytest.mark.slow)
        for number, family in enumerate(("phi", "llama", "pruned"))
        for place, method in enumerate((QLORA, DORA, RSLORA))
    ],
)
def test_other_families_and_methods(tmp_path: Path, family: str, method: MethodConfig) -> None:
    base = write_micro_model(tmp_path / "base", family)
    template = "instruct" if family == "phi" else None
    run = write_run(tmp_path / "run", base, method, model__chat_template=template)
    for variant in choose(None, method):
        folder = made(run, base, method, variant, template=template)
        wanted = expected(run, base, method, variant, template)
        heard = said(loaded(folder, base, method))
        assert load_tokenizer(folder).chat_template
        if wanted is not None:
            torch.testing.assert_close(heard, wanted, rtol=0, atol=1e-5)
