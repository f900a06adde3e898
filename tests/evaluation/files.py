"""A check that whatever a file of predictions holds is either scored or refused."""

import json
from pathlib import Path

from medqa_finetune.errors import DataError
from medqa_finetune.evaluate import as_text
from medqa_finetune.evaluation.predictions import read_answers
from medqa_finetune.evaluation.score import score_answers
from tests.data.files import check_message

METRICS = ("rouge", "bleu", "perplexity")


def check_answers(path: Path, content: bytes) -> None:
    """Read answers and score them: figures that JSON knows, and text that any terminal takes."""
    path.write_bytes(content)
    try:
        answers = read_answers(path)
        record, rows = score_answers(answers, METRICS)
    except DataError as error:
        check_message(error)
        return
    assert record.n == len(answers) == len(rows)
    json.dumps([{name: score.value for name, score in record.scores.items()}, rows], allow_nan=False)
    text = as_text(record, rows)
    assert text.encode()
    assert all(character.isprintable() or character == "\n" for character in text)
