"""The folder of one evaluation: what lies in it, how it is read, and who may work in it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import NO_VALUE, DataError, RunError
from medqa_finetune.record.evaluation_dir import EvaluationDir, evaluations_below
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, EvaluationRecord, Process, Reused, Score
from tests.faulty import only_fault
from tests.report.builders import record

ROOT = Path(__file__).parents[2]
LOCKING = """
import sys
from pathlib import Path
from medqa_finetune.record.{module} import {kind}
with {kind}(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def evaluation(**changes: Any) -> Evaluation:
    fields: dict[str, Any] = {"name": "default", "identity": "i", "status": "running", "settings": {"metrics": []}}
    return Evaluation(**fields | changes)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "lora_20k")
    run.write(record())
    return run


@pytest.fixture
def folder(run: RunDir) -> EvaluationDir:
    return EvaluationDir(run.evaluations_path / "default")


def test_a_record_comes_back_as_it_was(folder: EvaluationDir) -> None:
    assert folder.read() is None
    result = EvaluationRecord(n=1, scores={"bleu": Score(1.5, "s")})
    for each in (evaluation(), evaluation(status="done", reused=Reused("other", 3), result=result)):
        assert folder.write(each) == each == folder.read()
    assert folder.update(status="failed").status == "failed"
    assert folder.read() == evaluation(status="failed", reused=Reused("other", 3), result=result)


def test_update_of_one_that_is_gone_says_so(folder: EvaluationDir) -> None:
    with pytest.raises(RunError) as caught:
        folder.update(status="done")
    assert (only_fault(caught).code, only_fault(caught).file) == ("record-gone", str(folder.record_path))


