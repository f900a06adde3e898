"""Thoughts in predictions that come from a file: left out and counted, as a run leaves them out of its own."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.evaluation.prediction_files import predictions_of, read_prediction_file
from medqa_finetune.evaluation.predictions import Prediction, to_row
from medqa_finetune.evaluation.score import score_predictions

CLOSED, OPENED_BY_THE_PROMPT, UNCLOSED = "<think>\n想\n</think>\n\n多休息", "想\n</think>\n\n多休息", "<think>\n想"
PATH = Path("answers.jsonl")


def read(*rows: dict[str, Any]) -> list[Prediction]:
    return predictions_of(list(enumerate(rows, start=1)), PATH)


@pytest.mark.parametrize("text", [CLOSED, OPENED_BY_THE_PROMPT])
def test_what_follows_the_thought_is_scored(text: str) -> None:
    found = read({"prediction": text, "references": [text, "多休息"]})
    assert found == [Prediction("1", "", ("多休息", "多休息"), "多休息", thought="想", thought_unclosed=False)]
    record, _ = score_predictions(found, ["rouge"])
    assert (record.scores["rougeL"].value, record.unclosed_rate) == (100, 0)


def test_an_unclosed_thought_is_an_empty_prediction(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prediction": text, "reference": "多休息"} for text in (UNCLOSED, CLOSED, "多休息", "")]
    with caplog.at_level(logging.INFO):
        found = read(*rows)
    assert [(each.prediction, each.thought, each.thought_unclosed) for each in found] == [
        ("", "想", True), ("多休息", "想", False), ("多休息", "", False), ("", "", False),
    ]  # fmt: skip
    assert "2 of 4 predictions and of 0 of 4 references" in caplog.text
    assert "1 of 4 predictions open a thought" in caplog.text
    record, _ = score_predictions(found, ["rouge"])
    assert (record.unclosed_rate, record.empty_rate) == (0.25, 0.5)


def test_what_may_be_a_thought_that_the_prompt_opened_is_said(caplog: pytest.LogCaptureFixture) -> None:
    found = read(*({"prediction": text, "reference": "多休息"} for text in (OPENED_BY_THE_PROMPT, "先想想", "")))
    assert [each.prediction for each in found] == ["多休息", "先想想", ""]
    assert "1 of 3 predictions hold no" in caplog.text
    caplog.clear()
    read(*({"prediction": text, "reference": "多休息"} for text in (CLOSED, "多休息")))
    assert not caplog.records


def test_thoughts_of_references_alone_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = read({"predict": "多休息", "label": CLOSED}, {"predict": "多休息", "label": UNCLOSED})
    assert [(each.references, each.thought_unclosed) for each in found] == [(("多休息",), None), ((UNCLOSED,), None)]
    assert "0 of 2 predictions and of 1 of 2 references" in caplog.text
    assert "1 of 2 references open a thought" in caplog.text


def test_our_own_predictions_stay_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = [
        Prediction("a", "问", ("多休息",), "甲</think>乙", thought="想", thought_unclosed=False),
        Prediction("b", "问", ("多休息",), "", thought="", thought_unclosed=True),
        Prediction("c", "问", ("多休息",), "多休息"),
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(to_row(each), ensure_ascii=False) + "\n" for each in own), "utf-8")
    with caplog.at_level(logging.INFO):
        assert read_prediction_file(path) == own
    assert not caplog.records
