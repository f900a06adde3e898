"""The evaluations of a run: where each lies, how the run is seen by it, and what version 1 left."""

from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.identity import evaluation_identity
from medqa_finetune.errors import DataError
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import (
    CellDir,
    evaluation_dirs,
    evaluation_parts,
    find_evaluation,
    find_evaluation_named,
    read_evaluation,
    row_name,
)
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Evaluation, EvaluationRecord, Failure, FileStamp, Process, Record, Score
from medqa_finetune.record.version_1 import first_defaults, upgrade
from tests.evaluations import record_of
from tests.faulty import only_fault
from tests.report.builders import record

WEIGHTS = {"adapter/adapter_model.safetensors": FileStamp(7, "a" * 64)}
RESULT = EvaluationRecord(n=3, scores={"bleu": Score(5.0, "s")})
FIRST_SETTINGS: dict[str, Any] = {
    "max_samples": 9, "max_new_tokens": 128, "metrics": ["rouge", "bleu"], "batch_size": 1, "text": "text",
    "text_path": "books/book.txt", "text_sha256": "0a1b2c" + "d" * 58,
}  # fmt: skip


def evaluation(name: str = "default", **changes: Any) -> Evaluation:
    fields: dict[str, Any] = {"identity": f"of {name}", "status": "done", "settings": {"max_samples": None}}
    return Evaluation(name, **fields | changes)


def trained(**changes: Any) -> Record:
    """A trained run without an evaluation."""
    empty: dict[str, Any] = {"status": "trained", "evaluation": None, "files": WEIGHTS}
    return record(**empty | changes)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "lora_20k")
    run.write(trained())
    return run


def put(run: RunDir, place: str, name: str | None = None, **changes: Any) -> EvaluationDir:
    folder = EvaluationDir(run.evaluations_path / place)
    folder.write(evaluation(name or place, **changes))
    return folder


def find(run: RunDir, identity: str, name: str) -> EvaluationDir:
    return find_evaluation(run, run.read(), identity, name)


def test_an_evaluation_that_is_not_there_yet_lies_in_a_folder_of_its_name(run: RunDir) -> None:
    assert find(run, "i", "max_samples=9") == EvaluationDir(run.evaluations_path / "max_samples=9")
    assert find_evaluation(run, None, "i", "default") == EvaluationDir(run.evaluations_path / "default")


def test_an_evaluation_is_found_by_its_identity_whatever_it_is_called(run: RunDir) -> None:
    folder = put(run, "max_new_tokens=128", identity="i")
    put(run, "default", identity="j")
    # The defaults may have been others when it began.
    assert find(run, "i", "default") == folder


def test_a_name_that_another_evaluation_has_is_never_shared(run: RunDir) -> None:
    put(run, "default", identity="of other defaults")
    folder = find(run, "0123456789abcdef", "default")
    assert folder == EvaluationDir(run.evaluations_path / "default__012345")
    folder.write(evaluation("default__012345", identity="0123456789abcdef"))
    assert find(run, "0123456789abcdef", "default") == folder


def test_a_torn_evaluation_is_left_to_whoever_starts_the_one_of_its_name(run: RunDir) -> None:
    put(run, "default").record_path.write_text("{", encoding="utf-8")
    assert find(run, "i", "default") == EvaluationDir(run.evaluations_path / "default")
    with pytest.raises(DataError):
        find(run, "i", "default").read()
    assert find(run, "i", "max_samples=9") == EvaluationDir(run.evaluations_path / "max_samples=9")


def test_a_cell_that_was_given_a_name_finds_the_evaluation_by_it(run: RunDir) -> None:
    folder = put(run, "a folder", name="max_samples=9")
    assert find_evaluation_named(run, "max_samples=9") == folder
    assert find_evaluation_named(run, "default") == EvaluationDir(run.evaluations_path / "default")
    run.record_path.write_text("{", encoding="utf-8")
    assert find_evaluation_named(run, "default") == EvaluationDir(run.evaluations_path / "default")


def test_the_one_whose_scores_the_record_holds_comes_first(run: RunDir) -> None:
    for name in ("a", "default", "z"):
        put(run, name)
    assert [folder.path.name for folder in evaluation_dirs(run, record_of(run))] == ["a", "default", "z"]
    run.update(evaluation_name="z")
    assert [folder.path.name for folder in evaluation_dirs(run, record_of(run))] == ["z", "a", "default"]


# How a run is seen by one of its evaluations.


@pytest.mark.parametrize("status", ["pending", "running", "failed", "interrupted"])
def test_until_the_weights_are_there_the_training_is_what_is_seen(status: Any) -> None:
    begun = record(status=status, evaluation=None, files={}, failure=Failure("a", "b"))
    for seen in (begun.seen_by(None), begun.seen_by(evaluation(status="pending"))):
        assert (seen.status, seen.failure, seen.evaluation) == (status, Failure("a", "b"), None)


