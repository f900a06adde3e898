"""A command stops by itself when its time is over."""

import os
import signal
import time

import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch import time_limit
from medqa_finetune.launch.time_limit import refuse_time_limit, time_limited
from medqa_finetune.stopping import LAUNCHER_VARIABLE, Interrupted, stoppable, stopping_after
from tests.config.builders import VALID, changed
from tests.faulty import only_fault


def test_work_is_interrupted_when_the_time_is_over() -> None:
    begun = time.monotonic()

    def work() -> None:
        with stopping_after(0.1), stoppable():
            time.sleep(20)

    with pytest.raises(Interrupted) as caught:
        work()
    assert time.monotonic() - begun < 10
    assert caught.value.code == 128 + signal.SIGALRM


def test_work_that_must_finish_a_step_finishes_it() -> None:
    steps = []

    def work() -> None:
        with stopping_after(0.05), stoppable() as stop, stop.deferred():
            while stop.number is None:
                time.sleep(0.01)
            steps.append("finished")

    with pytest.raises(Interrupted):
        work()
    assert steps == ["finished"]


def test_it_also_stops_where_no_step_is_protected() -> None:
    def work() -> None:
        with stopping_after(0.05):
            time.sleep(20)

    with pytest.raises(Interrupted):
        work()


def test_work_that_is_done_in_time_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with stopping_after(0.2):
        pass
    time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) == before


def test_the_time_counts_from_the_start_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    monkeypatch.setattr(time_limit, "stopping_after", seen.append)
    time_limited(changed(VALID, time_limit="10h"))
    (left,) = seen
    assert left is not None
    assert left < 36000 - 0.1


def test_cells_of_a_launcher_are_stopped_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, str(os.getpid()))
    with time_limited(changed(VALID, time_limit="1s")):
        time.sleep(1.2)


def test_the_queue_of_a_cluster_has_limits_of_its_own() -> None:
    refuse_time_limit(VALID)
    with pytest.raises(ConfigError) as caught:
        refuse_time_limit(changed(VALID, time_limit="11h"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "time_limit")
