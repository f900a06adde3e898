import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from medqa_finetune.errors import NO_VALUE, DataError, RunError
from medqa_finetune.record.read import read_lines
from medqa_finetune.record.run_dir import RunDir, find_runs, now
from medqa_finetune.record.schema import EvaluationRecord, Failure, Process, Record, Score
from tests.faulty import only_fault
from tests.report.builders import record

ROOT = Path(__file__).parents[2]
LOCKING = """
import sys
from pathlib import Path
from medqa_finetune.record.run_dir import RunDir
with RunDir(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def run_in(tmp_path: Path, **changes: Any) -> RunDir:
    run = RunDir(tmp_path / "lora_20k")
    run.write(record(**changes))
    return run


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    for each in (record(), record("none"), record(failure=Failure("A", "b"), status="failed", started=now())):
        run = RunDir(tmp_path / "run")
        run.write(each)
        assert run.read() == each


def test_no_record_is_none(tmp_path: Path) -> None:
    assert RunDir(tmp_path).read() is None
    assert RunDir(tmp_path).read_metrics() == []


def test_update_changes_fields_and_writes(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.update(status="failed", failure=Failure("A", "b"))
    read = run.read()
    assert read is not None
    assert (read.status, read.failure, read.name) == ("failed", Failure("A", "b"), "lora_20k")


def test_update_of_a_run_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        RunDir(tmp_path).update(status="done")
    assert (only_fault(caught).code, only_fault(caught).file) == ("record-gone", str(tmp_path / "record.json"))


@pytest.mark.parametrize(
    ("change", "code", "key", "got"),
    [
        ({"status": "finished"}, "wrong-type", "status", "finished"),
        ({"seed": "one"}, "wrong-type", "seed", "one"),
        ({"config": []}, "wrong-type", "config", []),
        ({"evaluation": {"n": 3}}, "missing-key", "evaluation.scores", NO_VALUE),
        ({"evaluation": {"n": 3, "scores": {"bleu": 1.0}}}, "wrong-type", "evaluation.scores.bleu", 1.0),
        ({"schema_version": 0}, "schema-version", "schema_version", 0),
        ({"schema_version": 3}, "schema-version", "schema_version", 3),
        ({"schema_version": None}, "schema-version", "schema_version", None),
        ({"schema_version": True}, "schema-version", "schema_version", True),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(
    tmp_path: Path, change: dict[str, Any], code: str, key: str, got: Any
) -> None:
    run = run_in(tmp_path)
    content = json.loads(run.record_path.read_text(encoding="utf-8")) | change
    run.record_path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run.read()
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.file) == (code, key, got, str(run.record_path))
    if code == "schema-version":
        assert fault.allowed == ("1", "2")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 50, b'{"schema_version": 1, "name": "a', b'{"schema_version": NaN}', b"[" * 200_000, b"[]", b"1"],
)
def test_a_torn_record_is_refused(tmp_path: Path, content: bytes) -> None:
    run = run_in(tmp_path)
    run.record_path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        run.read()
    assert only_fault(caught).file == str(run.record_path)


@pytest.mark.parametrize("size", [1, 10, 100, 1000])
def test_a_cut_record_is_refused(tmp_path: Path, size: int) -> None:
    run = run_in(tmp_path)
    run.record_path.write_bytes(run.record_path.read_bytes()[:-size])
    if size == 1:
        assert run.read() is not None
    else:
        with pytest.raises(DataError) as caught:
            run.read()
        assert only_fault(caught).code == "not-json"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    content = json.loads(run.record_path.read_text(encoding="utf-8"))
    del content["identity"]
    run.record_path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run.read()
    assert (only_fault(caught).code, only_fault(caught).key) == ("missing-key", "identity")


def test_a_score_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    bad = EvaluationRecord(n=1, scores={"bleu": Score(float("nan"), "s")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.update(evaluation=bad)
    assert run.read() == record()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING, str(run.path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunError) as caught, run.lock():
            pass
        assert (only_fault(caught).code, only_fault(caught).file) == ("busy", str(run.path))
        holder.send_signal(signal.SIGKILL)
    # The lock of a killed process is free, its file notwithstanding.
    with run.lock():
        pass


def test_a_folder_can_be_moved_while_locked_and_dot_means_the_same_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path)
    monkeypatch.chdir(run.path)
    with RunDir(Path()).lock():
        assert (tmp_path / ".lora_20k.lock").exists()
        assert run.move_aside() == tmp_path / "lora_20k.old-1"


def test_a_place_that_cannot_be_locked_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError) as caught, RunDir(tmp_path / "file" / "run").lock():
        pass
    assert only_fault(caught).code == "not-writable"


def test_move_aside_takes_the_first_free_name(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        assert run_in(tmp_path, seed=number).move_aside() == tmp_path / f"lora_20k.old-{number}"
    kept = RunDir(tmp_path / "lora_20k.old-2").read()
    assert kept is not None
    assert kept.seed == 2
    assert not (tmp_path / "lora_20k").exists()


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.log_metrics({"step": 1})
    with run.metrics_path.open("ab") as file:
        file.write(b'{"step": 2}')
    assert run.read_metrics() == [{"step": 1}]


@pytest.mark.parametrize("line", [b"{", b"[]", b"42", b"\xff", b"[" * 200_000])
def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(DataError) as caught:
        read_lines(path)
    assert (only_fault(caught).file, only_fault(caught).line_number) == (str(path), 2)


def test_runs_are_found_at_any_depth_and_others_are_not(tmp_path: Path) -> None:
    for place in ("b", "a/c", "study/demo/d"):
        RunDir(tmp_path / place).write(record())
    for place in ("b.old-1", "study.old-2/x", "summary", "cache/y", ".writing-abc/z"):
        RunDir(tmp_path / place).write(record())
    found = [run.path.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)]
    assert found == ["a/c", "b", "study/demo/d"]


def test_files_have_their_names(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_config("a: 1\n")
    run.write_results(EvaluationRecord(n=1, scores={"bleu": Score(1.5, "s")}))
    assert run.config_path.read_text(encoding="utf-8") == "a: 1\n"
    results = json.loads(run.results_path.read_text(encoding="utf-8"))
    assert results["scores"] == {"bleu": {"value": 1.5, "signature": "s"}}
    assert results["seconds"] is None
    curves = [f"training_curves.{ending}" for ending in ("png", "svg", "pdf")]
    names = [run.adapter_path, run.checkpoints_path, run.tensorboard_path, run.log_path, *run.curves_paths]
    assert [path.name for path in names] == ["adapter", "checkpoints", "tensorboard", "log.txt", *curves]


def test_time_is_utc() -> None:
    assert now().endswith("+00:00")


def test_a_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().status = "done"  # type: ignore[misc]
    assert isinstance(record().updated(seed=3), Record)


def test_who_works_on_a_run_is_known_without_disturbing_them(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "outputs" / "lora_20k")
    assert not run.is_locked()
    run.check_free()
    assert not (tmp_path / "outputs").exists()
    run.write(record(status="running", process=Process(4711, "far-away")))
    with run.lock():
        assert run.is_locked()
        with pytest.raises(RunError) as caught:
            run.check_free()
        fault = only_fault(caught)
        assert (fault.code, fault.file) == ("busy", str(run.path))
        assert f"process {os.getpid()} on {socket.gethostname()}" in fault.problem  # where to look for it
    assert not run.is_locked()


def busy_problem(run: RunDir) -> str:
    """Return what a refusal says while a process of an earlier version, which takes no lease, holds the run."""
    with FileLock(run.lock_path):
        assert run.is_locked()
        with pytest.raises(RunError) as caught:
            run.lock(patience=0.0).__enter__()
        return only_fault(caught).problem


def test_a_process_that_has_ended_is_no_owner(tmp_path: Path) -> None:
    run, host = RunDir(tmp_path / "lora_20k"), socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    run.write(record(status="running", process=Process(ended.pid, host)))
    assert "another process" in busy_problem(run)
    run.write(record(status="running", process=Process(os.getpid(), host)))
    assert f"process {os.getpid()} on" in busy_problem(run)
    # The process of a finished run on another machine has not locked it: this one has.
    run.write(record(status="done", process=Process(4711, "far-away")))
    assert "another process" in busy_problem(run)


def test_a_folder_locked_for_a_moment_counts_as_free(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "lora_20k")
    run.write(record())
    locked = threading.Event()

    def write() -> None:
        with run.lock():
            locked.set()
            time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    assert locked.wait(5)
    run.check_free()
    writer.join()


def test_metrics_behind_a_step_are_forgotten(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (1, 2, 2, 3, 4):
        run.log_metrics({"step": step})
    run.forget_metrics_after(2)
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 2]


def test_stamps_cover_what_results_are_made_of(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    of_an_evaluation = ("predictions.jsonl", "answering.jsonl", "eval_results.json", "item_scores.npz")
    others = (
        "record.json", "log.txt", "tensorboard/e", "checkpoints/step-1/w", "evaluations/default/predictions.jsonl",
        "evaluation.json", "export/m", "predictions.jsonl.old-1",
    )  # fmt: skip
    for name in ("adapter/a", "metrics.jsonl", *of_an_evaluation, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(run.stamps()) == ["adapter/a", "metrics.jsonl"]