@pytest.mark.parametrize(
    ("change", "code", "key", "got"),
    [
        ({"status": "finished"}, "wrong-type", "status", "finished"),
        ({"settings": []}, "wrong-type", "settings", []),
        ({"result": {"n": 3}}, "missing-key", "result.scores", NO_VALUE),
        # No version before the second had such a file.
        ({"schema_version": 1}, "schema-version", "schema_version", 1),
        ({"schema_version": 3}, "schema-version", "schema_version", 3),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(
    folder: EvaluationDir, change: dict[str, Any], code: str, key: str, got: Any
) -> None:
    folder.write(evaluation())
    content = json.loads(folder.record_path.read_text(encoding="utf-8")) | change
    folder.record_path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        folder.read()
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.file) == (code, key, got, str(folder.record_path))


def test_a_torn_last_line_is_left_out(folder: EvaluationDir) -> None:
    assert folder.read_predictions() == []
    folder.write(evaluation())
    folder.append_predictions([{"id": "a"}, {"id": "b\u2028"}])
    with folder.predictions_path.open("ab") as file:
        file.write(b'{"id": "c"}')
    assert folder.read_predictions() == [{"id": "a"}, {"id": "b\u2028"}]


def test_predictions_go_on_after_a_torn_line(folder: EvaluationDir) -> None:
    folder.write(evaluation())
    folder.append_predictions([{"id": "a"}])
    with folder.predictions_path.open("ab") as file:
        file.write('{"id": "b", "prediction": "头'.encode()[:-1])
    folder.append_predictions([{"id": "b"}, {"id": "c"}])
    assert folder.read_predictions() == [{"id": "a"}, {"id": "b"}, {"id": "c"}]


def test_what_answering_cost_is_kept_batch_by_batch(folder: EvaluationDir) -> None:
    assert folder.read_answered() == []
    folder.write(evaluation())
    folder.log_answered({"answered": 4})
    folder.log_answered({"answered": 8})
    assert folder.read_answered() == [{"answered": 4}, {"answered": 8}]


def write_files(folder: EvaluationDir) -> None:
    folder.write(evaluation())
    folder.append_predictions([{"id": "a"}])
    folder.log_answered({"answered": 1})
    folder.write_results(EvaluationRecord(n=1, scores={"bleu": Score(1.5, "s")}))
    folder.item_scores_path.write_bytes(b"npz")


def test_stamps_cover_what_an_evaluation_is_made_of(folder: EvaluationDir, run: RunDir) -> None:
    files = ["answering.jsonl", "eval_results.json", "item_scores.npz", "predictions.jsonl"]
    write_files(folder)
    assert sorted(folder.stamps()) == files
    # In the run's own folder, the results are those of whichever evaluation is the default one.
    own = EvaluationDir(run.path, in_run=True)
    write_files(own)
    assert sorted(own.stamps()) == [name for name in files if name != "eval_results.json"]
    assert run.stamps() == {}


def test_moving_aside_takes_the_whole_folder_and_deletes_nothing(folder: EvaluationDir) -> None:
    for number in (1, 2):
        write_files(folder)
        folder.move_aside()
        assert not folder.path.exists()
        assert len(list(folder.path.with_name(f"default.old-{number}").iterdir())) == 5


def test_moving_aside_what_lies_in_the_run_leaves_the_run(run: RunDir) -> None:
    own = EvaluationDir(run.path, in_run=True)
    write_files(own)
    own.move_aside()
    assert sorted(path.name for path in run.path.iterdir()) == [
        "answering.jsonl.old-1", "eval_results.json", "evaluation.json.old-1", "item_scores.npz.old-1",
        "predictions.jsonl.old-1", "record.json",
    ]  # fmt: skip
    own.move_aside()  # nothing is left to move


def test_evaluations_are_found_by_their_records(run: RunDir) -> None:
    for name in ("max_samples=9", "default", "default.old-1"):
        EvaluationDir(run.evaluations_path / name).write(evaluation())
    (run.evaluations_path / "empty").mkdir()
    assert [each.path.name for each in evaluations_below(run.evaluations_path)] == ["default", "max_samples=9"]
    assert list(evaluations_below(run.path / "nowhere")) == []


def holding(kind: type[RunDir] | type[EvaluationDir], path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that holds a lock until its standard input closes."""
    code = LOCKING.format(module="run_dir" if kind is RunDir else "evaluation_dir", kind=kind.__name__)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


def test_one_process_at_a_time_and_a_killed_one_frees_it(folder: EvaluationDir) -> None:
    folder.write(evaluation(status="running", process=Process(4711, "far-away")))
    with holding(EvaluationDir, folder.path) as holder:
        assert folder.is_locked()
        for claim in (folder.check_free, folder.lock().__enter__):
            with pytest.raises(RunError) as caught:
                claim()
            assert (only_fault(caught).code, only_fault(caught).file) == ("busy", str(folder.path))
            assert f"process {holder.pid} on" in only_fault(caught).problem
        holder.send_signal(signal.SIGKILL)
    assert not folder.is_locked()
    with folder.lock():
        pass


def test_a_second_evaluation_is_free_while_another_goes_on(folder: EvaluationDir, run: RunDir) -> None:
    other = EvaluationDir(run.evaluations_path / "max_samples=9")
    with holding(EvaluationDir, folder.path) as holder:
        other.check_free()
        with other.lock(), run.lock():
            assert folder.is_locked()
        holder.kill()


def test_the_lock_of_the_run_is_not_that_of_an_evaluation_in_its_folder(run: RunDir) -> None:
    own = EvaluationDir(run.path, in_run=True)
    with holding(RunDir, run.path) as holder:
        own.check_free()
        with own.lock():
            assert run.is_locked()
        holder.kill()


def test_a_lock_lies_next_to_the_folder_and_dot_means_the_same_one(
    folder: EvaluationDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(evaluation())
    monkeypatch.chdir(folder.path)
    with EvaluationDir(Path()).lock():
        assert folder.is_locked()
        assert list(folder.path.iterdir()) == [folder.record_path]
        os.chdir("/")
        folder.move_aside()


def test_looking_whether_it_is_free_writes_nothing(tmp_path: Path) -> None:
    folder = EvaluationDir(tmp_path / "nowhere" / "evaluations" / "default")
    folder.check_free()
    assert not folder.is_locked()
    assert list(tmp_path.iterdir()) == []


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluation().status = "done"  # type: ignore[misc]
    assert evaluation().updated(status="done").status == "done"
