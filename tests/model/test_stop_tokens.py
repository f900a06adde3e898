"""Which tokens end an answer, by the files of a model."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import load_tokenizer
from medqa_finetune.model.stop_tokens import end_answers, stop_ids
from scripts.small_models import write_micro_model

END, LAST = 2, 299  # <|im_end|>, and the highest token that the micro model knows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_micro_model(tmp_path / "model")


def loaded(folder: Path, generation: dict[str, Any] | None, **config: Any) -> Any:
    """A model with these end tokens in its two files."""
    path, settings = folder / "generation_config.json", json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(settings | config))
    path.unlink() if generation is None else path.write_text(json.dumps(generation))
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("generation", "config", "wanted"),
    [
        ({"eos_token_id": 2}, {}, (2,)),
        ({"eos_token_id": 0}, {}, (0, 2)),
        ({"eos_token_id": [5, 2, 0]}, {}, (0, 2, 5)),
        ({"eos_token_id": [5]}, {"eos_token_id": [7, 8]}, (2, 5)),
        (None, {"eos_token_id": [7, 8]}, (2, 7, 8)),
        ({}, {"eos_token_id": [7, 8]}, (2, 7, 8)),
        ({}, {"eos_token_id": None}, (2,)),
        ({"eos_token_id": [LAST, 300, -1, 10**6]}, {}, (2, LAST)),
    ],
    ids=["one", "another", "several", "generation first", "config", "config alone", "none", "not in the vocabulary"],
)
def test_all_end_tokens_of_the_files_count(
    folder: Path, generation: dict[str, Any] | None, config: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    model, tokenizer = loaded(folder, generation, **config), load_tokenizer(folder)
    assert model.get_input_embeddings().weight.shape[0] == LAST + 1
    assert stop_ids(model, tokenizer, END) == wanted


def test_template_and_tokenizer_may_have_ends_of_their_own(folder: Path) -> None:
    model, tokenizer = loaded(folder, {"eos_token_id": [4, 5]}), load_tokenizer(folder)
    tokenizer.eos_token = "<|endoftext|>"
    assert stop_ids(model, tokenizer, 7) == (0, 4, 5, 7)


def test_end_tokens_of_a_model_with_adapters_are_those_of_its_base(folder: Path) -> None:
    model, tokenizer = loaded(folder, {"eos_token_id": [0, 5]}), load_tokenizer(folder)
    adapted = model_method(MethodConfig(name="lora")).apply(model)
    assert stop_ids(adapted, tokenizer, END) == (0, 2, 5)


def test_saved_models_end_answers_elsewhere_too(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = loaded(folder, {"eos_token_id": 0}), load_tokenizer(folder)
    end_answers(model, tokenizer, END)
    model.save_pretrained(tmp_path / "saved")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config.eos_token_id == [0, 2]
