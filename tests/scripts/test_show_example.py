"""`scripts/show_example.py`: what a model is trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HISTORY = [["头痛怎么办？", "多休息。"]]


@pytest.fixture
def arguments(micro_model: Path, tmp_path: Path) -> list[str]:
    rows = [{"question": f"第{n}天发烧怎么办？", "answer": f"第{n}天要多喝水。", "history": HISTORY} for n in range(40)]
    corpus = tmp_path / "mine.jsonl"
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return [
        f"corpus.path={corpus}", "corpus=jsonl", "corpus.history=history", "model=local", f"model.path={micro_model}",
        "method=lora", "data=20k", "data.train_size=20", "data.test_size=2", "data.validation_size=2",
        "corpus.identified_by=prompt",
    ]  # fmt: skip


def test_text_and_ids_of_each_stretch_are_printed(
    run_script: Callable[..., Any], arguments: list[str], micro_model: Path
) -> None:
    from transformers import AutoTokenizer

    outcome = run_script("show_example", *arguments, "show.number=3")
    assert outcome.code == 0, outcome.err
    stretches = outcome.out.split("── ")[1:]
    assert [stretch.split(",")[0] for stretch in stretches] == ["no loss", "loss", "no loss", "loss"]
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    for stretch in stretches:
        text, _, ids = stretch.partition("\n")[2].rstrip("\n").rpartition("\n")
        assert tokenizer.decode([int(token) for token in ids.split()]) == text
    assert stretches[1].split("\n")[1] == "多休息。<|im_end|>"


def test_a_corpus_of_any_size_can_be_looked_at(run_script: Callable[..., Any], arguments: list[str]) -> None:
    outcome = run_script("show_example", *(each for each in arguments if not each.startswith("data")))
    assert outcome.code == 0, outcome.err


def test_a_number_beyond_the_set_is_refused(run_script: Callable[..., Any], arguments: list[str]) -> None:
    outcome = run_script("show_example", *arguments, "show.number=21")
    assert outcome.code == 2
    assert "show.number=21" in outcome.err
