"""Tables of the terminal."""

from pathlib import Path

import pytest

from medqa_finetune.report.outputs import terminal
from tests.report.builders import matrix, runs_of


def test_table_of_many_runs_shows_the_first_and_how_many_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = runs_of(tmp_path, *matrix())
    whole = terminal.runs_as_text(runs).split("\n")
    monkeypatch.setattr(terminal, "MOST_ROWS", 2)
    cut = terminal.runs_as_text(runs).split("\n")
    assert len(whole) - len(cut) == len(runs) - 2 - 1
    assert any("results_summary.csv" in line and str(len(runs) - 2) in line for line in cut)
    assert not any("results_summary.csv" in line for line in whole)
