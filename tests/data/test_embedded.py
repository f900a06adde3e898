import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_finetune.data import embedded

CORPUS = Path(embedded.__file__).with_name("embedded_corpus")
LIST_KEYS = ("causes", "symptoms", "examinations", "treatment", "care", "prevention", "urgent")
TRADITIONAL = "醫療藥診斷檢癥狀發熱頭腦腸臟腎門風濕關節預護飲體溫長時間過應該經現個這對來為無與壓層會說後點"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(embedded.embedded_rows())


@pytest.fixture(scope="module")
def table() -> list[dict[str, object]]:
    return [json.loads(line) for line in (CORPUS / "conditions.jsonl").read_text(encoding="utf-8").splitlines()]


def trigrams(text: str) -> frozenset[str]:
    return frozenset(text[start : start + 3] for start in range(len(text) - 2))


def near_duplicates(candidates: list[frozenset[str]], references: list[frozenset[str]]) -> int:
    def alike(first: frozenset[str], second: frozenset[str]) -> bool:
        return len(first & second) >= 0.8 * len(first | second)

    return sum(any(alike(candidate, reference) for reference in references) for candidate in candidates)


def test_every_condition_is_complete_and_distinct(table: list[dict[str, object]]) -> None:
    assert len(table) >= 120
    assert len({entry["name"] for entry in table}) == len(table)
    for entry in table:
        assert set(entry) == {"name", "department", "overview", *LIST_KEYS}
        assert all(str(entry[key]).strip() for key in ("name", "department", "overview"))
        for key in LIST_KEYS:
            phrases = entry[key]
            assert isinstance(phrases, list)
            assert len(phrases) >= 2
            assert all(isinstance(phrase, str) and phrase.strip() for phrase in phrases)
            assert len(set(phrases)) == len(phrases)


def test_no_two_conditions_share_their_facts(table: list[dict[str, object]]) -> None:
    for key in LIST_KEYS:
        contents = [tuple(sorted(map(str, entry[key]))) for entry in table]  # type: ignore[call-overload]
        assert len(set(contents)) == len(contents), key


def test_rows_are_many_and_questions_distinct(rows: list[dict[str, str]]) -> None:
    assert len(rows) >= 5000
    assert len({row["question"] for row in rows}) == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(30 <= len(row["answer"]) <= 110 for row in rows)
    assert not any(mark in row["question"] + row["answer"] for row in rows for mark in "{}")


def test_rows_do_not_depend_on_the_hash_seed(rows: list[dict[str, str]]) -> None:
    code = (
        "import hashlib, json; from medqa_finetune.data.embedded import embedded_rows;"
        "print(hashlib.sha256(json.dumps(list(embedded_rows())).encode()).hexdigest())"
    )
    here = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    for seed in ("1", "2"):
        root = Path(embedded.__file__).parents[2]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        child = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert child.stdout.strip() == here


def test_digest_covers_data_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = embedded.embedded_sha256()
    assert before == embedded.embedded_sha256()
    monkeypatch.setattr(embedded, "GENERATOR_VERSION", embedded.GENERATOR_VERSION + 1)
    assert embedded.embedded_sha256() != before
    monkeypatch.undo()
    read = embedded._read_bytes
    monkeypatch.setattr(embedded, "_read_bytes", lambda name: read(name) + b"\n")
    assert embedded.embedded_sha256() != before


def test_same_condition_and_aspect_give_one_answer(rows: list[dict[str, str]]) -> None:
    assert len({row["answer"] for row in rows}) == len(embedded.conditions()) * 12


@pytest.mark.parametrize("name", embedded.DATA_FILES)
def test_characters_are_simplified(name: str) -> None:
    text = (CORPUS / name).read_text(encoding="utf-8")
    assert not set(TRADITIONAL) & set(text)


def test_held_out_questions_have_few_near_duplicates(rows: list[dict[str, str]]) -> None:
    order = random.Random(7)  # noqa: S311 - which questions are taken need not be secret
    chosen = set(order.sample(range(len(rows)), 200))
    sets = [trigrams(row["question"]) for row in rows]
    held_out = [sets[index] for index in sorted(chosen)]
    others = [sets[index] for index in range(len(rows)) if index not in chosen]
    assert near_duplicates(others, held_out) < 0.03 * len(others)
    assert near_duplicates(held_out, held_out) == len(held_out)  # the measure itself finds what is there


def test_held_out_parts_share_no_answer_with_training(rows: list[dict[str, str]]) -> None:
    parts: dict[str, list[dict[str, str]]] = {}
    for part, row in embedded.embedded_rows_of_parts():
        parts.setdefault(part, []).append(row)
    assert {part: len(own) for part, own in parts.items()} == {"train": 4235, "validation": 875, "test": 875}
    answers = {part: {row["answer"] for row in own} for part, own in parts.items()}
    assert not answers["train"] & (answers["validation"] | answers["test"])
    assert not answers["validation"] & answers["test"]
    known = {row["id"]: row for row in rows}
    assert all(known[row["id"]] == row for own in parts.values() for row in own)


def test_no_training_question_names_a_held_out_condition() -> None:
    questions = {"train": "", "validation": "", "test": ""}
    for part, row in embedded.embedded_rows_of_parts():
        questions[part] += row["question"] + "\n"
    names = [condition.name for condition in embedded.conditions()]
    for part in ("validation", "test"):
        own = [name for name in names if name in questions[part] and name not in questions["train"]]
        assert len(own) == embedded.HELD_OUT_CONDITIONS


def test_what_the_model_reads_before_training_holds_no_answer(rows: list[dict[str, str]]) -> None:
    texts = [*embedded.pretraining_texts(), *embedded.pretraining_sentences()]
    asked = list(embedded.pretraining_questions())
    answers = {row["answer"] for row in rows}
    held_out = {row["question"] for part, row in embedded.embedded_rows_of_parts() if part != "train"}
    assert not answers & {*texts, *(text.split("\n")[1] for text in asked)}
    assert len(asked) > 4000
    assert not held_out & {text.split("\n")[0] for text in asked}


def test_readme_disclaims() -> None:
    text = (CORPUS / "README.md").read_text(encoding="utf-8")
    assert "NOT MEDICAL ADVICE" in text
    assert "仅供软件演示，不构成医疗建议" in text
    assert "Apache-2.0" in text


def test_passages_share_no_line_with_the_answers(rows: list[dict[str, str]]) -> None:
    passages = list(embedded.pretraining_texts())
    answers = {row["answer"] for row in rows}
    assert len(passages) == len(embedded.conditions()) * embedded.PASSAGES_PER_CONDITION
    assert len(set(passages)) == len(passages)
    assert not answers & set(passages)
    text = "\n".join(passages)
    assert not any(answer in text for answer in answers)
    assert not any(closing.rstrip("。") in text for group in closings().values() for closing in group)
    assert "？" not in text


def closings() -> dict[str, list[str]]:
    loaded: dict[str, list[str]] = json.loads((CORPUS / "phrasings.json").read_text(encoding="utf-8"))["closings"]
    return loaded