def test_a_trained_run_is_not_done_for_an_evaluation_that_has_not_begun() -> None:
    for status in ("trained", "done"):
        seen = trained(status=status, evaluation=RESULT, evaluation_name="default", finished="now").seen_by(None)
        assert (seen.status, seen.evaluation, seen.zero_shot) == ("trained", None, {})
    assert seen.finished is None
    assert trained().seen_by(evaluation(status="pending")).status == "trained"


def test_what_is_seen_of_a_trained_run_is_the_evaluations() -> None:
    process, score = Process(1, "here"), Score(0.5, "lm-eval")
    of_it = evaluation(
        "max_samples=9", status="failed", failure=Failure("A", "b"), result=RESULT, exams={"t/acc": score},
        process=process, settings={"max_samples": 9}, finished="then",
    )  # fmt: skip
    run = trained(status="done", evaluation=record().evaluation, evaluation_name="default", process=Process(2, "there"))
    seen = run.seen_by(of_it)
    assert (seen.status, seen.failure, seen.process, seen.finished) == ("failed", Failure("A", "b"), process, "then")
    assert (seen.evaluation, seen.evaluation_name, seen.zero_shot) == (RESULT, "max_samples=9", {"t/acc": score})
    assert seen.setting("evaluate", "max_samples") == 9
    # What the training was stays what it was.
    assert (seen.train, seen.files, seen.config["method"]) == (run.train, run.files, run.config["method"])


def test_a_failed_evaluation_leaves_a_trained_run_trained() -> None:
    failed = trained(status="failed", failure=Failure("A", "b"))
    assert failed.is_trained
    assert failed.seen_by(evaluation(status="done", result=RESULT)).status == "done"


# Version 1: one evaluation, in the record and in the run's own folder.


def first(run: RunDir, **changes: Any) -> Record:
    """Write a run as version 1 left it."""
    settings = {**record().config, "evaluate": FIRST_SETTINGS}
    fields: dict[str, Any] = {
        "schema_version": 1, "name": run.path.name, "config": settings, "zero_shot": {"t/acc": Score(0.5, "s")},
        "files": WEIGHTS | {"predictions.jsonl": FileStamp(3, "b" * 64), "eval_results.json": FileStamp(3, "c" * 64)},
    }  # fmt: skip
    written = run.write(record(**fields | changes))
    EvaluationDir(run.path).append_predictions([{"id": "a"}])
    return written


@pytest.fixture
def old(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "lora_20k__seed=1__evaluate.max_samples=9__text=book-0a1b2c")
    first(run)
    return run


def test_the_one_evaluation_of_version_1_is_read_as_any_other(old: RunDir) -> None:
    found = record_of(old)
    (folder,) = evaluation_dirs(old, found)
    assert folder == EvaluationDir(old.path, in_run=True)
    read = read_evaluation(old, found, folder)
    assert read is not None
    assert (read.status, read.result, read.exams) == ("done", found.evaluation, found.zero_shot)
    assert read.identity == evaluation_identity(found.config)
    # As one is called that begins now: the run's own name says what was no default.
    assert read.name == "max_samples=9__text=book-0a1b2c"
    assert sorted(read.files) == ["predictions.jsonl"]
    assert find_evaluation(old, found, read.identity, "whatever") == folder
    assert find_evaluation(old, found, "i", "default") == EvaluationDir(old.evaluations_path / "default")


def test_a_run_of_version_1_whose_evaluation_had_not_begun_has_none(old: RunDir) -> None:
    found = first(old, status="interrupted", evaluation=None, zero_shot={}, files=WEIGHTS)
    assert len(evaluation_dirs(old, found)) == 1  # it has answers
    EvaluationDir(old.path).predictions_path.unlink()
    assert evaluation_dirs(old, found) == []


def test_its_defaults_are_what_its_name_does_not_say(old: RunDir) -> None:
    defaults = first_defaults(record_of(old))
    assert defaults == {
        "max_samples": None, "max_new_tokens": 128, "metrics": ["rouge", "bleu"], "batch_size": 1, "text": None,
        "text_path": "books/book.txt",
    }  # fmt: skip


def test_an_upgraded_run_holds_the_same_and_is_not_upgraded_twice(old: RunDir) -> None:
    before = record_of(old)
    (folder,) = evaluation_dirs(old, before)
    as_read = read_evaluation(old, before, folder)
    after = upgrade(old, before)
    assert after == record_of(old)
    assert after.schema_version == 2
    assert after.evaluation_defaults == first_defaults(before)
    assert after.files == WEIGHTS
    assert after.evaluation_name == "max_samples=9__text=book-0a1b2c"
    assert evaluation_dirs(old, after) == [folder]
    assert read_evaluation(old, after, folder) == as_read == folder.read()
    kept = ("name", "identity", "status", "config", "train", "evaluation", "zero_shot", "environment", "parameters")
    assert all(getattr(after, name) == getattr(before, name) for name in kept)
    content = {path: path.read_bytes() for path in (old.record_path, folder.record_path)}
    assert upgrade(old, after) == after
    assert {path: path.read_bytes() for path in content} == content


