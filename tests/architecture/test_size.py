"""How large a model is, by its files: against published counts, torch and peft."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from medqa_finetune.architecture.size import ModelSize, read_size, size_of_shapes
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, load_base, load_tokenizer
from medqa_finetune.model.parameters import count_parameters
from tests.model.sizes import size_of, write_shapes

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
QWEN_3B = 3_085_938_688
LORA = MethodConfig(name="lora")
FULL = MethodConfig(name="full", trains="all")
NONE = MethodConfig(name="none", trains="nothing")


def test_size_of_qwen_3b(qwen_3b: ModelSize) -> None:
    assert (qwen_3b.parameters, qwen_3b.layers, qwen_3b.hidden) == (QWEN_3B, 36, 2048)
    assert len(qwen_3b.linear) == 36 * 7


@pytest.mark.parametrize(
    ("method", "trainable"),
    [
        # As peft counts them, see test_methods.py.
        (LORA, 29_933_568),
        (MethodConfig(name="lora", target_modules=ATTENTION), 7_372_800),
        (MethodConfig(name="lora", target_modules=["layers.0.self_attn.q_proj"]), 16 * 4096),
        (FULL, QWEN_3B),
        (NONE, 0),
    ],
    ids=["all_linear", "attention", "one", "full", "none"],
)
def test_trainable_weights_of_qwen_3b(method: MethodConfig, trainable: int, qwen_3b: ModelSize) -> None:
    assert model_method(method).trainable_parameters(qwen_3b) == trainable


@pytest.mark.parametrize("trains", ["adapter", "all", "nothing"])
@pytest.mark.parametrize("modules", ["all_linear", ATTENTION, ["down_proj", "layers.1.mlp.up_proj"]])
def test_weights_are_counted_as_torch_and_peft_count_them(trains: str, modules: Any, micro_model: Path) -> None:
    method = MethodConfig(name="m", trains=trains, rank=3, target_modules=modules)
    base = load_base(micro_model, method, Device("cpu", "CPU", "fp32"), load_tokenizer(micro_model))
    size = size_of(micro_model)
    assert size.parameters == count_parameters(base)
    assert model_method(method).trainable_parameters(size) == count_parameters(
        model_method(method).apply(base), trainable_only=True
    )


def test_a_head_that_is_stored_beside_the_embedding_it_shares_is_counted_once(
    tmp_path: Path, micro_model: Path
) -> None:
    folder = Path(shutil.copytree(micro_model, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    assert size_of(folder).parameters == size_of(micro_model).parameters
    assert model_method(LORA).trainable_parameters(size_of(folder)) == model_method(LORA).trainable_parameters(
        size_of(micro_model)
    )
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    assert size_of(folder).parameters == size_of(micro_model).parameters + 300 * 64


def test_position_embeddings_are_not_adapted(tmp_path: Path) -> None:
    shapes = {"wte.weight": (50, 8), "wpe.weight": (16, 8), "h.0.attn.c_attn.weight": (8, 24), "h.0.ln.weight": (8,)}
    size = size_of(write_shapes(tmp_path / "gpt2", {"vocab_size": 50}, shapes))
    assert list(size.linear) == ["h.0.attn.c_attn"]


def test_the_vocabulary_may_stand_below_text_config(tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "m", {"text_config": {"vocab_size": 50}}, {"embed.weight": (50, 8)})
    assert size_of(folder).vocabulary == 50


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"vocab_size": 51}, {"text_config": 3}], ids=str)
def test_a_model_whose_files_do_not_say_has_no_size(config: dict[str, Any], tmp_path: Path) -> None:
    assert read_size(write_shapes(tmp_path / "m", config, {"embed.weight": (50, 8)})) is None


def test_experts_in_four_bits_count_as_the_numbers_that_they_stand_for() -> None:
    """A layer of gpt-oss-20b as its files have it, and as transformers holds it."""
    rest: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (201088, 2880),
        "model.layers.0.self_attn.q_proj.weight": (4096, 2880),
    }
    experts = "model.layers.0.mlp.experts"
    packed: dict[str, tuple[int, ...]] = {
        f"{experts}.gate_up_proj_blocks": (32, 5760, 90, 16),
        f"{experts}.gate_up_proj_scales": (32, 5760, 90),
        f"{experts}.down_proj_blocks": (32, 2880, 90, 16),
        f"{experts}.down_proj_scales": (32, 2880, 90),
    }
    plain: dict[str, tuple[int, ...]] = {
        f"{experts}.gate_up_proj": (32, 2880, 5760),
        f"{experts}.down_proj": (32, 2880, 2880),
    }
    settings = {"vocab_size": 201088, "num_experts_per_tok": 4}
    found, wanted = (size_of_shapes(rest | each, settings, 0) for each in (packed, plain))
    assert found is not None
    assert wanted is not None
    assert (found.parameters, found.expert_weights) == (wanted.parameters, wanted.expert_weights)
    assert found.expert_weights == 32 * (2880 * 5760 + 2880 * 2880)
    assert found.active_parameters == found.parameters - found.expert_weights * 28 // 32
