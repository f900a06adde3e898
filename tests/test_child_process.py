"""Functions called in child processes: their results, their faults, and how a child ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medqa_finetune.child_process import (
    FAULTS_VARIABLE,
    NoReplyError,
    call,
    describe_exit,
    exit_name,
    faults_file,
    leave_faults,
    read_faults,
    stream,
)
from medqa_finetune.errors import ConfigError, Fault, ModelError, RunError
from tests.faulty import only_fault
from tests.launch.children import ROOT, gone, no_child_is_left, wait_for

FAULTS = (
    Fault("out-of-range", "must be ≥ 1", key="rank", got=None, allowed=("1", "2"), hint="Give more."),
    Fault("not-json", "is not JSON", file="问答.jsonl", line_number=3),
)


@dataclass(frozen=True)
class Job:
    """What the functions below are asked to do."""

    folder: Path
    words: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    job: Job
    faults: list[Fault]
    process: int


def echo(job: Job) -> Result:
    print("a library prints this")
    return Result(job, list(FAULTS), os.getpid())


def refuse(job: Job) -> Result:
    raise ModelError(*FAULTS)


def break_down(job: Job) -> Result:
    raise KeyError("药")


def leave(job: Job) -> Result:
    print("last words")
    os._exit(3)


def be_killed(job: Job) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def wait(job: Job) -> Result:
    (job.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(job.seconds)
    return echo(job)


def count(job: Job) -> Iterator[str]:
    yield from job.words
    yield os.environ.get("ADDED", "")
    if job.seconds:
        raise ModelError(*FAULTS)


def test_request_and_result_arrive_unchanged(tmp_path: Path) -> None:
    job = Job(tmp_path / "\udcff", ("药", "\ud83d", "b" * 200_000), 0.5)
    result = call(echo, job)
    assert (result.job, result.faults) == (job, list(FAULTS))
    assert result.process != os.getpid()


def test_faults_keep_their_class_and_fields(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        call(refuse, Job(tmp_path))
    assert caught.value.faults == FAULTS


def test_defect_is_a_fault_with_its_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as caught:
        call(break_down, Job(tmp_path))
    assert only_fault(caught).code == "unexpected"
    assert "KeyError" in only_fault(caught).problem
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(("quiet", "last"), [(True, "last words"), (False, "")])
def test_exit_without_a_reply_names_the_last_line(tmp_path: Path, quiet: bool, last: str) -> None:
    with pytest.raises(NoReplyError) as caught:
        call(leave, Job(tmp_path), quiet=quiet)
    assert (caught.value.problem, caught.value.last_line) == (describe_exit(3), last)


def test_kill_is_named_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(NoReplyError) as caught:
        call(be_killed, Job(tmp_path))
    assert "SIGKILL" in caught.value.problem
    assert not caught.value.timed_out


def test_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with no_child_is_left():
        with pytest.raises(NoReplyError) as caught:
            call(wait, Job(tmp_path, seconds=60), timeout=0.2)
        assert caught.value.timed_out


def test_stream_yields_items_until_the_end(tmp_path: Path) -> None:
    with stream(count, Job(tmp_path, ("a", "b")), environment={"ADDED": "c"}) as child:
        assert list(child.replies()) == ["a", "b", "c"]


def test_stream_yields_items_before_a_fault(tmp_path: Path) -> None:
    with no_child_is_left(), stream(count, Job(tmp_path, ("a",), seconds=1.0)) as child:
        replies = child.replies()
        assert [next(replies), next(replies)] == ["a", ""]
        with pytest.raises(ModelError):
            next(replies)


def test_stream_that_is_left_early_ends_the_child(tmp_path: Path) -> None:
    with no_child_is_left():
        began = time.monotonic()
        with stream(count, Job(tmp_path, ("a", "b"))) as child:
            assert next(child.replies()) == "a"
        assert time.monotonic() - began < 30


def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from tests.test_child_process import Job, wait\nfrom medqa_finetune.child_process import call\n"
        f"call(wait, Job(Path({str(tmp_path)!r}), seconds=60))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        child = int(wait_for(tmp_path / "pid"))
        parent.kill()
    assert gone(child)


@pytest.mark.parametrize(("code", "name"), [(3, "exit code 3"), (-9, "SIGKILL"), (-99, "signal 99")])
def test_exit_codes_have_names(code: int, name: str) -> None:
    assert exit_name(code) == name
    assert name in describe_exit(code)


def test_faults_of_a_command_come_through_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with faults_file() as path:
        monkeypatch.setenv(FAULTS_VARIABLE, str(path))
        assert read_faults(path) == []
        leave_faults(json.dumps(ConfigError(*FAULTS).as_json()))
        assert read_faults(path) == list(FAULTS)
    assert not path.parent.exists()
