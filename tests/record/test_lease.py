"""Leases of run folders: who holds one, when it has ended, and that one process at a time does; machines are faked."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from medqa_finetune.errors import ConfigError, RunError
from medqa_finetune.record import lease, record_dir
from medqa_finetune.record.host import HOST_VARIABLE, host_identity, start_of
from medqa_finetune.record.lease import SECONDS_VARIABLE, State, check_held, look_at, take
from medqa_finetune.record.run_dir import RunDir
from tests.faulty import only_fault
from tests.report.builders import record


class Clock:
    """Stands for the module `time`: monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class LockOfOneMachine:
    """Stands for a lock of a file system that does not tell other machines of it."""

    def __init__(self, path: Path) -> None:
        self.is_locked = False

    def acquire(self, timeout: float) -> AbstractContextManager[None]:
        self.is_locked = True
        return contextlib.nullcontext()

    def release(self) -> None:
        self.is_locked = False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "outputs" / "lora_20k")
    run.write(record(status="running"))
    return run


def lease_of(run: RunDir) -> Path:
    return run.lock_path.with_suffix(".lease")


def put(path: Path, renewals: int = 0, **fields: Any) -> None:
    """Write the lease of a process elsewhere."""
    holder = {"owner": "0123abcd", "host": "node7", "host_identity": "node7 boot", "pid": 4711, "started": "1"}
    content = {**holder, "seconds": 90.0, "renewals": f"{renewals:012d}", **fields}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def take_place_of(run: RunDir) -> None:
    """Replace the lease by that of a process elsewhere."""
    put(lease_of(run).with_suffix(".new"))
    lease_of(run).with_suffix(".new").replace(lease_of(run))


