"""The files of `shared/data/raw`, as their authors published them, read with a fitting configuration."""

from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.groups import load_group
from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.prepare import prepare
from medqa_finetune.data.rows import Ledger
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.text import read_text_parts
from medqa_finetune.errors import DataError
from tests.config.builders import VALID, changed
from tests.faulty import only_fault

RAW = Path(__file__).parents[2].parent / "shared" / "data" / "raw"
pytestmark = pytest.mark.skipif(not RAW.exists(), reason=f"{RAW} is not on this machine")


CLEANED = ("outer_blanks_removed", "blanks_at_line_ends_removed", "html_entities_resolved", "html_tags_removed",
           "invisible_characters_removed", "no_break_spaces_replaced", "unicode_composed")  # fmt: skip


def read(group: str, name: str, *overrides: str) -> tuple[list[Example], dict[str, int]]:
    corpus = load_group("corpus", group, CorpusConfig, [f"path={RAW / name}", *overrides])
    ledger = Ledger()
    return list(read_examples(corpus, ledger)), dict(ledger.counts)


@pytest.mark.parametrize(
    ("group", "name", "overrides", "counts"),
    [
        ("toyhom", "toyhom_neike_gb18030.csv", [], {"rows": 7644, "pairs": 7644}),
        (
            "csv",
            "toyhom_neike_gb18030.csv",
            ["encoding=gb18030", "question=ask", "empty_values=[无]"],
            {"rows": 7644, "pairs": 7638, "rejected_empty_question": 6},
        ),
        (
            "alpaca",
            "huatuo_llama__llama_data.json",
            [],
            {"rows": 8658, "pairs": 8658, "answers_like_empty_values": 1},
        ),
        ("alpaca", "huatuo_llama__liver_cancer.json", [], {"rows": 1000, "pairs": 1000}),
        (
            "jsonl",
            "med_chatglm__train.txt",
            [
                "question=context",
                "answer=target",
                r"question_prefix='问题[：:]\s*'",
                r"question_suffix='\n回答[：:]\s*'",
            ],
            {"rows": 7622, "pairs": 7622, "python_list_texts": 80},
        ),
        ("sharegpt", "medicalgpt__medical_sft_1K_format.jsonl", [], {"rows": 1000, "pairs": 1000}),
        (
            "alpaca",
            "zhongjing__huatuo26M_test.json",
            [],
            {"rows": 6000, "pairs": 6000},
        ),
        (
            "alpaca",
            "zhongjing__CMtMedQA_test.json",
            ["question=[instruction,instruct,input]"],
            {"rows": 1144, "pairs": 1144, "pairs_with_history": 977},
        ),
        ("alpaca", "alpaca_zh_demo.json", [], {"rows": 1000, "pairs": 1000, "html_pages_kept": 1}),
        ("alpaca", "alpaca_en_demo.json", [], {"rows": 999, "pairs": 999, "html_pages_kept": 3}),
    ],
)
def test_counts(group: str, name: str, overrides: list[str], counts: dict[str, Any]) -> None:
    examples, found = read(group, name, *overrides)
    assert {name: n for name, n in found.items() if name not in CLEANED} == counts
    text = "".join(example.question + example.answer for example in examples)
    for trace in ("<br", "\ufeff", "&nbsp;", "\r", "\u200b", "\ue000", "<|"):
        assert trace not in text
    assert len({example.id for example in examples}) == len(examples)


def test_toyhom_line_numbers_count_line_breaks_inside_quotes() -> None:
    examples, _ = read("toyhom", "toyhom_neike_gb18030.csv")
    lines = (RAW / "toyhom_neike_gb18030.csv").read_text("gb18030").split("\n")
    for example in (examples[0], examples[4000], examples[-1]):
        line = lines[int(example.id.rpartition(":")[2]) - 1]
        assert example.question.split("\n")[0][:10] in line


def test_toyhom_in_the_wrong_encoding() -> None:
    with pytest.raises(DataError) as caught:
        read("csv", "toyhom_neike_gb18030.csv")
    fault = only_fault(caught)
    assert (fault.code, fault.got, fault.allowed, fault.line_number) == ("wrong-encoding", "utf-8", ("gb18030",), 2)
    assert "byte 28 " in fault.problem
    with pytest.raises(DataError) as caught:
        read("csv", "toyhom_neike_gb18030.csv", "encoding=gb2312")
    fault = only_fault(caught)
    assert (fault.code, fault.got, fault.allowed) == ("wrong-encoding", "gb2312", ("gb18030",))


def test_wrapped_questions_are_unwrapped_and_list_texts_joined() -> None:
    examples, _ = read("jsonl", "med_chatglm__train.txt", "question=context", "answer=target",
                    r"question_prefix='问题[：:]\s*'", r"question_suffix='\n回答[：:]\s*'")  # fmt: skip
    assert not any(example.question.startswith("问题：") or example.question.endswith("回答:") for example in examples)
    assert not any(example.answer.startswith("['") for example in examples)


def test_second_schema_is_named_when_it_is_not_asked_for() -> None:
    with pytest.raises(DataError) as caught:
        read("alpaca", "zhongjing__CMtMedQA_test.json")
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("too-many-rejects", "corpus.max_reject_share")
    assert "missing_column 144" in fault.problem


def test_the_longest_answer_is_kept_whole() -> None:
    examples, _ = read("alpaca", "zhongjing__huatuo26M_test.json")
    assert max(len(example.answer) for example in examples) > 6000


@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-2/valid.txt"])
def test_running_text_is_no_corpus_of_pairs(name: str) -> None:
    with pytest.raises(DataError) as caught:
        read("alpaca", name)
    assert only_fault(caught).code in ("folder-without-data", "unknown-format")


def test_dialogues_keep_what_was_said_before_and_are_not_divided(tmp_path: Path) -> None:
    overrides = [f"path={RAW / 'zhongjing__CMtMedQA_test.json'}", "question=[instruction,instruct,input]"]
    corpus = load_group("corpus", "alpaca", CorpusConfig, overrides)
    assert max(len(example.history) for example in read_examples(corpus, Ledger())) > 3
    prepared = prepare(corpus, SplitRules(100, 100, 0, 0.8), tmp_path)
    openings = [{example.opening for example in part} for part in (prepared.pool, prepared.validation, prepared.test)]
    assert sum(map(len, openings)) == len(set.union(*openings))


def test_wikitext_is_read_as_it_is(tmp_path: Path) -> None:
    for part, name in (("train", "valid"), ("valid", "valid"), ("test", "test")):
        (tmp_path / f"wiki.{part}.raw").symlink_to(RAW / "wikitext-2" / f"{name}.txt")
    corpus = load_group("corpus", "wikitext2", CorpusConfig, [f"path={tmp_path}"])
    parts = read_text_parts(changed(VALID, corpus=corpus))
    with (RAW / "wikitext-2" / "test.txt").open(encoding="utf-8", newline="\n") as file:
        assert parts.test.content == "\n\n".join(line if line.strip() else "" for line in file)
    assert parts.train == parts.validation
