import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import DataError, RunError
from medqa_finetune.record.reading import read_lines
from medqa_finetune.record.run_dir import RunDir, find_runs, now
from medqa_finetune.record.schema import EvaluationRecord, Failure, Process, Record, Score
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
    assert RunDir(tmp_path).read_predictions() == []


def test_update_changes_fields_and_writes(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.update(status="failed", failure=Failure("A", "b"))
    read = run.read()
    assert read is not None
    assert (read.status, read.failure, read.name) == ("failed", Failure("A", "b"), "lora_20k")


def test_update_of_a_run_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is gone"):
        RunDir(tmp_path).update(status="done")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "finished"}, "status is 'finished'"),
        ({"seed": "one"}, "seed is 'one'"),
        ({"config": []}, "config is []"),
        ({"evaluation": {"n": 3}}, "evaluation.scores is"),
        ({"evaluation": {"n": 3, "scores": {"bleu": 1.0}}}, "evaluation.scores.bleu is 1.0"),
        ({"schema_version": 0}, "schema_version is 0, this version reads 1"),
        ({"schema_version": None}, "schema_version is None"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run = run_in(tmp_path)
    content = json.loads(run.record_path.read_text(encoding="utf-8")) | change
    run.record_path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run.read()
    assert str(run.record_path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 50, b'{"schema_version": 1, "name": "a', b'{"schema_version": NaN}', b"[" * 200_000, b"[]", b"1"],
)
def test_a_torn_record_is_refused(tmp_path: Path, content: bytes) -> None:
    run = run_in(tmp_path)
    run.record_path.write_bytes(content)
    with pytest.raises(DataError, match=r"record\.json"):
        run.read()


@pytest.mark.parametrize("size", [1, 10, 100, 1000])
def test_a_cut_record_is_refused(tmp_path: Path, size: int) -> None:
    run = run_in(tmp_path)
    run.record_path.write_bytes(run.record_path.read_bytes()[:-size])
    if size == 1:
        assert run.read() is not None
    else:
        with pytest.raises(DataError, match="not a whole JSON file"):
            run.read()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    content = json.loads(run.record_path.read_text(encoding="utf-8"))
    del content["identity"]
    run.record_path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="identity"):
        run.read()


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
        with pytest.raises(RunError, match="another process"), run.lock():
            pass
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
    with pytest.raises(RunError, match="cannot be locked"), RunDir(tmp_path / "file" / "run").lock():
        pass


def test_move_aside_takes_the_first_free_name(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        assert run_in(tmp_path, seed=number).move_aside() == tmp_path / f"lora_20k.old-{number}"
    kept = RunDir(tmp_path / "lora_20k.old-2").read()
    assert kept is not None
    assert kept.seed == 2
    assert not (tmp_path / "lora_20k").exists()


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.append_predictions([{"id": "a"}, {"id": "b\u2028"}])
    run.log_metrics({"step": 1})
    with run.predictions_path.open("ab") as file:
        file.write(b'{"id": "c"}')
    assert run.read_predictions() == [{"id": "a"}, {"id": "b\u2028"}]
    assert run.read_metrics() == [{"step": 1}]


def test_predictions_go_on_after_a_torn_line(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.append_predictions([{"id": "a"}])
    with run.predictions_path.open("ab") as file:
        file.write('{"id": "b", "prediction": "头'.encode()[:-1])
    run.append_predictions([{"id": "b"}, {"id": "c"}])
    assert run.read_predictions() == [{"id": "a"}, {"id": "b"}, {"id": "c"}]


@pytest.mark.parametrize("line", [b"{", b"[]", b"42", b"\xff", b"[" * 200_000])
def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2:"):
        read_lines(path)


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
    names = [run.adapter_path, run.checkpoints_path, run.tensorboard_path, run.log_path, run.curves_path]
    assert [path.name for path in names] == ["adapter", "checkpoints", "tensorboard", "log.txt", "training_curves.png"]


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
    run.write(record(process=Process(4711, "far-away")))
    with run.lock():
        assert run.is_locked()
        with pytest.raises(RunError, match="lora_20k: process 4711 on far-away is working on this run"):
            run.check_free()
    assert not run.is_locked()


def test_metrics_behind_a_step_are_forgotten(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (1, 2, 2, 3, 4):
        run.log_metrics({"step": step})
    run.forget_metrics_after(2)
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 2]


def test_stamps_cover_what_results_are_made_of(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for name in ("adapter/a", "predictions.jsonl", "record.json", "log.txt", "tensorboard/e", "checkpoints/step-1/w"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(run.stamps()) == ["adapter/a", "predictions.jsonl"]
    assert run.stamps("adapter") == {"adapter/a": run.stamps()["adapter/a"]}


def test_what_answering_cost_is_kept_batch_by_batch(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.read_answered() == []
    run.log_answered({"answered": 4})
    run.log_answered({"answered": 8})
    assert run.read_answered() == [{"answered": 4}, {"answered": 8}]