@contextlib.contextmanager
def forked(work: Callable[[int], object], **variables: str) -> Iterator[tuple[int, Callable[[], str]]]:
    """Run `work(pipe)` in a fork; yields its id, and a function that waits for the next line written to the pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.environ.update(variables)
        try:
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as lines:
        try:
            yield pid, lambda: lines.readline().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def tell(pipe: int, text: str) -> None:
    os.write(pipe, f"{text}\n".encode())


def hold(run: RunDir, pipe: int) -> None:
    with run.lock():
        tell(pipe, "locked")
        time.sleep(60)


def test_a_lease_names_its_holder_and_is_gone_when_it_is_given_back(run: RunDir) -> None:
    with run.lock():
        fields = json.loads(lease_of(run).read_bytes())
        assert (fields["pid"], fields["started"]) == (os.getpid(), start_of(os.getpid()))
        assert (fields["host_identity"], fields["seconds"]) == (host_identity(), 90.0)
        assert look_at(lease_of(run)).state is State.LIVE
    assert [path.name for path in run.path.parent.iterdir()] in (["lora_20k"], sorted([".lora_20k.lock", "lora_20k"]))


def test_one_elsewhere_is_watched_and_its_clock_does_not_matter(run: RunDir, clock: Clock) -> None:
    put(lease_of(run))
    assert look_at(lease_of(run)).state is State.UNKNOWN
    for number in range(10):
        clock.sleep(89)
        put(lease_of(run), renewals=number + 1)
        # By the file's own time it was renewed ten minutes ago, or in ten minutes.
        os.utime(lease_of(run), (time.time() - 600 * (-1) ** number,) * 2)
        assert look_at(lease_of(run)).state is State.LIVE
    clock.sleep(89)
    assert look_at(lease_of(run)).state is State.LIVE
    clock.sleep(1)
    assert look_at(lease_of(run)).state is State.EXPIRED


def test_another_holder_elsewhere_is_watched_anew(run: RunDir, clock: Clock) -> None:
    put(lease_of(run))
    assert look_at(lease_of(run)).state is State.UNKNOWN
    clock.sleep(90)
    put(lease_of(run), owner="4567ef01")
    assert look_at(lease_of(run)).state is State.UNKNOWN


def test_its_holder_says_after_how_many_seconds_it_has_expired(run: RunDir, clock: Clock) -> None:
    put(lease_of(run), seconds=300.0)
    look_at(lease_of(run))
    clock.sleep(299)
    assert look_at(lease_of(run)).state is State.UNKNOWN
    clock.sleep(1)
    assert look_at(lease_of(run)).state is State.EXPIRED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"owner": 3}', b"\0" * 200])
def test_a_torn_lease_is_watched_like_one_elsewhere(content: bytes, run: RunDir, clock: Clock) -> None:
    lease_of(run).write_bytes(content)
    assert look_at(lease_of(run)).state is State.UNKNOWN
    assert take(lease_of(run), run.path) is None
    clock.sleep(90)
    assert look_at(lease_of(run)).state is State.EXPIRED
    with run.lock():
        assert look_at(lease_of(run)).state is State.LIVE


def test_a_process_of_this_machine_is_judged_at_once(run: RunDir) -> None:
    here: dict[str, Any] = {"host_identity": host_identity(), "host": "here"}
    put(lease_of(run), **here, pid=os.getpid(), started=start_of(os.getpid()))
    assert look_at(lease_of(run)).state is State.LIVE
    # Another process has got its number since.
    put(lease_of(run), **here, pid=os.getpid(), started="1")
    assert look_at(lease_of(run)).state is State.DEAD
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = start_of(ended.pid)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    put(lease_of(run), **here, pid=ended.pid, started=started)
    assert look_at(lease_of(run)).state is State.DEAD  # a zombie
    ended.wait()
    assert look_at(lease_of(run)).state is State.DEAD
    assert not run.is_locked()


def test_a_killed_one_of_this_machine_is_followed_at_once(run: RunDir) -> None:
    with forked(lambda pipe: hold(run, pipe)) as (pid, line):
        assert line() == "locked"
        assert run.is_locked()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not run.is_locked()
        with run.lock():
            pass


def test_a_live_one_elsewhere_is_refused_by_name_and_a_dead_one_is_followed(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    # The lock of this file system does not reach the other machine.
    monkeypatch.setattr(record_dir, "FileLock", LockOfOneMachine)
    with forked(lambda pipe: hold(run, pipe), **{HOST_VARIABLE: "node7"}) as (pid, line):
        assert line() == "locked"
        assert run.is_locked()
        with pytest.raises(RunError) as caught:
            run.check_free()
        assert (only_fault(caught).code, only_fault(caught).file) == ("busy", str(run.path))
        assert f"process {pid} on node7" in only_fault(caught).problem
        assert run.holder_elsewhere() == f"process {pid} on node7"
        os.kill(pid, signal.SIGKILL)
        lease._sightings.clear()  # as a new process
        began = time.monotonic()
        run.check_free()
        assert run.holder_elsewhere() == ""
        with run.lock(watches=True):
            assert 0.5 < time.monotonic() - began < 10
        assert any("taken over" in message for message in caplog.messages)


def test_a_lock_that_outlasts_its_machine_is_replaced(run: RunDir, clock: Clock) -> None:
    stuck = FileLock(run.lock_path)
    with stuck:
        put(lease_of(run))
        assert run.is_locked()
        with pytest.raises(RunError), run.lock(patience=0.0):
            pass
        clock.sleep(90)
        assert not run.is_locked()
        with run.lock():
            assert run.is_locked()
            lease_of(run).unlink()
            assert run.is_locked()  # by the system's lock, in a new file


def test_a_stopped_one_writes_nothing_after_it_was_taken_over(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(pipe: int) -> None:
        with run.lock():
            tell(pipe, "locked")
            signal.sigwait({signal.SIGUSR1})
            for write in (
                lambda: run.update(status="failed"),
                lambda: run.log_metrics({"step": 1}),
                lambda: run.write_config("late"),
            ):
                try:
                    write()
                except RunError as error:
                    tell(pipe, f"{error.faults[0].code} {error.faults[0].problem}")
        tell(pipe, "gave nothing back")

    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with forked(work, **{HOST_VARIABLE: "node7"}) as (pid, line):
            assert line() == "locked"
            os.kill(pid, signal.SIGSTOP)
            monkeypatch.setenv(HOST_VARIABLE, "node8")
            with run.lock(watches=True):  # the system's lock, held by a stopped process, outlasts its lease too
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGUSR1)
                assert [line() for _ in range(3)] == [
                    f"lease-lost process {os.getpid()} on node8 has taken this run over"
                ] * 3
                assert line() == "gave nothing back"
                assert look_at(lease_of(run)).state is State.LIVE
                check_held(run.record_path)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert (kept := run.read()) is not None
    assert kept.status == "running"
    assert not run.metrics_path.exists()
    assert not run.config_path.exists()


def test_a_loss_is_told_within_one_renewal(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    told = threading.Event()
    with run.lock() as held:
        held.on_loss = told.set
        take_place_of(run)
        assert told.wait(5)
        assert str(held.lost_to) == "process 4711 on node7"
    assert json.loads(lease_of(run).read_bytes())["owner"] == "0123abcd"


def test_renewing_changes_the_file_and_a_lease_that_is_gone_is_lost(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    path = lease_of(run)
    with run.lock() as held:
        before = path.read_bytes()
        while path.read_bytes() == before:
            time.sleep(0.02)
        assert len(path.read_bytes()) == len(before)
        # Whoever has taken it may have given it back.
        path.unlink()
        with pytest.raises(RunError) as caught:
            held.check()
        assert only_fault(caught).code == "lease-lost"
    assert not path.exists()


def test_a_lease_that_was_given_back_or_is_gone_with_all_else_has_nothing_to_lose(run: RunDir) -> None:
    with run.lock() as held:
        shutil.rmtree(run.path.parent)
        held.check()
    with run.lock() as held:
        pass
    held.check()


def test_one_that_slept_looks_again_before_it_is_believed(run: RunDir, clock: Clock) -> None:
    with run.lock() as held:
        take_place_of(run)
        assert not held.is_lost()
        clock.sleep(31)
        assert held.is_lost()


def test_a_fork_neither_renews_nor_gives_back(run: RunDir) -> None:
    def work(pipe: int) -> None:
        held.release()
        tell(pipe, f"{sum(each.name == 'lease' for each in threading.enumerate())}")

    with run.lock() as held:
        with forked(work) as (_, line):
            assert line() == "0"
        assert look_at(lease_of(run)).state is State.LIVE
    assert not any(each.name == "lease" for each in threading.enumerate())


@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "expired"])
def test_of_many_heirs_at_once_one_succeeds(is_dead: bool, rounds: int, tmp_path: Path) -> None:
    def work(pipe: int) -> None:
        for number in range(rounds):
            path = tmp_path / str(number)
            if not is_dead:
                seen = path.read_bytes()
                lease._sightings[path] = lease._Sighting("0123abcd", seen, time.monotonic() - 1, False)
            time.sleep(max(0.0, began + 0.02 * number - time.monotonic()))
            held = take(path, tmp_path)
            tell(pipe, f"{number} {os.getpid()}" if held else f"{number} -")
            if held is not None:
                held.check()
                held._ended.set()  # as if killed, so that its lease stays
        signal.pause()

    for number in range(rounds):
        here: dict[str, Any] = {"host_identity": host_identity(), "pid": 1, "started": "0"} if is_dead else {}
        put(tmp_path / str(number), seconds=0.03, **here)
    began = time.monotonic() + 0.2
    with contextlib.ExitStack() as all_of_them:
        lines = [all_of_them.enter_context(forked(work))[1] for _ in range(4)]
        found = [[line().split() for _ in range(rounds)] for line in lines]
        for number in range(rounds):
            winners = [answers[number][1] for answers in found if answers[number][1] != "-"]
            assert len(winners) == 1
            assert json.loads((tmp_path / str(number)).read_bytes())["pid"] == int(winners[0])
    assert len(list(tmp_path.iterdir())) == rounds


def test_one_that_dies_while_it_takes_over_is_followed_too(run: RunDir, clock: Clock) -> None:
    path = lease_of(run)
    put(path)
    look_at(path)
    clock.sleep(90)
    put(path.with_name(f"{path.name}.0123abcd"), owner="4567ef01", pid=4712)
    assert take(path, run.path) is None  # it may be about to finish
    clock.sleep(90)
    held = take(path, run.path)
    assert held is not None
    held.release()
    assert [each.name for each in path.parent.iterdir() if "lease" in each.name] == []


def test_one_that_lives_after_all_is_left_alone(run: RunDir, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    path, create = lease_of(run), lease._create
    put(path)
    look_at(path)
    clock.sleep(90)

    def renewed_meanwhile(*arguments: Any) -> bool:
        put(path, renewals=1)
        return create(*arguments)

    monkeypatch.setattr(lease, "_create", renewed_meanwhile)
    assert take(path, run.path) is None
    assert look_at(path).state is State.LIVE
    assert [each.name for each in path.parent.iterdir() if "lease" in each.name] == [path.name]


def test_without_links_a_lease_is_created_and_read_back(
    run: RunDir, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with run.lock():
        assert look_at(lease_of(run)).state is State.LIVE
        assert take(lease_of(run), run.path) is None
    assert not lease_of(run).exists()
    # Where another machine's file arrives a moment later, it counts.
    monkeypatch.setattr(clock, "sleep", lambda _: put(lease_of(run)))
    assert take(lease_of(run), run.path) is None


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_that_mean_nothing_are_refused(value: str, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, value)
    with pytest.raises(ConfigError) as caught, run.lock():
        pass
    assert (only_fault(caught).code, only_fault(caught).key) == ("out-of-range", SECONDS_VARIABLE)


def test_who_takes_a_folder_elsewhere_says_that_it_waits(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    put(lease_of(run), seconds=0.3)
    run.check_free()
    waits = [message for message in caplog.messages if "waiting up to" in message]
    assert len(waits) == 1
    assert "process 4711 on node7" in waits[0]


def test_an_expired_lease_is_dropped_and_no_other(run: RunDir, clock: Clock) -> None:
    put(lease_of(run))
    run.drop_expired_lease()
    assert lease_of(run).exists()
    clock.sleep(90)
    run.drop_expired_lease()
    assert not lease_of(run).exists()


def test_writing_is_cheap_to_fence(run: RunDir) -> None:
    with run.lock():
        began = time.perf_counter()
        for _ in range(200):
            check_held(run.metrics_path)
        assert (time.perf_counter() - began) / 200 < 0.005
