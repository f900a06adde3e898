"""What the page shows of the answers: question, reference and every cell's answer, side by side."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medqa_finetune.errors import DataError
from medqa_finetune.report.figures.cells import Cell
from medqa_finetune.report.html.sources import Source
from medqa_finetune.report.notes import (
    AnswersOfCells,
    LowestSeed,
    NoAnswers,
    NoPredictions,
    Note,
    QuestionsDrawn,
    TextsCut,
)
from medqa_finetune.report.scores import in_order

# One run per cell, so many cells, and so many bytes of text: what a browser opens at once on a phone.
MOST_CELLS = 12
MOST_BYTES = 6_000_000
LONGEST_TEXT = 4000
HIT_LIMIT, TIMED_OUT, EMPTY = 1, 2, 4


@dataclass(frozen=True)
class Answers:
    """The answers of a group, as the page's browser of predictions reads them.

    Attributes:
        cells: `{"label", "name", "seed"}` of each column of answers.
        scores: Names of the scores per question.
        items: `[id, question, reference, answers, scores, flags]`: per cell an answer, the scores in the order of
            `scores` (None where there are none), and `HIT_LIMIT`, `TIMED_OUT`, `EMPTY` added up.
        notes: What is left out of the page, and where the whole is.
    """

    cells: list[dict[str, Any]]
    scores: list[str]
    items: list[list[Any]]
    notes: list[Note]

    def as_data(self) -> dict[str, Any]:
        """Return what is embedded."""
        return {"cells": self.cells, "scores": self.scores, "items": self.items}


def answers_of(cells: Sequence[Cell], sources: Mapping[tuple[str, str], Source], budget: int = MOST_BYTES) -> Answers:
    """Read the answers of one run per cell, the one with the lowest seed, up to `budget` bytes of text."""
    if any(cell.runs["task"].eq("text").any() for cell in cells):
        return Answers([], [], [], [NoAnswers()])
    columns: list[tuple[dict[str, Any], list[dict[str, Any]], Any]] = []
    notes: list[Note] = []
    for cell in cells[:MOST_CELLS]:
        run = cell.runs.iloc[0]
        source = sources.get((str(run["study"]), str(run["name"])))
        rows = _predictions(source) if source else []
        if not rows or source is None:
            notes.append(NoPredictions(cell.label))
            continue
        column = {"label": cell.label, "name": str(run["name"]), "seed": int(run["seed"])}
        columns.append((column, rows, source.items()))
    if len(cells) > MOST_CELLS:
        notes.append(AnswersOfCells(MOST_CELLS, len(cells)))
    if any(len(cell.runs) > 1 for cell in cells):
        notes.append(LowestSeed())
    scores = _shared_scores([items for _, _, items in columns])
    items, cut = _items(columns, scores)
    kept = _within(items, budget)
    if len(kept) < len(items):
        notes.append(QuestionsDrawn(len(kept), len(items)))
    if cut:
        notes.append(TextsCut(cut, LONGEST_TEXT))
    return Answers([column for column, _, _ in columns], scores, kept, notes)


def _predictions(source: Source) -> list[dict[str, Any]]:
    try:
        return [] if source.evaluation is None else source.evaluation.read_predictions()
    except (DataError, OSError):
        return []


def _shared_scores(items: Sequence[Any]) -> list[str]:
    known = [set(each.values) for each in items if each is not None]
    shared = set.intersection(*known) if known else set()
    return [score.name for score in in_order(shared)]


def _items(columns: Sequence[tuple[dict[str, Any], list[dict[str, Any]], Any]], scores: list[str]) -> Any:
    by_id = [{str(row.get("id")): (row, at) for at, row in enumerate(rows)} for _, rows, _ in columns]
    cut = 0
    items = []
    for row in columns[0][1] if columns else []:
        key = str(row.get("id"))
        found = [own.get(key) for own in by_id]
        texts = [row.get("question"), row.get("reference"), *(each[0].get("prediction") if each else None
                                                              for each in found)]  # fmt: skip
        cut += sum(isinstance(text, str) and len(text) > LONGEST_TEXT for text in texts)
        question, reference, *answers = [_shortened(text) for text in texts]
        values = [
            _values(scored, each[1], scores) if each else None
            for each, (_, _, scored) in zip(found, columns, strict=True)
        ]
        items.append([key, question, reference, answers, values, [_flags(each[0]) if each else 0 for each in found]])
    return items, cut


def _shortened(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … [+{len(text) - LONGEST_TEXT:,}]"


def _values(scored: Any, place: int, scores: list[str]) -> list[float] | None:
    if scored is None or place >= len(scored.ids):
        return None
    return [round(float(scored.values[name][place]), 2) for name in scores]


def _flags(row: dict[str, Any]) -> int:
    empty = not str(row.get("prediction") or "").strip()
    return HIT_LIMIT * bool(row.get("hit_limit")) + TIMED_OUT * bool(row.get("timed_out")) + EMPTY * empty


def _within(items: list[list[Any]], budget: int) -> list[list[Any]]:
    sizes = [len(json.dumps(item, ensure_ascii=False).encode("utf-8", "backslashreplace")) for item in items]
    if sum(sizes) <= budget:
        return items
    # By a hash: the same questions every time, and no choice by what the answers are like.
    order = sorted(range(len(items)), key=lambda at: hashlib.sha256(str(items[at][0]).encode()).digest())
    kept, spent = set(), 0
    for at in order:
        spent += sizes[at]
        if spent > budget:
            break
        kept.add(at)
    return [item for at, item in enumerate(items) if at in kept]
