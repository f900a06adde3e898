"""The profiles of cards: what their comments say is what is estimated, and fits."""

import re
from functools import cache
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medqa_finetune.architecture.size import ModelSize, size_of_shapes
from medqa_finetune.config.compose import to_config
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.config.schema import Config
from medqa_finetune.model.auto_batch import resolve_answering, resolve_auto
from medqa_finetune.model.estimate import Machine, answering_memory, training_memory
from tests.config.builders import changed, compose

GIB = 2**30
# GiB that torch sees of such a card: RTX 4060, Tesla T4, RTX 4090 (a little more than an L4), A100 80 GB.
CARDS = {"8gb": 7.6, "t4": 14.6, "24gb": 22.0, "80gb": 79.2}
SHAPES = {"3b": (2048, 11008, 36, 16, 2, 151936, True), "7b": (3584, 18944, 28, 28, 4, 152064, False)}
# Profile, model, what is typed beside the profile, and the figure of its comment: GiB to train.
FIGURES: list[tuple[str, str, tuple[str, ...], float]] = [
    ("8gb", "3b", (), 5.8), ("8gb", "3b", ("method=qlora_8bit",), 5.6),
    ("t4", "3b", ("method=lora",), 12.5), ("t4", "3b", ("method=qlora",), 8.7),
    ("t4", "3b", ("method=qlora_8bit",), 10.0), ("t4", "7b", ("method=qlora",), 11.0),
    ("24gb", "3b", ("method=lora",), 18.6), ("24gb", "3b", ("method=qlora",), 14.7),
    ("24gb", "7b", ("method=qlora",), 15.6), ("24gb", "7b", ("method=lora",), 17.6),
    ("80gb", "3b", ("method=lora",), 52.0), ("80gb", "3b", ("method=full",), 63.5),
]  # fmt: skip


@cache
def size_of(name: str) -> ModelSize:
    """Return the size of a Qwen2.5 by its published config.json."""
    hidden, inner, layers, heads, key_heads, rows, tied = SHAPES[name]
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, vocab_size=rows, tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = Qwen2ForCausalLM(config)
    shapes = {key: tuple(weight.shape) for key, weight in model.named_parameters()}
    size = size_of_shapes(shapes, config.to_dict(), 0)
    assert size is not None
    return size


def estimated(config: Config, name: str, card: float) -> tuple[float, float]:
    """GiB to train and to answer."""
    machine, size = Machine("cuda", "card", int(card * GIB)), size_of(name)
    settled = changed(
        config,
        train=resolve_auto(config, size, machine),
        evaluate=resolve_answering(config, size, machine),
    )
    return training_memory(size, settled, machine).total / GIB, answering_memory(size, settled, machine).total / GIB


@pytest.mark.parametrize(("profile", "model", "typed", "trains"), FIGURES)
def test_what_a_profile_says_is_what_is_estimated(
    profile: str, model: str, typed: tuple[str, ...], trains: float
) -> None:
    found = estimated(to_config(compose(f"profile={profile}", *typed)), model, CARDS[profile])
    assert found[0] == pytest.approx(trains, abs=0.051)
    assert max(found) < 0.95 * CARDS[profile]
    said = re.findall(r"\d+\.\d", (conf_folder() / "profile" / f"{profile}.yaml").read_text(encoding="utf-8"))
    assert f"{trains:.1f}" in said


def test_lora_in_half_precision_is_too_much_for_8_gb() -> None:
    trains, _ = estimated(to_config(compose("profile=8gb", "method=lora")), "3b", CARDS["8gb"])
    assert trains == pytest.approx(7.6, abs=0.051)
