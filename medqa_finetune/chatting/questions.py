"""Questions to ask several models: our own, or a user's file."""

import json
from pathlib import Path

from medqa_finetune.errors import DataError, Fault

# Common complaints, in the words of patients; written for this package.
QUESTIONS = (
    "感冒发烧三十八度五，需要马上吃退烧药吗？",
    "高血压患者平时饮食上要注意什么？",
    "最近总是失眠，有什么办法可以改善睡眠？",
    "空腹血糖七点二，算不算糖尿病？",
    "孩子腹泻两天了，什么情况下要去医院？",
    "胃经常反酸烧心，可能是什么原因？",
)
BYTE_ORDER_MARK = "\ufeff"


def read_questions(path: Path) -> list[str]:
    """Return the questions of a UTF-8 file: one a line, or JSON Lines of `{"question"}`; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or holds no question; says where.
    """
    try:
        text = path.read_text(encoding="utf-8").removeprefix(BYTE_ORDER_MARK)
    except OSError as error:
        raise _unusable(path, "not-readable", f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise _unusable(path, "not-utf8", f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise _unusable(path, "empty", "holds no question", "Write one question a line.")
    if path.suffix in (".jsonl", ".ndjson"):
        return [_question(path, number, line) for number, line in lines]
    return [line for _, line in lines]


def _unusable(path: Path, code: str, problem: str, hint: str = "") -> DataError:
    return DataError(Fault(code, problem, key="questions", got=str(path), hint=hint))


def _question(path: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(Fault("not-json", f"is not JSON ({error})", file=str(path), line_number=number)) from None
    question = row.get("question") if isinstance(row, dict) else None
    if not isinstance(question, str) or not question.strip():
        problem = 'must be an object {"question": TEXT}'
        raise DataError(Fault("wrong-type", problem, got=row, file=str(path), line_number=number))
    return question.strip()
