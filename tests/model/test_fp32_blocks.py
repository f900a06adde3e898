"""Single blocks of a model in fp32, others in half precision: the same answers to rounding, in every family."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.chatting import chat_model
from medqa_finetune.chatting.sources import Source
from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import RunError
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.evaluation.vllm_backend import generate_predictions
from medqa_finetune.methods.settings import UNTRAINED
from medqa_finetune.model.answering import answering_form
from medqa_finetune.model.fp32_blocks import (
    added_bytes,
    blocks_of,
    chosen_blocks,
    compute_in_fp32,
    names_in_fp32,
    way_out_of_fp16,
)
from medqa_finetune.model.load import Device, load_model
from scripts.small_models import write_micro_model
from tests.faulty import only_fault

HALF, FULL = Device("cpu", "CPU", "fp16"), Device("cpu", "CPU", "fp32")
PROMPTS = [[5, 60, 7, 8, 90], [9, 10, 11]]
BLOCKS = [f"model.layers.{number}.{kind}" for number in (0, 1) for kind in ("self_attn", "mlp")]


def model_in(folder: Path, device: Device) -> Any:
    model: Any = load_model(folder, UNTRAINED, device, seed=0, chat=False).model
    return model.eval()


@pytest.mark.parametrize("family", ["qwen2", "llama", "phi", "pruned"])
def test_any_block_may_compute_in_fp32(family: str, tmp_path: Path) -> None:
    folder = write_micro_model(tmp_path / family, family)
    exact, ids = model_in(folder, FULL), torch.tensor(PROMPTS[:1])
    for asked in (["layers.0.mlp"], ["self_attn"], ["layers.1.self_attn", "layers.0.mlp"]):
        model = model_in(folder, HALF)
        compute_in_fp32(model, chosen_blocks(model, asked), torch.float16)
        answering_form(model, HALF)
        held = {name: {weight.dtype for weight in block.parameters()} for name, block in blocks_of(model).items()}
        assert [name for name, dtypes in held.items() if dtypes == {torch.float32}] == names_in_fp32(model)
        with torch.no_grad():
            found, wanted = model(input_ids=ids).logits, exact(input_ids=ids).logits
        torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0.01)
        assert found.dtype == torch.float16
        assert [len(answer) for answer in decode_greedily(model, PROMPTS, Ending((), 0, 4))] == [4, 4]


def test_blocks_are_the_parts_of_layers(micro_model: Path) -> None:
    model = model_in(micro_model, HALF)
    assert list(blocks_of(model)) == BLOCKS
    assert (names_in_fp32(model), added_bytes(model)) == ([], 0)
    assert "fp32_blocks=[mlp,self_attn]" in way_out_of_fp16(model)
    compute_in_fp32(model, BLOCKS[1:2], torch.float16)
    assert added_bytes(model) == 2 * 3 * 64 * 128


def test_scores_beyond_fp16_are_in_fp32_with_eager_attention(micro_model: Path) -> None:
    # Products of queries and keys, before they are scaled; the model's own attention rounds them to fp16.
    def found(device: Device, blocks: list[str]) -> torch.Tensor:
        model = model_in(micro_model, device)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.q_proj.weight.mul_(2e3)
                layer.self_attn.k_proj.weight.mul_(2e3)
        compute_in_fp32(model, blocks, torch.float16)
        with torch.no_grad():
            logits: torch.Tensor = model(input_ids=torch.tensor(PROMPTS[:1])).logits
        return logits.float()

    assert not bool(torch.isfinite(found(HALF, [])).all())
    attention = [name for name in BLOCKS if name.endswith("attn")]
    torch.testing.assert_close(found(HALF, attention), found(FULL, []), rtol=0.02, atol=0.02)


def test_a_chat_answers_with_the_blocks_of_the_run(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_model, "choose_device", lambda precision: HALF)
    source = Source("micro", micro_model, None, micro_model, UNTRAINED, fp32_blocks=("model.layers.1.mlp",))
    assert names_in_fp32(chat_model.load_source(source).model) == ["model.layers.1.mlp"]


def test_vllm_does_not_answer_for_blocks_in_fp32(micro_model: Path) -> None:
    model = model_in(micro_model, HALF)
    compute_in_fp32(model, BLOCKS[:1], torch.float16)
    nothing: Any = None
    with pytest.raises(RunError) as caught:
        generate_predictions(model, nothing, [], EvaluateConfig(backend="vllm"), nothing)
    assert (only_fault(caught).code, only_fault(caught).key) == ("not-supported", "evaluate.backend")
