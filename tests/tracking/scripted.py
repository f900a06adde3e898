"""A tracker in place of a real one, which keeps what it is told."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from transformers import TrainerCallback

from medqa_finetune.tracking.base import Row, Tracker
from medqa_finetune.tracking.trackers import OPENERS


class Scripted:
    """Keeps the rows that it is told; its callback is the test's."""

    def __init__(self, callback: TrainerCallback, reported: list[Row]) -> None:
        self.callback = callback
        self.reported = reported

    def curves(self, resumed_from: int | None) -> TrainerCallback:
        return self.callback

    def report(self, row: Row) -> None:
        self.reported.append(row)


def opened_as(
    monkeypatch: pytest.MonkeyPatch, *names: str, callback: TrainerCallback | None = None, ends_with: str = ""
) -> list[Row]:
    """Open trackers as scripted ones, which may raise when they are closed; return what they will be told."""
    told: list[Row] = []

    @contextmanager
    def opened(_: Row) -> Iterator[Tracker]:
        yield Scripted(callback or TrainerCallback(), told)
        if ends_with:
            raise RuntimeError(ends_with)

    for name in names:
        monkeypatch.setitem(OPENERS, name, opened)
    return told
