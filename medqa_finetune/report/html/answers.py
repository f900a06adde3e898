"""Prepares the page's prediction browser: question, reference and every cell's prediction, side by side."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medqa_finetune.errors import DataError
from medqa_finetune.record.item_scores import ItemScores
from medqa_finetune.report.messages import name_of, score_title
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.notes import (
    AnswersOfCells,
    LowestSeed,
    NoAnswers,
    NoPredictions,
    Note,
    QuestionsDrawn,
    TextsCut,
)
from medqa_finetune.report.runs import Cell, Run
from medqa_finetune.report.scores import in_order

# Limits on cells (one run each) and bytes of text, so that a phone's browser opens the page quickly.
MOST_CELLS = 12
MOST_BYTES = 6_000_000
LONGEST_TEXT = 4000
HIT_LIMIT, TIMED_OUT, EMPTY = 1, 2, 4


class Item(NamedTuple):
    """A question with every cell's prediction; serialized as a JSON list.

    Attributes:
        id: Id of the question.
        question: None if the file has none.
        reference: None if the file has none.
        predictions: One per cell; None if the cell has none.
        scores: Scores of each cell's prediction, in the order of `Answers.scores`; None if there are none.
        flags: Bit flags per cell: `HIT_LIMIT`, `TIMED_OUT` and `EMPTY`.
    """

    id: str
    question: str | None
    reference: str | None
    predictions: list[str | None]
    scores: list[list[float] | None]
    flags: list[int]


@dataclass(frozen=True)
class Answers:
    """The predictions of a group, for the page's prediction browser.

    Attributes:
        cells: `{"label", "name", "seed"}` of each column of predictions; the label by language.
        scores: Names of the scores per question.
        items: Questions with their predictions.
        notes: What is left out of the page, and where to find it.
    """

    cells: list[dict[str, object]]
    scores: list[str]
    items: list[Item]
    notes: list[Note]

    def as_data(self) -> dict[str, object]:
        """Return the JSON data embedded in the page."""
        titles = {score: in_both(score_title(score)) for score in self.scores}
        return {"cells": self.cells, "scores": self.scores, "titles": titles, "items": self.items}


@dataclass(frozen=True)
class _Column:
    """The predictions of one cell: their run, rows and scores."""

    heading: dict[str, object]
    rows: list[dict[str, object]]
    items: ItemScores | None


def answers_of(cells: Sequence[Cell], budget: int = MOST_BYTES) -> Answers:
    """Read the predictions of one run per cell, the one with the lowest seed, up to `budget` bytes of text."""
    if any(cell.value("task") == "text" for cell in cells):
        return Answers([], [], [], [NoAnswers()])
    columns: list[_Column] = []
    notes: list[Note] = []
    for cell in cells[:MOST_CELLS]:
        run = cell.runs[0]
        rows = _predictions(run)
        if not rows:
            notes.append(NoPredictions(cell.label))
            continue
        heading = {"label": in_both(name_of(cell.label)), "name": run.name, "seed": run.known.seed}
        columns.append(_Column(heading, rows, run.items()))
    if len(cells) > MOST_CELLS:
        notes.append(AnswersOfCells(MOST_CELLS, len(cells)))
    if any(len(cell.runs) > 1 for cell in cells):
        notes.append(LowestSeed())
    scores = _shared_scores([column.items for column in columns])
    items, cut = _items(columns, scores)
    kept = _within(items, budget)
    if len(kept) < len(items):
        notes.append(QuestionsDrawn(len(kept), len(items)))
    if cut:
        notes.append(TextsCut(cut, LONGEST_TEXT))
    return Answers([column.heading for column in columns], scores, kept, notes)


def in_both(words: Text) -> dict[str, str]:
    """Return words by their language, as the page's script reads them."""
    return {"en": words.en, "zh": words.zh}


def _predictions(run: Run) -> list[dict[str, object]]:
    try:
        return [] if run.evaluation_dir is None else run.evaluation_dir.read_predictions()
    except (DataError, OSError):
        return []


def _shared_scores(items: Sequence[ItemScores | None]) -> list[str]:
    known = [set(each.values) for each in items if each is not None]
    shared = set.intersection(*known) if known else set()
    return [score.name for score in in_order(shared)]


def _items(columns: Sequence[_Column], scores: list[str]) -> tuple[list[Item], int]:
    """Return the items of `Answers`, and the number of truncated texts."""
    by_id = [{str(row.get("id")): (row, at) for at, row in enumerate(column.rows)} for column in columns]
    cut = 0
    items = []
    for row in columns[0].rows if columns else []:
        key = str(row.get("id"))
        found = [own.get(key) for own in by_id]
        predictions = [each[0].get("prediction") if each else None for each in found]
        texts = [row.get("question"), row.get("reference"), *predictions]
        cut += sum(isinstance(text, str) and len(text) > LONGEST_TEXT for text in texts)
        question, reference, *answers = [_shortened(text) for text in texts]
        values = [
            _values(column.items, each[1], scores) if each else None
            for each, column in zip(found, columns, strict=True)
        ]
        flags = [_flags(each[0]) if each else 0 for each in found]
        items.append(Item(key, question, reference, answers, values, flags))
    return items, cut


def _shortened(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … [+{len(text) - LONGEST_TEXT:,}]"


def _values(scored: ItemScores | None, place: int, scores: list[str]) -> list[float] | None:
    if scored is None or place >= len(scored.ids):
        return None
    return [round(float(scored.values[name][place]), 2) for name in scores]


def _flags(row: dict[str, object]) -> int:
    empty = not str(row.get("prediction") or "").strip()
    return HIT_LIMIT * bool(row.get("hit_limit")) + TIMED_OUT * bool(row.get("timed_out")) + EMPTY * empty


def _within(items: list[Item], budget: int) -> list[Item]:
    sizes = [len(json.dumps(item, ensure_ascii=False).encode("utf-8", "backslashreplace")) for item in items]
    if sum(sizes) <= budget:
        return items
    # Selected by a hash, so that the choice is reproducible and independent of the predictions.
    order = sorted(range(len(items)), key=lambda at: hashlib.sha256(items[at].id.encode()).digest())
    kept, spent = set(), 0
    for at in order:
        spent += sizes[at]
        if spent > budget:
            break
        kept.add(at)
    return [item for at, item in enumerate(items) if at in kept]
