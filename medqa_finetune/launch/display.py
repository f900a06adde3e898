"""What is shown of one cell at one moment, as columns of a table or as a line."""

import time
from dataclasses import dataclass

from medqa_finetune.launch.job import Job
from medqa_finetune.launch.stage import Stage, read_stage

COLUMNS = ("step", "loss", "tokens/s", "VRAM", "left", "so far", "GPU")
# The same figures in a line, where no heading says what they are.
UNITS = ("{}", "loss {}", "{} tokens/s", "{}", "{} left", "{} so far", "GPU {}")


@dataclass(frozen=True)
class Glance:
    """What is shown of one cell.

    Attributes:
        state: One or a few words.
        story: The state, or how it came out.
        stage: What it is at; None while it does not run.
        left: Seconds to the end of that stage.
        so_far: Seconds since the cell was first started.
    """

    state: str
    story: str
    stage: Stage | None = None
    left: float | None = None
    so_far: float | None = None
    gpus: str = ""

    def cells(self) -> list[str]:
        """Return what stands in `COLUMNS`; a dash where there is nothing to say."""
        stage = self.stage or Stage(self.state)
        return [
            "-" if stage.at is None or stage.of is None else f"{stage.at:.0f}/{stage.of:.0f}",
            "-" if stage.loss is None else f"{stage.loss:.3f}",
            "-" if stage.tokens_per_second is None else f"{stage.tokens_per_second:,.0f}",
            "-" if stage.vram_gib is None else f"{stage.vram_gib:.1f} GiB",
            "-" if self.left is None else duration(self.left),
            "-" if self.so_far is None else duration(self.so_far),
            self.gpus or "-",
        ]

    def line(self) -> str:
        """Return the same as one line."""
        figures = [
            unit.format(cell) for unit, cell in zip(UNITS, self.cells(), strict=True) if cell not in ("-", "0 s")
        ]
        return "  ".join([self.story, *(figures if self.stage is not None else ())])


def glance_at(job: Job, pace: "Pace") -> Glance:
    """Return what is to be shown of a cell now."""
    if job.ending is not None:
        story = job.note if job.ending.state == "done" else f"{job.ending.state}: {job.ending.reason}"
        story += "" if job.seconds is None else f"  in {duration(job.seconds)}"
        return Glance(job.ending.state, story)
    if job.running is None:
        state = "waiting for another process" if job.look_again_at else "pending"
        return Glance(state, state)
    stage = read_stage(job.run, job.running.marks)
    state = stage.name + (f", try {job.starts}" if job.starts > 1 else "")
    return Glance(state, state, stage, pace.left(stage), job.seconds_so_far(), job.running.slot.label)


class Pace:
    """How fast a cell comes on in its present stage."""

    def __init__(self) -> None:
        self._first: tuple[str, float, float] | None = None

    def left(self, stage: Stage) -> float | None:
        """Return the seconds to the end of a stage at the pace since it was first seen; None while that is unknown."""
        if stage.at is None or stage.of is None:
            return None
        now = time.monotonic()
        name, at, then = self._first or (stage.name, stage.at, now)
        if self._first is None or name != stage.name or stage.at < at:
            self._first = (stage.name, stage.at, now)
            return None
        return (stage.of - stage.at) * (now - then) / (stage.at - at) if stage.at > at else None


def duration(seconds: float) -> str:
    """Return a time for people: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
