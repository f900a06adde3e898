"""Bad inputs 13 to 24: odd values and texts, repeated rows, and splits that cannot be made as requested."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.bad_input_cases.case import BRIEF, LORA, NONE, Case, Expected
from scripts.bad_input_cases.rows import (
    CORPUS,
    GOOD_ROWS,
    JSONL,
    accepted,
    after_good,
    corpus,
    json_lines,
    line,
    lines,
    pair,
    skipped,
)

ON_CORPUS = (*LORA, *JSONL)
SETS = (*JSONL, "data.scale=0.0001", "--sizes", "20k", "--to", "sets", "--cache", "cache")
LONG = 10**6
BOTH_CUT = "2 of 2 examples (100.0 %) are longer than train.max_length=128"


def training_cut(folder: Path) -> None:
    """Check that both training examples were truncated, and the loss covers the rest of their answers."""
    trained = record_of(folder)["train"]
    assert (trained["truncated"], trained["samples"]) == (2, 2)
    assert trained["answer_tokens"] > 0
    assert 0 < trained["best_validation_loss"] < 100


def record_of(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("record.json")
    content: dict[str, Any] = json.loads(path.read_bytes())
    assert content["status"] == "done"
    return content


def no_question_twice(folder: Path) -> None:
    """Check that no question of one set is in another, ignoring punctuation."""
    sets = [
        {"".join(filter(str.isalnum, row["question"])) for row in json_lines(folder / "sets" / f"{name}.jsonl")}
        for name in ("train_20k", "validation", "test")
    ]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets))


def neutralised(folder: Path) -> None:
    """Check that no chat token is left that a tokenizer would interpret."""
    assert "<|im_end|>" not in (folder / "cleaned" / "pairs.jsonl").read_text(encoding="utf-8")


def change_once_the_first_run_works(folder: Path) -> None:
    """Append a row to the corpus as soon as the first cell of a matrix works with it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        texts = [path.read_text(encoding="utf-8") for path in folder.glob("outputs/demo/*/record.json")]
        if any('"status": "running"' in text for text in texts):
            with (folder / CORPUS).open("a", encoding="utf-8") as file:
                file.write(line(pair(GOOD_ROWS)))
            return
        time.sleep(0.05)


def only_what_was_asked_for(folder: Path) -> None:
    """Check that the changed corpus was not trained on, and the first run is complete."""
    assert states(folder, "*/record.json") == ["done", "failed"]


def only_one_evaluation(folder: Path) -> None:
    """Check that the changed corpus was not evaluated, and the first evaluation is complete."""
    assert states(folder, "*/record.json") == ["done"]
    assert states(folder, "*/evaluations/*/evaluation.json") == ["done", "failed"]


def states(folder: Path, pattern: str) -> list[str]:
    return sorted(json.loads(path.read_bytes())["status"] for path in folder.glob(f"outputs/demo/{pattern}"))


def changed_in_a_sweep(what: str, swept: str, second: str, check: Callable[[Path], None]) -> Case:
    """Case of a corpus that changes once the first of two cells works with it."""
    return Case(
        24, f"file changed between two {what} of a sweep", ("-m", *NONE, *JSONL, "data=20k", swept),
        (
            Expected("runs-not-done", names=("1 of 2 runs",)),
            Expected("run-failed", names=("run_name=none__corpus=pairs-", "log.txt"), file=second),
        ),
        corpus(lines()), code=1, check=check, meanwhile=change_once_the_first_run_works, slow=True,
    )  # fmt: skip


def similar_questions() -> str:
    """Rows in which every question is repeated with other punctuation, another answer, and one more character."""
    topics = (
        "牙齿疼得睡不着觉",
        "夜里咳嗽带痰",
        "膝盖爬楼梯时酸痛",
        "饭后胃里反酸水",
        "眼睛看东西模糊",
        "手指关节早上发僵",
    )
    variants = ("{}怎么办", "{}，怎么办？", "{}怎么办呢", "请问{}怎么办", "{} 怎么办")
    return "".join(
        line({"question": variant.format(topic), "answer": f"先去看医生，第{number}种说法。"})
        for topic in topics
        for number, variant in enumerate(variants)
    )


def too_small(asked: int, left: int, of: str) -> Expected:
    """Fault of a corpus with fewer training examples than requested."""
    names = (f"{left} training examples", of, "held out questions")
    return Expected("corpus-too-small", "data.train_size", asked, names, hint=f"Ask for {left} or less")


CASES = [
    skipped(
        13, "boolean or list as answer", line(pair(900) | {"answer": True}) + line(pair(901) | {"answer": [1, 2]}),
        "answer_not_text", "answer_not_text",
    ),
    skipped(
        14, "NaN, a key twice", '{"question": "头痛", "answer": NaN}\n'
        '{"question": "头痛", "answer": "休息", "answer": "喝水"}\n', "empty_answer", "duplicate_key",
    ),
    skipped(15, "half a surrogate pair", '{"question": "头痛\\ud83d怎么办", "answer": "休息"}\n', "lone_surrogate"),
    accepted(
        16, "U+2028 inside a text", corpus(lines(), line(pair(900) | {"answer": "先休息。\u2028再喝水。"})),
        GOOD_ROWS + 1,
    ),
    skipped(
        17, "100,000 levels deep, 5,000 digits", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n"
        + '{"a": ' + "9" * 5000 + "}\n", "too_deep", "number_too_long",
    ),
    Case(
        18, "answer of 1 MB", (*ON_CORPUS, "train.max_length=128"), (),
        corpus(*(line(pair(n) | {"answer": "多喝水。" * (LONG // 12)}) for n in range(4))), code=0, check=training_cut,
        says=(BOTH_CUT,), slow=True,
    ),
    Case(
        19, "question longer than train.max_length", (*ON_CORPUS, "train.max_length=128"), (),
        corpus(*(line({"question": f"第{n}天头痛" * 500, "answer": "多休息，多喝水。"}) for n in range(4))), code=0,
        check=training_cut, says=(BOTH_CUT,), slow=True,
    ),
    Case(
        20, "chat tokens in the data", (*JSONL, "--to", "cleaned"), (),
        after_good(line({"question": "头痛<|im_end|>怎么办", "answer": "休息。<|im_end|>"})), "preprocess", 0,
        neutralised, ("2  chat_tokens_neutralised",),
    ),
    Case(
        21, "rows twice", (*SETS, "data.near_duplicate_threshold=1.0"), (), corpus(lines(), lines()), "split", 0,
        says=("200  exact_duplicates",),
    ),
    Case(
        22, "the same questions in training and test", SETS, (), corpus(similar_questions()), "split", 0,
        no_question_twice, ("2  other_answers_to_held_out_questions", "2  training_pairs_near_duplicates_of_test"),
    ),
    Case(
        23, "fewer rows than asked for", (*ON_CORPUS, "data=100k", "data.scale=0.001"),
        (too_small(100, 80, "100 rows"),), corpus(lines(100)), prepared=True,
    ),
    Case(
        23, "fewer rows than the matrix asks for",
        ("-m", *BRIEF, *JSONL, "method=lora", "data=20k,50k,100k", "data.scale=0.0009"),
        (too_small(45, 42, "60 rows"), too_small(90, 42, "60 rows")), corpus(lines(60)), prepared=True,
    ),
    changed_in_a_sweep("runs", "train.max_length=128,192", "192__evaluate.max_new_tokens=2", only_what_was_asked_for),
    changed_in_a_sweep("evaluations", "evaluate.max_new_tokens=2,3", "evaluate.max_new_tokens=3", only_one_evaluation),
]  # fmt: skip
