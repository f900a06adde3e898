"""Where pairs, or running text, come from: the settings below `corpus`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass(frozen=True)
class CorpusConfig:
    """Where pairs come from.

    Attributes:
        name: Short name, used for the run folder.
        source: `embedded` (ships with the package), `file` (a local file) or `hub` (a public data set).
        path: File or folder, for `file`; `.gz` and `.zst` are read directly.
        task: What is learnt: `qa` (to answer questions) or `text` (to go on with running text).
        format: `auto` (by file name), `jsonl`, `json`, `csv` or `parquet`; for running text also `text`.
        encoding: Of text files, by name (`utf-8`, `gb18030`, …); a byte-order mark is accepted.
        question: Column of the question; several are joined with a line break (title and text). Here and in other
            columns, `conversations.0.value` goes into lists and objects.
        answer: Column of the answer.
        system: Column of the system prompt. Rows may lack it; a column of another name than `system` must be there.
        history: Column of the earlier turns, a list of `[question, answer]`. Rows may lack it, as above.
        messages: Column of a whole conversation, a list of `{"from", "value"}` or `{"role", "content"}`, in place of
            `question`, `answer` and `history`; null where these are columns.
        id: Column of the row's id; null numbers the rows.
        text: Column of the text, for `task=text`; text files have no columns.
        separator: What stands between two rows of running text.
        by_line: Whether each line of a text file is a row, its line feed kept, those of white space alone empty, as
            WikiText's rows are on the hubs; else rows are what blank lines separate.
        empty_values: Cells that mean "nothing here" in this corpus (`无`).
        question_prefix: Regular expression removed from the front of a question.
        question_suffix: Regular expression removed from the end of a question.
        answer_prefix: Regular expression removed from the front of an answer.
        repository: `owner/name` on the hub, for `hub`.
        hub: `huggingface` or `modelscope`, for `hub`.
        revision: Branch, tag or commit on the hub.
        files: File names or patterns inside the repository, for `hub`.
        max_reject_share: Share of rows that may be unusable before the corpus is refused; in [0, 1].
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    task: str = "qa"
    format: str = "auto"
    encoding: str = "utf-8"
    question: Any = "question"
    answer: str = "answer"
    system: str | None = None
    history: str | None = None
    messages: str | None = None
    id: str | None = None
    text: str = "text"
    separator: str = "\n\n"
    by_line: bool = False
    empty_values: list[str] = field(default_factory=list)
    question_prefix: str | None = None
    question_suffix: str | None = None
    answer_prefix: str | None = None
    repository: str | None = None
    hub: str = "huggingface"
    revision: str = "main"
    files: list[str] = field(default_factory=list)
    max_reject_share: float = 0.01