def test_an_upgrade_that_is_killed_between_its_two_writes_leaves_version_1(
    old: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, content = record_of(old), old.record_path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            upgrade(old, before)
    assert old.record_path.read_bytes() == content
    # Its evaluation's record is there already, and counts for nothing until the run's says so.
    (folder,) = evaluation_dirs(old, record_of(old))
    assert folder.read() is not None
    folder.update(status="failed")
    read = read_evaluation(old, record_of(old), folder)
    assert read is not None
    assert read.status == "done"
    upgrade(old, record_of(old))
    assert folder.read() == read


def test_an_unfinished_run_of_version_1_is_upgraded_without_an_evaluation(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "lora_20k")
    run.write(record(schema_version=1, status="interrupted", evaluation=None, files={}))
    after = upgrade(run, record_of(run))
    assert (after.schema_version, after.status, after.evaluation_name) == (2, "interrupted", None)
    assert evaluation_dirs(run, after) == []
    assert not (run.path / "evaluation.json").exists()


# A cell's folder, and what tables call it.


def test_a_cell_is_the_run_as_its_evaluation_sees_it(run: RunDir) -> None:
    folder = put(run, "max_samples=9", result=RESULT, settings={"max_samples": 9})
    cell = CellDir(run, folder)
    assert cell.read() == record_of(run).seen_by(folder.read())
    assert CellDir(run).read() == record_of(run)
    assert CellDir(RunDir(run.path / "nowhere"), folder).read() is None
    assert not cell.is_locked()
    for lock in (run.lock, folder.lock):
        with lock():
            assert cell.is_locked()
    with cell.lock():
        assert (run.is_locked(), folder.is_locked()) == (True, True)
    assert not cell.is_locked()


def ended(cell: CellDir) -> Record:
    seen = cell.read()
    assert seen is not None
    return seen.updated(status="interrupted", failure=Failure("SIGKILL", "killed"), finished="now")


def test_an_ending_before_the_weights_are_there_is_the_runs(run: RunDir) -> None:
    run.write(record(status="running", evaluation=None, files={}))
    folder = put(run, "default", status="pending")
    cell = CellDir(run, folder)
    cell.write_ending(ended(cell))
    assert (record_of(run).status, record_of(run).finished) == ("interrupted", "now")
    evaluation = folder.read()
    assert evaluation is not None
    assert (evaluation.status, evaluation.failure) == ("pending", None)


@pytest.mark.parametrize("done", [True, False])
def test_an_ending_after_that_is_the_evaluations_and_a_done_run_stays_done(run: RunDir, done: bool) -> None:
    if done:
        put(run, "default", result=RESULT)
        run.update(status="done", evaluation=RESULT, evaluation_name="default")
    folder = put(run, "max_samples=9", status="running")
    cell = CellDir(run, folder)
    before = record_of(run)
    cell.write_ending(ended(cell))
    evaluation = folder.read()
    assert evaluation is not None
    assert (evaluation.status, evaluation.failure) == ("interrupted", Failure("SIGKILL", "killed"))
    after = record_of(run)
    assert after.config == before.config
    if done:
        assert after == before
    else:
        assert (after.status, after.failure, after.is_trained) == ("interrupted", Failure("SIGKILL", "killed"), True)


@pytest.mark.parametrize(
    ("run_name", "evaluation_name", "row"),
    [
        ("lora_20k__seed=1", "default", "lora_20k__seed=1"),
        ("lora_20k__seed=1", "max_samples=9", "lora_20k__seed=1__evaluate.max_samples=9"),
        # In version 1 the run's name said it itself.
        ("lora_20k__evaluate.max_samples=9", "max_samples=9", "lora_20k__evaluate.max_samples=9"),
        ("lora_20k__evaluate.max_samples=9", "default", "lora_20k"),
        ("none__text=a-0a1b2c__seed=1", "text=a-0a1b2c", "none__seed=1__evaluate.text=a-0a1b2c"),
    ],
)
def test_a_row_is_named_after_training_and_evaluation(run_name: str, evaluation_name: str, row: str) -> None:
    assert row_name(run_name, evaluation(evaluation_name)) == row
    assert row_name(run_name, None) == run_name


def test_what_an_evaluations_name_says_is_typed_as_settings() -> None:
    assert evaluation_parts("default") == evaluation_parts("") == []
    assert evaluation_parts("max_new_tokens=9__max_samples=9") == [
        "evaluate.max_new_tokens=9",
        "evaluate.max_samples=9",
    ]


def test_a_torn_evaluation_is_said_where_it_is_read(run: RunDir) -> None:
    folder = put(run, "default")
    folder.record_path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        CellDir(run, folder).read()
    assert (only_fault(caught).code, only_fault(caught).file) == ("not-json", str(folder.record_path))
