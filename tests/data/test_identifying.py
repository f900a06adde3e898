"""What identifies an example: dialogues that begin alike, cases in system prompts, constant instructions."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.data.identifying import Frames, compared_text, frames_of
from medqa_finetune.data.prepare import Prepared, prepare
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.errors import DataError
from tests.faulty import only_fault

RULES = SplitRules(test_size=10, validation_size=10, split_seed=0, near_duplicate_threshold=0.8)
HELLO, WELCOME = "医生您好", "您好，请问哪里不舒服？"


def texts(seed: int) -> Callable[[], str]:
    rng = random.Random(seed)  # noqa: S311
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    return lambda: "".join(rng.choices(han, k=12))


def prepared(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Prepared:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    corpus = CorpusConfig(name="t", source="file", path=str(path), history="history", system="system", **changes)
    return prepare(corpus, RULES, folder / "cache")


def sets(made: Prepared) -> list[list[Example]]:
    return [list(made.pool), list(made.validation), list(made.test)]


def said_twice(made: Prepared, but: tuple[str, ...] = ()) -> set[str]:
    """Return the questions and system prompts that are in more than one set, but for those that are said to many."""
    found = [
        {text for each in part for text in (each.system, *(asked for asked, _ in each.turns)) if text not in but}
        for part in sets(made)
    ]
    return {text for n, part in enumerate(found) for other in found[n + 1 :] for text in part & other if text}


def unrolled(hello: list[str], dialogues: int, turns: int = 3) -> list[dict[str, Any]]:
    """Return dialogues that begin with a greeting, once for each of their turns, as many data sets hold them."""
    text, rows = texts(0), []
    for number in range(dialogues):
        said = [[hello[number % len(hello)], WELCOME], *([text(), text()] for _ in range(turns - 1))]
        rows += [{"question": q, "answer": a, "history": said[:place]} for place, (q, a) in enumerate(said)]
    random.Random(1).shuffle(rows)  # noqa: S311
    return rows


@pytest.mark.parametrize("hello", [[HELLO], [HELLO, "你好", "在吗？", "您好，想咨询一下"]])
def test_greetings_do_not_lose_the_corpus_nor_divide_a_dialogue(tmp_path: Path, hello: list[str]) -> None:
    made = prepared(tmp_path, unrolled(hello, 60))
    pool, validation, test = sets(made)
    assert (len(validation), len(test)) == (10, 10)
    # Every dialogue that is not held out is trained on, at each of its turns; a greeting alone is never asked.
    assert len(pool) == 40 * 2 + len(hello)
    assert said_twice(made, tuple(hello)) == set()
    assert made.notes["counts"]["examples_that_begin_alike"] == 60 * 3
    assert not {each.question for each in (*validation, *test)} & set(hello)


def test_a_second_opening_that_many_share_is_gone_beyond_too(tmp_path: Path) -> None:
    text = texts(2)
    start = [[HELLO, WELCOME], ["我想问一个问题", "请说。"]]
    rows = [{"question": text(), "answer": text(), "history": start} for _ in range(60)]
    made = prepared(tmp_path, rows)
    assert [len(part) for part in sets(made)] == [40, 10, 10]


def test_the_case_in_the_system_prompt_tells_its_questions_apart(tmp_path: Path) -> None:
    text, rows = texts(3), []
    for _ in range(60):
        case = text()
        rows += [{"question": q, "answer": text(), "system": case} for q in ("请诊断。", "怎么治疗？", "要复查吗？")]
    made = prepared(tmp_path, rows)
    pool, validation, test = sets(made)
    assert (len(pool), len(validation), len(test)) == (40 * 3, 10, 10)
    cases = [{each.system for each in part} for part in (pool, validation, test)]
    assert sum(map(len, cases)) == len(set.union(*cases)) == 60


def test_a_constant_system_prompt_tells_nothing_apart(tmp_path: Path) -> None:
    text = texts(4)
    rows = [
        {"question": text(), "answer": text(), "history": [[HELLO, WELCOME]], "system": "你是医生。"} for _ in range(60)
    ]
    made = prepared(tmp_path, rows)
    assert [len(part) for part in sets(made)] == [40, 10, 10]
    assert said_twice(made, (HELLO, "你是医生。")) == set()


def test_styles_in_the_system_prompt_do_not_divide_a_question(tmp_path: Path) -> None:
    text, rows = texts(5), []
    styles = [text() for _ in range(8)]
    for _ in range(60):
        question = text()
        rows += [{"question": question, "answer": text(), "system": style} for style in styles]
    made = prepared(tmp_path, rows)
    assert said_twice(made, tuple(styles)) == set()
    assert "examples_that_begin_alike" not in made.notes["counts"]


def test_the_time_in_the_system_prompt_makes_no_other_question(tmp_path: Path) -> None:
    text, rows = texts(6), []
    for number in range(40):
        question, answer = text(), text()
        rows += [{"question": question, "answer": answer, "system": f"现在{number}点{n}分"} for n in range(10)]
    made = prepared(tmp_path, rows)
    openings = [{each.question for each in part} for part in sets(made)]
    assert sum(map(len, openings)) == len(set.union(*openings)) == 40


def test_a_constant_instruction_does_not_make_all_questions_near(tmp_path: Path) -> None:
    text = texts(7)
    instruction = "".join(text() for _ in range(12))
    rows = [{"question": f"{instruction}：{text()}。{instruction[:40]}", "answer": text()} for _ in range(60)]
    assert len(prepared(tmp_path, rows).pool) == 40
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, rows, identified_by="first_question")
    assert only_fault(caught).code == "corpus-too-small"


def test_the_message_says_what_counts_and_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, unrolled([HELLO], 60), identified_by="first_question")
    fault = only_fault(caught)
    assert (fault.code, "1 distinct" in fault.problem) == ("corpus-too-small", True)
    assert "corpus.identified_by" in fault.problem
    assert "corpus.identified_by=prompt" in fault.hint


@pytest.mark.parametrize(
    ("rule", "text"),
    [("auto", "一"), ("first_question", "一"), ("last_question", "三"), ("system", "系"), ("prompt", "系\n一\n二\n三")],
)
def test_what_is_compared_is_a_setting(rule: str, text: str) -> None:
    assert compared_text(Example("a", "三", "四", "系", (("一", "二"),)), rule) == text


def test_without_a_system_prompt_the_question_identifies() -> None:
    assert compared_text(Example("a", "三", "四"), "system") == "三"


def test_system_prompts_identify_only_where_there_are_any(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, [{"question": f"问题{n}", "answer": "答"} for n in range(30)], identified_by="system")
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "corpus.identified_by")


def test_frames_are_long_and_around_many_texts() -> None:
    text = texts(8)
    before, behind = text() * 3, text() * 2
    framed = [before + text() + behind for _ in range(20)]
    frames = frames_of([*framed, *(text() for _ in range(50))])
    assert frames == Frames((before,), (behind,))
    assert frames.without(before + "一" + behind) == "一"
    assert frames.without(before + behind) == before + behind
    assert frames_of([text()[:5] + "患者男性" for _ in range(60)]) == Frames()
    assert frames_of(framed[:5]) == Frames()
    assert frames_of([text() * 9 + behind for _ in range(60)]) == Frames()
