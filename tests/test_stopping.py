"""That signals end work in good order: at once, or at the end of what must be finished first."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

import pytest

from medqa_finetune.stopping import SIGNALS, TIME_LIMIT, Interrupted, stoppable
from tests.commands import ROOT


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_ends_block_with_its_exit_code(number: int) -> None:
    with pytest.raises(Interrupted) as error, stoppable():
        signal.raise_signal(number)
    assert (error.value.number, error.value.code) == (number, 128 + number)
    assert (signal.Signals(number).name in str(error.value)) is (number != TIME_LIMIT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stoppable():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_own_signal_after_that_of_another_process_is_the_first() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted) as error, stoppable() as stop, stop.deferred():  # noqa: PT012
        stop.take_over(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        done.append("work")
        assert stop.number == signal.SIGTERM
    assert (done, error.value.number) == (["work"], signal.SIGTERM)


def test_deferred_work_is_finished_first() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted), stoppable() as stop:  # noqa: PT012
        with stop.deferred():
            assert stop.number is None
            signal.raise_signal(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
            done.append("work")
        done.append("never")
    assert done == ["work"]


def test_a_second_signal_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted), stoppable() as stop, stop.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == []


def test_slurm_sends_several_signals_for_one_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    done: list[str] = []
    with pytest.raises(Interrupted), stoppable() as stop:  # noqa: PT012
        with stop.deferred():
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGTERM)
            done.append("checkpoint")
        done.append("never")
    assert done == ["checkpoint"]
    with pytest.raises(Interrupted), stoppable() as stop, stop.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == ["checkpoint"]


def test_error_in_deferred_work_survives_the_signal() -> None:
    with pytest.raises(ValueError, match="disk"), stoppable() as stop, stop.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("disk")


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handler_of_usr2_runs_after_the_work() -> None:
    seen: list[object] = []

    def requeue(number: int, frame: FrameType | None) -> None:  # as submitit does
        seen.append(number)
        sys.exit(-1)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with pytest.raises(Interrupted), stoppable() as stop, stop.deferred():  # noqa: PT012
            signal.raise_signal(signal.SIGUSR2)
            seen.append("checkpoint written")
        assert seen == ["checkpoint written", signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_handlers_of_the_calling_program_stay() -> None:
    def bypass(number: int, frame: FrameType | None) -> None:
        pass

    before = signal.signal(signal.SIGTERM, bypass)
    try:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nested_blocks_stop_both() -> None:
    with pytest.raises(Interrupted), stoppable(), stoppable():
        signal.raise_signal(signal.SIGTERM)


def test_in_another_thread_nothing_is_changed() -> None:
    found: list[object] = []

    def work() -> None:
        with stoppable() as stop, stop.deferred():
            found.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_process_stops_with_its_parent() -> None:
    code = (
        "import time\n"
        "from medqa_finetune.stopping import stop_with_parent, stoppable\n"
        "with stoppable() as stop, stop.deferred():\n"
        "    stop_with_parent()\n"
        "    print('ready', flush=True)\n"
        "    while stop.number is None:\n"
        "        time.sleep(0.01)\n"
        "    print('saved', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.readline() == b"saved\n"
        assert process.wait(10) == 143
