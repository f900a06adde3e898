"""More of bad inputs 3, 10, 13 and 23: dialogues and running text."""

import dataclasses
from pathlib import Path

from scripts.bad_input_cases.case import LORA, Case, Expected
from scripts.bad_input_cases.rows import CORPUS, GOOD_ROWS, accepted, corpus, line, lines, pair

SHAREGPT = ("corpus=sharegpt", f"corpus.path={CORPUS}")


def talk(*speakers: str) -> str:
    said = [{"from": speaker, "value": f"这是第{number}句话。"} for number, speaker in enumerate(speakers)]
    return line({"conversations": said})


def good_talks() -> str:
    """Conversations that are not near-duplicates."""
    rows = [pair(number) for number in range(GOOD_ROWS)]
    turns = [[{"from": "human", "value": row["question"]}, {"from": "gpt", "value": row["answer"]}] for row in rows]
    return "".join(line({"conversations": turn}) for turn in turns)


def folder_without_training_text(folder: Path) -> None:
    """Write only the validation and the test part of a text."""
    for name in ("valid", "test"):
        (folder / f"{name}.txt").write_text("感冒要多休息。\n", encoding="utf-8")


BROKEN = {
    "one_speaks_twice_running": talk("human", "human", "gpt"),
    "user_has_the_last_word": talk("human", "gpt", "human"),
}

THREE_BLOCKS = "感冒要多休息。\n\n发烧要量体温。\n\n头痛要看医生。\n"
# Running text is scored without answers.
TEXT = tuple(each for each in LORA if not each.startswith("evaluate."))
CASES = [
    Case(
        3, "text without a training part", (*TEXT, "corpus=text", "corpus.path=."),
        (
            Expected(
                "part-missing", "corpus.path", names=("test.txt (test), valid.txt (validation)",),
                hint="give a single file", file=".",
            ),
        ),
        folder_without_training_text,
    ),
    Case(
        35, "answers of running text looked up",
        ("method=retrieval", "data=20k", *LORA[: len(LORA) - 2], "corpus=text", "corpus.path=book.txt"),
        (
            Expected(
                "conflict", "method.trains", "lookup", names=("running text",), allowed=("adapter", "all", "nothing")
            ),
        ),
        corpus(THREE_BLOCKS, name="book.txt"),
    ),
    Case(
        10, "no column of messages", (*LORA, "corpus=messages", f"corpus.path={CORPUS}"),
        (
            Expected(
                "column-missing", "corpus.messages", "messages", allowed=("question", "answer"),
                hint="corpus.messages=COLUMN", file=CORPUS,
            ),
        ),
        corpus(lines()),
    ),
    dataclasses.replace(
        accepted(
            13, "one speaks twice running, the user has the last word", corpus(good_talks(), *BROKEN.values()),
            GOOD_ROWS, [(GOOD_ROWS + number, reason) for number, reason in enumerate(BROKEN, 1)],
        ),
        arguments=(*SHAREGPT, "--to", "cleaned"),
    ),
    Case(
        23, "fewer blocks of text than asked for", (*TEXT, "corpus=text", "corpus.path=book.txt"),
        (
            Expected(
                "corpus-too-small", "data.train_size", 2, names=("1 training block ", "train.max_length=256"),
                hint="data=all",
            ),
        ),
        corpus(THREE_BLOCKS, name="book.txt"), prepared=True,
    ),
]  # fmt: skip
