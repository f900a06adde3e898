"""How a cell is shown: columns, lines, and the time it will take."""

import time
from pathlib import Path

import pytest

from medqa_finetune.launch.display import COLUMNS, UNITS, Glance, Pace, duration, glance_at
from medqa_finetune.launch.exit_status import Ending
from medqa_finetune.launch.job import Job
from medqa_finetune.launch.stage import Stage
from medqa_finetune.record.evaluations import CellDir
from medqa_finetune.record.run_dir import RunDir

TRAINING = Stage("training", 3, 9, 1.23456, 12345.6, 7.26)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (89, "1 min"), (600, "10 min"), (3599, "1 h 00 min"),
     (3 * 3600 + 5 * 60, "3 h 05 min"), (100 * 3600, "100 h 00 min")],
)  # fmt: skip
def test_times_are_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_everything_known_has_its_column() -> None:
    cells = Glance("training", "training", TRAINING, 90, 45, "0").cells()
    assert dict(zip(COLUMNS, cells, strict=True)) == {
        "step": "3/9", "loss": "1.235", "tokens/s": "12,346", "VRAM": "7.3 GiB", "left": "2 min", "so far": "45 s",
        "GPU": "0",
    }  # fmt: skip


def test_what_is_not_known_is_a_dash() -> None:
    assert Glance("pending", "pending").cells() == ["-"] * len(COLUMNS)
    assert len(UNITS) == len(COLUMNS)


def test_a_line_says_the_same_with_units() -> None:
    line = Glance("training", "training", TRAINING, 90, 45, "0").line()
    assert line == "training  3/9  loss 1.235  12,346 tokens/s  7.3 GiB  2 min left  45 s so far  GPU 0"


def test_a_cell_that_ended_has_its_story() -> None:
    assert Glance("failed", "failed: bad luck  in 3 s", so_far=3).line() == "failed: bad luck  in 3 s"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(["a"], [], CellDir(RunDir(tmp_path)), None)


def test_a_cell_waits_for_its_turn_or_for_another_process(job: Job) -> None:
    assert glance_at(job, Pace()).state == "pending"
    job.look_again_at = 1.0
    assert glance_at(job, Pace()).state == "waiting for another process"


@pytest.mark.parametrize(
    ("ending", "note", "story"),
    [
        (Ending("done"), "done before, untouched", "done before, untouched"),
        (Ending("failed", "bad luck"), "", "failed: bad luck"),
        (Ending("interrupted", "by hand"), "", "interrupted: by hand"),
    ],
)
def test_a_cell_ends_with_its_result_or_its_reason(job: Job, ending: Ending, note: str, story: str) -> None:
    job.end(ending, note)
    assert glance_at(job, Pace()) == Glance(ending.state, story)


def test_the_time_that_a_cell_took_stands_still_after_its_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    job.first_start = clock.now
    clock.now += 10
    job.end(Ending("failed", "bad luck"))
    clock.now += 100
    assert glance_at(job, Pace()).story == "failed: bad luck  in 10 s"


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_the_time_left_follows_from_the_pace_since_a_stage_was_first_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace()
    # Gone on with at step 100 of 200: what was done before says nothing of the pace.
    assert pace.left(Stage("training", 100, 200)) is None
    clock.now += 30
    assert pace.left(Stage("training", 110, 200)) == pytest.approx(270)
    assert pace.left(Stage("training", 200, 200)) == 0


def test_another_stage_or_start_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace()
    pace.left(Stage("training", 0, 10))
    clock.now += 60
    assert pace.left(Stage("answering", 100, 400)) is None
    clock.now += 10
    assert pace.left(Stage("answering", 200, 400)) == pytest.approx(20)
    assert pace.left(Stage("answering", 50, 400)) is None


def test_a_stage_without_a_count_has_no_end_in_sight() -> None:
    assert Pace().left(Stage("preparing")) is None
