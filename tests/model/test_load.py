import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file, save_file

from medqa_finetune.config.schema import MethodConfig, ModelConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.log import log_to
from medqa_finetune.model import load as load_module
from medqa_finetune.model.load import Device, choose_device, load_model, load_tokenizer, set_threads
from medqa_finetune.model.locate import locate_model
from medqa_finetune.record.schema import Parameters
from tests.faulty import only_fault

CPU = Device("cpu", "CPU", "fp32")
UNTRAINED = MethodConfig(name="none", trains="nothing")
UP = "model.layers.1.mlp.up_proj.weight"
QUANTIZATIONS = ["none", "nf4", "fp4", "int8"]
# Weights of micro_model, by hand: embedding 300*64 (tied to the head); per layer q 64*64+64, k and v 64*32+32 each,
# o 64*64, three MLP matrices 64*128, two norms of 64; a last norm of 64.
MICRO_WEIGHTS = 300 * 64 + 2 * (4160 + 2 * 2080 + 4096 + 3 * 8192 + 2 * 64) + 64


@pytest.fixture
def folder(tmp_path: Path, micro_model: Path) -> Path:
    return Path(shutil.copytree(micro_model, tmp_path / "model"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Pretend to have a GPU by the name and major compute capability given; torch can emulate bf16 on any."""

    def pretend(name: str, major: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
        monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)

    return pretend


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path, quantization: str = "none", *, double: bool = False) -> Any:
    method = MethodConfig(name="x", trains="nothing", quantization=quantization, double_quantization=double)
    return load_model(folder, method, CPU, seed=0).model


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("asked", "chosen"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_without_a_gpu_auto_is_fp32(asked: str, chosen: str) -> None:
    device = choose_device(asked)
    assert (device.type, device.precision) == ("cpu", chosen)
    assert device.name == f"CPU, {torch.get_num_threads()} threads"


@pytest.mark.usefixtures("no_gpu")
def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        choose_device("fp16")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("needs-gpu", "precision", "fp16")
    assert fault.allowed == ("auto", "fp32", "bf16")


@pytest.mark.parametrize(
    ("name", "major", "asked", "chosen"),
    [
        ("Tesla T4", 7, "auto", "fp16"),
        ("Tesla T4", 7, "fp16", "fp16"),
        ("Tesla T4", 7, "fp32", "fp32"),
        ("NVIDIA A100", 8, "auto", "bf16"),
        ("NVIDIA A100", 8, "bf16", "bf16"),
        ("NVIDIA A100", 8, "fp16", "fp16"),
    ],
)
def test_on_a_gpu_auto_is_what_its_hardware_has(
    gpu: Callable[[str, int], None], name: str, major: int, asked: str, chosen: str
) -> None:
    gpu(name, major)
    assert choose_device(asked) == Device("cuda", name, chosen)  # type: ignore[arg-type]


def test_emulated_bf16_is_refused(gpu: Callable[[str, int], None]) -> None:
    gpu("Tesla T4", 7)
    with pytest.raises(ModelError) as caught:
        choose_device("bf16")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "precision", "bf16")
    assert fault.allowed == ("auto", "fp16", "fp32")
    assert "Tesla T4" in fault.problem


def test_threads_are_those_asked_for_or_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(load_module, "usable_cores", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    set_threads(None)
    set_threads(3)
    assert calls == [1, 3]


def test_loaded_weights_are_those_on_disk(micro_model: Path) -> None:
    on_disk, loaded = load_file(micro_model / "model.safetensors"), load(micro_model).state_dict()
    assert on_disk
    for name, weight in on_disk.items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=0)


def test_parameters_are_counted_before_adapters_are_added(micro_model: Path) -> None:
    loaded = load_model(micro_model, MethodConfig(name="lora"), CPU, seed=0)
    # r = 16 on q, k, v, o, gate, up, down of both layers: 16 * (inputs + outputs) each.
    adapter = 2 * 16 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    names = ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", *(f"self_attn.{name}_proj" for name in "koqv")]
    assert loaded.parameters == Parameters(total=MICRO_WEIGHTS, trainable=adapter, adapted=names)


def test_counts_are_said_at_the_start(micro_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        load_model(micro_model, MethodConfig(name="lora", target_modules=["q_proj"]), CPU, seed=0)
    assert "4,096 of 93,504 weights are trained (4.38 %), adapters on q_proj" in caplog.text


@pytest.mark.parametrize(
    ("asked", "found"), [("auto", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_4_bit_weights_are_multiplied_in_the_precision_asked_for(
    asked: str, found: torch.dtype, micro_model: Path
) -> None:
    method = MethodConfig(name="x", quantization="nf4", compute_dtype=asked, dropout=0.0)
    model: Any = load_model(micro_model, method, CPU, seed=0).model
    assert model.get_base_model().model.layers[0].mlp.up_proj.base_layer.compute_dtype == found
    loss = model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss
    loss.backward()
    exact = load(micro_model)(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)


def test_precision_is_that_of_the_device_unless_all_weights_are_trained(micro_model: Path) -> None:
    half = Device("cpu", "CPU", "bf16")
    for trains, dtype in (("nothing", torch.bfloat16), ("all", torch.float32)):
        model = load_model(micro_model, MethodConfig(name="x", trains=trains), half, seed=0).model
        assert {weight.dtype for weight in model.parameters()} == {dtype}


def test_seed_decides_the_adapters_first_weights(micro_model: Path) -> None:
    def first_weights(seed: int) -> torch.Tensor:
        model = load_model(micro_model, MethodConfig(name="lora"), CPU, seed).model
        return torch.cat([weight.flatten() for name, weight in model.named_parameters() if "lora_A" in name])

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_four_bits_are_four_bits(micro_model: Path, kind: str, double: bool) -> None:
    layer = load(micro_model, kind, double=double).model.layers[1].mlp.up_proj
    assert type(layer).__name__ == "Linear4bit"
    assert layer.weight.quant_type == kind
    assert layer.weight.quant_state.nested is double
    assert layer.weight.numel() * layer.weight.element_size() * 2 == 64 * 128


def test_nf4_weights_stay_near_those_on_disk(micro_model: Path) -> None:
    weight = load(micro_model, "nf4").model.layers[1].mlp.up_proj.weight
    exact = load_file(micro_model / "model.safetensors")[UP]
    error = (bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state) - exact).abs().max()
    # The widest gap between neighbouring NF4 levels (QLoRA, appendix E) is from -1 to -0.6962: half of it is 0.152.
    assert 0 < error <= 0.152 * exact.abs().max()


def test_int8_is_one_byte_a_weight(micro_model: Path) -> None:
    layer = load(micro_model, "int8").model.layers[1].mlp.up_proj
    assert type(layer).__name__ == "Linear8bitLt"
    assert (layer.weight.dtype, tuple(layer.weight.shape)) == (torch.int8, (128, 64))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_head_and_embedding_are_never_quantized(micro_model: Path, quantization: str) -> None:
    model = load(micro_model, quantization)
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_shards_load_like_one_file(micro_model: Path, folder: Path, quantization: str) -> None:
    (folder / "model.safetensors").unlink()
    load(micro_model).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    ids = torch.tensor([[5, 6, 7]])
    found = locate_model(ModelConfig(name="m", path=str(folder)))
    torch.testing.assert_close(load(found, quantization)(ids).logits, load(micro_model, quantization)(ids).logits)


def test_warnings_of_transformers_reach_the_log_of_the_run(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"stray": torch.zeros(1)}))
    with log_to(tmp_path / "log.txt"):
        load(folder)
    assert "stray" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_encoder_without_a_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert (only_fault(caught).code, only_fault(caught).file) == ("template-missing", str(folder))


@pytest.mark.parametrize("pad", ["<|im_end|>", None])
def test_padding_may_be_the_end_token(folder: Path, pad: str | None) -> None:
    """As in SmolLM2 and the base models of Qwen2.5; Llama 3 and Mistral have none."""
    edit_json(folder / "tokenizer_config.json", pad_token=pad)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_without_padding_and_end_is_refused(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", pad_token=None, eos_token=None)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("pad-token", "pad_token", None)
    assert fault.file == str(folder / "tokenizer_config.json")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_damaged_tokenizer_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-loadable", str(folder))


def test_encoder_of_another_model_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({k: v[:250].clone() for k, v in weights.items() if "emb" in k}))
    edit_json(folder / "config.json", vocab_size=250)
    with pytest.raises(ModelError) as caught:
        load(folder)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("vocabulary-mismatch", str(folder))
    assert re.findall(r"\d+", fault.problem) == ["300", "250"]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_truncated_weights_are_refused(folder: Path, quantization: str) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1000])
    with pytest.raises(ModelError) as caught:
        load(folder, quantization)
    assert (only_fault(caught).code, only_fault(caught).file) == ("damaged-file", str(folder / "model.safetensors"))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_missing_weight_is_named_and_never_made_up(folder: Path, quantization: str) -> None:
    edit_weights(folder, lambda weights: weights.pop(UP))
    with pytest.raises(ModelError) as caught:
        load(folder, quantization)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("weights-mismatch", UP, str(folder))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_weight_of_another_shape_is_refused(folder: Path, quantization: str) -> None:
    edit_weights(folder, lambda weights: weights.update({UP: weights[UP][:10].clone()}))
    with pytest.raises(ModelError) as caught:
        load(folder, quantization)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("weights-mismatch", "model.layers.1.mlp", str(folder))
    assert "128 and 10" in fault.problem


@pytest.mark.parametrize("changes", [{"model_type": "nix"}, {"model_type": "bert"}, {"hidden_size": 65}])
def test_unusable_configuration_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert only_fault(caught).code in ("unknown-architecture", "weights-mismatch")


def test_an_evaluation_changes_nothing_about_4_bit_layers(micro_model: Path) -> None:
    model: Any = load_model(micro_model, MethodConfig(name="qlora", quantization="nf4", dropout=0.0), CPU, 0).model
    ids = torch.tensor([[5, 60, 7, 8, 90]])

    def gradients() -> list[torch.Tensor]:
        model.train().zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    with torch.no_grad():
        evaluated = model.eval()(input_ids=ids).logits
        trained = model.train()(input_ids=ids).logits
    assert torch.equal(evaluated, trained)
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(), strict=True))
