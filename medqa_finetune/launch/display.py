"""Shows a launch on standard error: a live table in a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.launch.scheduler import Elsewhere, Job
from medqa_finetune.launch.stage import Stage, read_stage
from medqa_finetune.log import is_terminal, visible
from medqa_finetune.progress import StageClock, duration, read_progress
from medqa_finetune.record.short_names import short_names

REFRESH_SECONDS = 1.0
LINE_SECONDS = 60.0
COLUMNS = ("step", "loss", "tokens/s", "VRAM", "left", "so far", "GPU")
# States between which a cell goes back and forth.
VALIDATES = {"training", "validating"}
# The same figures in one line without headings.
UNITS = (
    "{figure}",
    "loss {figure}",
    "{figure} tokens/s",
    "{figure}",
    "{figure} left",
    "{figure} so far",
    "GPU {figure}",
)
# Terminal lines that are not table rows: heading, caption, output above, the next prompt.
OTHER_LINES = 6
# Minimum widths of a cell's label, and of its state if the label is long.
LABEL_WIDTH, STATE_WIDTH = 20, 12


@dataclass(frozen=True)
class CellView:
    """One row of the display.

    Attributes:
        state: One or a few words.
        text: The state, or how the cell ended.
        stage: Its current stage; None while it does not run.
        remaining: Seconds to the end of that stage.
        elapsed: Seconds since the cell was first started.
    """

    state: str
    text: str
    stage: Stage | None = None
    remaining: float | None = None
    elapsed: float | None = None
    gpus: str = ""

    def figures(self) -> list[str]:
        """Return the texts for `COLUMNS`, with a dash for missing values."""
        stage = self.stage or Stage(self.state)
        return [
            "-" if stage.at is None or stage.of is None else f"{stage.at:.0f}/{stage.of:.0f}",
            "-" if stage.loss is None else f"{stage.loss:.3f}",
            "-" if stage.tokens_per_second is None else f"{stage.tokens_per_second:,.0f}",
            "-" if stage.vram_gib is None else f"{stage.vram_gib:.1f} GiB",
            "-" if self.remaining is None else duration(self.remaining),
            "-" if self.elapsed is None else duration(self.elapsed),
            self.gpus or "-",
        ]

    def line(self) -> str:
        """Return state and known figures as one line of plain text."""
        known = zip(UNITS, self.figures(), strict=True)
        figures = [say(unit, figure=figure) for unit, figure in known if figure not in ("-", "0 s")]
        return "  ".join([self.text, *(figures if self.stage is not None else ())])


def view_of(job: Job, clock: StageClock) -> CellView:
    """Return the current view of a job."""
    if job.exit_status is not None:
        status = job.exit_status
        text = translated(job.note, Kind.SAID)
        if status.state != "done":
            text = say("{state}: {reason}", state=say(status.state), reason=status.shown_reason())
        text += "" if job.seconds is None else say("  in {time}", time=duration(job.seconds))
        return CellView(job.exit_status.state, text)
    if job.elsewhere is not None:
        return _view_elsewhere(job, job.elsewhere, clock)
    if job.running is None:
        if job.next_check and job.worker_elsewhere:
            return CellView("running elsewhere", say("running elsewhere: {process}", process=job.worker_elsewhere))
        state = "waiting for another process" if job.next_check else "pending"
        return CellView(state, say(state))
    said = read_progress(job.running.process.progress_path)
    stage = read_stage(job.run, job.running.progress_before, said)
    state, text = stage.name, say(stage.name)
    if job.attempts > 1:
        state, text = f"{state}, try {job.attempts}", text + say(", try {number}", number=job.attempts)
    return CellView(state, text, stage, clock.remaining(stage), job.elapsed(), job.running.slot.label)


def _view_elsewhere(job: Job, place: Elsewhere, clock: StageClock) -> CellView:
    """Return the view of a job in a cluster's queue; its run's files alone tell the stage."""
    if not place.is_running:
        return CellView("queued", say("queued ({reason})", reason=place.detail) if place.detail else say("queued"))
    stage = read_stage(job.run, place.progress_before)
    return CellView(stage.name, say(stage.name), stage, clock.remaining(stage), job.elapsed())


class LiveDisplay:
    """Shows every job while the block runs; output errors, as from a closed terminal, are ignored."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._clocks = [StageClock() for _ in jobs]
        self._views = [CellView("pending", say("pending")) for _ in jobs]
        self._printed_at = [0.0 for _ in jobs]
        self._shown_at = 0.0
        in_terminal = is_terminal()
        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False) if in_terminal else None

    def __enter__(self) -> "LiveDisplay":
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shown_at = 0.0
            self.show()
        finally:  # a signal here must not leave the terminal without a cursor
            with contextlib.suppress(OSError):
                if self._live is not None:
                    self._live.stop()

    def show(self) -> None:
        """Refresh the state of all jobs, about once a second."""
        now = time.monotonic()
        if now - self._shown_at < REFRESH_SECONDS:
            return
        self._shown_at = now
        before, self._views = self._views, list(map(view_of, self._jobs, self._clocks))
        for number, (old, new) in enumerate(zip(before, self._views, strict=True)):
            # A validation interrupts the training, which is no news each time.
            changed = new.state not in (old.state, "pending") and {old.state, new.state} != VALIDATES
            due = new.stage is not None and now - self._printed_at[number] >= LINE_SECONDS
            # The table does not say why a cell failed.
            if changed and new.state in ("failed", "interrupted") if self._live else changed or due:
                self.print_line(f"{self._jobs[number].label}  {new.line()}")
                self._printed_at[number] = now
        with contextlib.suppress(OSError):
            if self._live is not None:
                rows = [(job.label, view) for job, view in zip(self._jobs, self._views, strict=True)]
                self._live.update(draw_table(rows, self._live.console.height, self._live.console.width), refresh=True)

    def print_line(self, text: str) -> None:
        """Print a permanent line above the live table."""
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.console.print(visible(text), markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                print(visible(text), file=sys.stderr, flush=True)


def draw_table(cells: Sequence[tuple[str, CellView]], height: int, width: int = 80) -> Table:
    """Return a table with one row per cell; if the terminal is too small, finished cells are left out first.

    Args:
        cells: (label, view) of every cell.
        height: Terminal height in lines.
        width: Terminal width in columns; longer labels are shortened but stay distinct.
    """
    counted = Counter(view.state for _, view in cells)
    short = {view.state: _short(view) for _, view in cells}
    caption = ", ".join(f"{number} {short[state]}" for state, number in counted.items())
    table = Table(box=None, pad_edge=False, caption=Text(visible(caption)), caption_justify="left")
    table.add_column(say("cell"), no_wrap=True, min_width=LABEL_WIDTH if width >= 2 * LABEL_WIDTH else None)
    table.add_column(say("state"))
    headings = [say(name) for name in COLUMNS]
    for name in headings:
        table.add_column(name, justify="right", no_wrap=True)
    kept = _most_relevant(cells, max(1, height - OTHER_LINES))
    rows = [[view.text if view.state == "done" else _short(view), *view.figures()] for _, view in kept]
    # States may be cut, figures may not; two blanks follow each column.
    columns = [[name, *(row[at] for row in rows)] for at, name in enumerate(headings, start=1)]
    figures = sum(max(map(cell_len, column)) + 2 for column in columns)
    state = max([5, *(min(cell_len(row[0]), STATE_WIDTH) for row in rows)]) + 2
    labels = short_names([visible(label) for label, _ in kept], max(LABEL_WIDTH, width - figures - state))
    for label, row in zip(labels, rows, strict=True):
        texts = [label, *map(visible, row)]
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
    return table


def _short(view: CellView) -> str:
    """Return a cell's state in a few words: of one that ended, without the reason."""
    return view.text if view.stage is not None else say(view.state)


def _most_relevant(cells: Sequence[tuple[str, CellView]], rows: int) -> list[tuple[str, CellView]]:
    """Return at most `rows` cells in their order, preferring running cells and dropping finished ones first."""

    def rank(number: int) -> int:
        view = cells[number][1]
        return 0 if view.stage is not None else 3 if view.state == "done" else 2 if view.state == "pending" else 1

    kept = sorted(range(len(cells)), key=rank)[:rows]
    return [cells[number] for number in sorted(kept)]
