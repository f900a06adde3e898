"""What people see of a launch, on standard error: a live table in a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medqa_finetune.launch.display import COLUMNS, Glance, Pace, glance_at
from medqa_finetune.launch.job import Job
from medqa_finetune.log import visible
from medqa_finetune.record.schema import Record
from medqa_finetune.record.short_names import short_names

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESH_SECONDS = 1.0
LINE_SECONDS = 300.0
# Lines of a terminal that are not rows of the table: heading, caption, what was printed above, the prompt to come.
OTHER_LINES = 6
# Columns that a cell's label has at least, and that a state or story keeps beside a long one.
LABEL_WIDTH, STORY_WIDTH = 20, 12
# Scores in the line that says a run is done.
SHOWN = (("rougeL", "ROUGE-L"), ("bleu", "BLEU"))


def outcome(record: Record | None) -> str:
    """Say in a few words how a run ended; a program without a record has ended, and that is all."""
    if record is None:
        return "done"
    if record.status != "done":
        return f"{record.status}: {record.failure.message if record.failure else 'no reason recorded'}"
    scores = record.evaluation.scores if record.evaluation is not None else {}
    shown = [f"{name} {scores[key].value:.2f}" for key, name in SHOWN if key in scores]
    # The one score of running text; of answers, what stands in where the other two were not asked for.
    if not shown and "perplexity" in scores:
        shown = [f"perplexity {scores['perplexity'].value:.2f}"]
    return "  ".join(["done", *shown])


class Progress:
    """Shows every cell while the block runs. What cannot be shown, as in a terminal that was closed, is no error."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._paces = [Pace() for _ in jobs]
        self._glances = [Glance("pending", "pending") for _ in jobs]
        self._printed_at = [0.0 for _ in jobs]
        self._shown_at = 0.0
        self._live = _live_display() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None

    def __enter__(self) -> "Progress":
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shown_at = 0.0
            self.show()
        finally:  # a signal at this very moment must not leave the terminal without a cursor
            with contextlib.suppress(OSError):
                if self._live is not None:
                    self._live.stop()

    def show(self) -> None:
        """Show how things stand, about once a second."""
        now = time.monotonic()
        if now - self._shown_at < REFRESH_SECONDS:
            return
        self._shown_at = now
        before, self._glances = self._glances, list(map(glance_at, self._jobs, self._paces))
        for number, (old, new) in enumerate(zip(before, self._glances, strict=True)):
            changed = new.state not in (old.state, "pending")
            due = new.stage is not None and now - self._printed_at[number] >= LINE_SECONDS
            # The table says everything but why a cell failed.
            if changed and new.state in ("failed", "interrupted") if self._live else changed or due:
                self.say(f"{self._jobs[number].label}  {new.line()}")
                self._printed_at[number] = now
        with contextlib.suppress(OSError):
            if self._live is not None:
                cells = [(job.label, glance) for job, glance in zip(self._jobs, self._glances, strict=True)]
                self._live.update(draw_table(cells, self._live.console.height, self._live.console.width), refresh=True)

    def say(self, text: str) -> None:
        """Print a line for good."""
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.console.print(visible(text), markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                print(visible(text), file=sys.stderr, flush=True)


def _live_display() -> "Live":
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)


def draw_table(cells: Sequence[tuple[str, Glance]], height: int, width: int = 80) -> "Table":
    """Return a table with a row per cell; if a terminal of this height cannot hold all, what is done gives way first.

    Args:
        cells: Label and state of every cell.
        height: Lines of the terminal.
        width: Its columns; labels that are too long for it are cut so that no two look alike.
    """
    from rich.table import Table
    from rich.text import Text

    counted = Counter(glance.state for _, glance in cells)
    caption = ", ".join(f"{number} {state}" for state, number in counted.items())
    table = Table(box=None, pad_edge=False, caption=Text(visible(caption)), caption_justify="left")
    table.add_column("cell", no_wrap=True, min_width=LABEL_WIDTH if width >= 2 * LABEL_WIDTH else None)
    table.add_column("state")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    kept = _most_wanted(cells, max(1, height - OTHER_LINES))
    rows = [[glance.story if glance.state == "done" else glance.state, *glance.cells()] for _, glance in kept]
    # A story may be cut, figures are not, and a column has two blanks behind it.
    columns = [[name, *(row[at] for row in rows)] for at, name in enumerate(COLUMNS, start=1)]
    figures = sum(max(map(len, column)) + 2 for column in columns)
    story = max([5, *(min(len(row[0]), STORY_WIDTH) for row in rows)]) + 2
    labels = short_names([visible(label) for label, _ in kept], max(LABEL_WIDTH, width - figures - story))
    for label, row in zip(labels, rows, strict=True):
        texts = [label, *map(visible, row)]
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
    return table


def _most_wanted(cells: Sequence[tuple[str, Glance]], rows: int) -> list[tuple[str, Glance]]:
    """Return as many cells as there are rows: those that run first of all, those that are done last of all."""

    def rank(number: int) -> int:
        glance = cells[number][1]
        return 0 if glance.stage is not None else 3 if glance.state == "done" else 2 if glance.state == "pending" else 1

    kept = sorted(range(len(cells)), key=rank)[:rows]
    return [cells[number] for number in sorted(kept)]
