"""What is written for other programs answers as the model in memory did, loaded by plain transformers and peft."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ModelError
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.answering import answering_model
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.model.plain_export import Plain, write_plain
from medqa_finetune.precision import Precision
from tests.faulty import only_fault

IDS = torch.tensor([[5, 17, 42, 99, 7, 3]])
NONE, FULL = MethodConfig(name="none", trains="nothing"), MethodConfig(name="full", trains="all")
LORA = MethodConfig(name="lora", rank=4, dropout=0.0)
DORA = MethodConfig(name="lora", rank=4, dropout=0.0, dora=True)
NF4 = MethodConfig(name="qlora", rank=4, dropout=0.0, quantization="nf4", double_quantization=True)
FP4 = MethodConfig(name="qlora", rank=4, dropout=0.0, quantization="fp4")
HELD = MethodConfig(name="none", trains="nothing", quantization="nf4")


def trained(folder: Path, method: MethodConfig, precision: Precision) -> Any:
    """A model in the form that answers, its adapter no longer one that changes nothing."""
    device = Device("cpu", "CPU", precision)
    model: Any = load_model(folder, method, device, seed=0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return answering_model(model, method, device)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return cast(torch.Tensor, model(input_ids=IDS).logits.float())


def reloaded(plain: Plain) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(plain.model, dtype=getattr(torch, plain.dtype))
    assert not getattr(model, "is_quantized", False)
    return (model if plain.adapter is None else PeftModel.from_pretrained(model, plain.adapter)).eval()


@pytest.mark.parametrize(
    ("method", "precision", "beside"),
    [
        (NONE, "fp32", False), (FULL, "fp32", False), (LORA, "fp32", False), (DORA, "fp32", False),
        (NF4, "fp32", False), (FP4, "fp32", False), (HELD, "fp32", False),
        (NONE, "bf16", False), (FULL, "bf16", False), (LORA, "bf16", True), (NF4, "bf16", True),
    ],
)  # fmt: skip
def test_what_is_written_answers_alike(
    micro_model: Path, tmp_path: Path, method: MethodConfig, precision: Precision, beside: bool
) -> None:
    model = trained(micro_model, method, precision)
    expected = logits(model)
    untrained = logits(trained(micro_model, HELD if method.quantization == "nf4" else NONE, precision))
    assert method.trains != "adapter" or (expected - untrained).abs().max() > 0.1
    plain = write_plain(model, tmp_path)
    assert (plain.adapter is not None) is beside
    # fp32 rounds in the seventh digit, bf16 in the third, and bitsandbytes adds its products up in another order.
    close = 1e-5 if plain.dtype == "float32" else 5e-2
    assert (logits(reloaded(plain)) - expected).abs().max() <= close * expected.abs().max()
    assert (plain.dtype, plain.rank) == model_method(method).plain_form(precision)


def test_an_adapter_that_would_stay_beside_half_precision_must_be_plain() -> None:
    with pytest.raises(ModelError) as caught:
        model_method(DORA).plain_form("bf16")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "method.dora", True)
    assert "precision=fp32" in fault.hint
    assert model_method(DORA).plain_form("fp32") == ("float32", None)
