"""What a Python program holds becomes files and choices: pairs, models, methods."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.api_inputs import choose_corpus, choose_method, choose_model, held_out, read_given, save_model
from medqa_finetune.config.schema import CorpusConfig, MethodConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import NO_VALUE, ConfigError, DataError, ModelError
from medqa_finetune.model.locate import fingerprint_model
from tests.faulty import only_fault

PAIRS = [
    ("感冒怎么办？", "休息。"),
    {"question": "头痛？", "answer": "就医。", "id": "x"},
    Example("y", "咳嗽？", "喝水。"),
]


def test_a_method_is_a_name_or_settings() -> None:
    assert choose_method("qlora") == ("qlora", {})
    assert choose_method({"rank": 64}) == ("lora", {"rank": 64})
    assert choose_method({"name": "qlora", "rank": 64}) == ("qlora", {"rank": 64})
    assert choose_method({"name": "mine", "rank": 64}) == ("lora", {"name": "mine", "rank": 64})
    name, values = choose_method(MethodConfig(name="full", trains="all"))
    assert (name, values["trains"], "name" in values) == ("full", "all", False)


def test_pairs_of_every_kind_become_one_file(tmp_path: Path) -> None:
    name, values = choose_corpus(PAIRS, tmp_path)
    rows = [json.loads(line) for line in Path(values["path"]).read_text(encoding="utf-8").splitlines()]
    assert name == "jsonl"
    assert [(row["id"], row["question"], row["answer"]) for row in rows] == [
        ("0", "感冒怎么办？", "休息。"), ("x", "头痛？", "就医。"), ("y", "咳嗽？", "喝水。"),
    ]  # fmt: skip
    assert choose_corpus(iter(PAIRS), tmp_path) == (name, values)


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("embedded", ("embedded", {})),
        ("a.csv", ("csv", {"path": "a.csv"})),
        (Path("b.jsonl.gz"), ("jsonl", {"path": "b.jsonl.gz"})),
        ("folder", ("jsonl", {"path": "folder", "format": "auto"})),
    ],
)
def test_a_corpus_is_a_name_or_a_file(given: Any, choice: Any, tmp_path: Path) -> None:
    assert choose_corpus(given, tmp_path) == choice
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pairs", "code", "key", "got"),
    [
        (7, "wrong-type", "pairs", 7),
        ([], "empty", "pairs", NO_VALUE),
        ([("感冒？", "休息。"), ("头痛？",)], "not-a-pair", "pairs[1]", ("头痛？",)),
        ([{"question": "头痛？"}], "not-a-pair", "pairs[0]", {"question": "头痛？"}),
        ([{"question": "头痛？", "answer": None}], "not-a-pair", "pairs[0]", {"question": "头痛？", "answer": None}),
        (["头痛？"], "not-a-pair", "pairs[0]", "头痛？"),
        ([7], "not-a-pair", "pairs[0]", 7),
    ],
)
def test_what_is_no_pair_is_named(pairs: Any, code: str, key: str, got: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        choose_corpus(pairs, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)


def test_outputs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        choose_corpus(PAIRS, tmp_path / "file" / "cache")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-writable", "outputs", str(tmp_path / "file"))


def test_pairs_are_cleaned_as_a_corpus_is(tmp_path: Path) -> None:
    (pair,) = read_given([("头痛&nbsp;怎么办<br>？", "就医。")], tmp_path)
    assert pair == Example("0", "头痛 怎么办\n？", "就医。")


def test_an_id_that_stands_twice_names_one_pair(tmp_path: Path) -> None:
    found = read_given([{"id": "x", "question": text, "answer": "休息。"} for text in ("头痛？", "咳嗽？")], tmp_path)
    assert [pair.id for pair in found] == ["x", "pairs.jsonl:2"]


@pytest.mark.parametrize(("n", "size"), [(3, 1), (19, 1), (20, 2), (240, 24), (12_000, 1000)])
def test_a_tenth_up_to_1000_is_held_out(n: int, size: int, tmp_path: Path) -> None:
    _, values = choose_corpus([(f"第{number}个问题？", "休息。") for number in range(n)], tmp_path)
    assert held_out(CorpusConfig(name="jsonl", source="file", id="id", **values)) == size


def test_two_pairs_are_too_few(tmp_path: Path) -> None:
    _, values = choose_corpus(PAIRS[:2], tmp_path)
    with pytest.raises(DataError) as caught:
        held_out(CorpusConfig(name="jsonl", source="file", id="id", **values))
    assert (only_fault(caught).code, only_fault(caught).file) == ("too-few", values["path"])


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_a_model_is_a_name_or_a_folder(tmp_path: Path) -> None:
    assert choose_model("tiny", None, tmp_path) == ("tiny", {})
    assert choose_model("./tiny", None, tmp_path) == ("local", {"path": "./tiny"})
    assert choose_model(Path("models/a"), None, tmp_path) == ("local", {"path": "models/a"})
    with pytest.raises(ModelError) as caught:
        choose_model("tiny", load(Path("medqa_finetune/model/tiny"))[1], tmp_path)
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "tokenizer")


def test_a_model_in_memory_is_saved_once(micro_model: Path, tmp_path: Path) -> None:
    import torch

    model, tokenizer = load(micro_model)
    folder = save_model(model, tokenizer, tmp_path)
    assert save_model(model, tokenizer, tmp_path) == folder
    assert folder.name == "qwen2"
    assert [path.name for path in tmp_path.iterdir()] == [f"model-{fingerprint_model(folder)[:16]}"]
    again, _ = load(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert save_model(model, tokenizer, tmp_path) != folder


@pytest.mark.parametrize(
    ("kind", "code", "key", "hint"),
    [
        ("no tokenizer", "missing-key", "tokenizer", "tokenizer="),
        ("adapters", "has-adapters", "model", "merge_and_unload()"),
        ("quantized", "quantized", "model", "method='qlora'"),
        ("no model", "wrong-type", "model", ""),
    ],
)
def test_a_model_that_is_no_base_is_refused(
    kind: str, code: str, key: str, hint: str, micro_model: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load(micro_model)
    if kind == "adapters":
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    model.is_quantized = kind == "quantized"
    with pytest.raises(ModelError) as caught:
        save_model({} if kind == "no model" else model, None if kind == "no tokenizer" else tokenizer, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, key)
    assert hint in fault.hint
    assert fault.got == ("dict" if kind == "no model" else NO_VALUE)
    assert list(tmp_path.iterdir()) == []
