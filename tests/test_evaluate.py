import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.errors import MedQAError
from medqa_finetune.evaluate import evaluate as command
from medqa_finetune.record.checksums import damages, stamp_of
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import (
    DataManifest,
    Evaluation,
    EvaluationRecord,
    FileStamp,
    Record,
    Score,
    SetManifest,
)
from tests.commands import files_below, python
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden
from tests.faulty import only_fault

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = {"metrics": ["rouge", "bleu"], "max_samples": None}
ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "头痛怎么办？", "reference": "多休息，多喝水。", "prediction": "多休息，多喝水。"},
    {"id": "b", "question": "发热怎么办？", "references": ["口服退热药。", "就医。"], "prediction": "就医。"},
    {"id": "c", "question": "咳嗽怎么办？", "reference": "多喝水。", "prediction": ""},
]


def evaluate(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("-m", "medqa_finetune.evaluate", *arguments, cwd=cwd, timeout=60)


def refusal(*arguments: str, cwd: Path = ROOT) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code of a command that is refused, and its faults."""
    done = evaluate(*arguments, *(() if "format=json" in arguments else ("format=json",)), cwd=cwd)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)["faults"]


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A done run whose scores are out of date."""
    run = RunDir(tmp_path / "lora_20k")
    manifest = DataManifest("c", SetManifest(9, "a"), SetManifest(3, "b"), SetManifest(3, "d"))
    stale = EvaluationRecord(n=3, scores={"rougeL": Score(1.0, "old")}, seconds=12.5, samples_per_second=0.24)
    run.write(
        Record(
            name="lora_20k", identity="i", status="done", method="lora", data="20k", model="tiny", seed=0,
            config={"evaluate": SETTINGS}, evaluation_name="default", files={"config.yaml": FileStamp(0, "")},
            data_manifest=manifest, evaluation=stale,
        )
    )  # fmt: skip
    put(run, "default", stale)
    return run


def put(run: RunDir, name: str, result: EvaluationRecord | None, **changes: Any) -> EvaluationDir:
    """Write an evaluation that has answered everything."""
    folder = EvaluationDir(run.evaluations_path / name)
    folder.write(Evaluation(**{"name": name, "identity": name, "status": "done", "settings": SETTINGS} | changes))
    folder.append_predictions(ROWS)
    folder.update(result=result, files=folder.stamps())
    return folder


def default_of(run: RunDir) -> EvaluationDir:
    return EvaluationDir(run.evaluations_path / "default")


def without_scores(run: RunDir) -> None:
    """Let the run's only evaluation be one that has answered everything and not been scored."""
    run.update(evaluation=None, evaluation_name=None, status="trained")
    default_of(run).update(result=None, status="running", files={})


@needs_golden
def test_golden_file_is_scored_as_it_is() -> None:
    done = evaluate(f"predictions={GOLDEN}", "format=json", "items=true")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["n"] == 24
    names = {"rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rougeL", "bleu": "bleu_zh_sent"}
    for item, row in zip(result["items"], golden_rows(), strict=True):
        assert item["id"] == row["id"]
        for ours, theirs in names.items():
            assert item[ours] == pytest.approx(row[theirs], abs=1e-6)


def test_json_is_one_object_and_nothing_else(predictions: Path) -> None:
    done = evaluate(f"predictions={predictions}", "format=json", "metrics=[rouge]")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert set(result) == {"n", "scores"}
    assert set(result["scores"]) == {"rouge1", "rouge2", "rougeL"}
    assert result["scores"]["rougeL"]["value"] == pytest.approx(200 / 3)
    assert set(result["scores"]["rougeL"]) == {"value", "signature"}


def test_text_shows_n_signatures_and_items(predictions: Path) -> None:
    done = evaluate(f"predictions={predictions}", "items=true")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["score", "value", "n", "signature"]
    assert lines[1].split() == ["bleu", lines[1].split()[1], "3", lines[1].split()[3]]
    assert "nrefs:var|case:mixed|eff:no|tok:zh" in lines[1]
    assert "empty 33.3%" in done.stdout
    assert lines[-1].split() == ["c", *["0.00"] * 9]
    # LLaMA-Factory knows one reference an answer.
    assert any(line.split()[-4:] == ["-"] * 4 for line in lines[-3:])


def test_output_takes_the_same_object(predictions: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.json"
    done = evaluate(f"predictions={predictions}", "format=json", "items=true", f"output={target}")
    assert json.loads(target.read_text(encoding="utf-8")) == json.loads(done.stdout)


def test_help_is_quick() -> None:
    start = time.monotonic()
    done = evaluate("--help", "nonsense")
    assert done.returncode == 0
    assert "predictions=FILE" in done.stdout
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("arguments", "code", "key"),
    [
        ([], "conflict", None),
        (["run=x", "predictions=y"], "conflict", None),
        (["run=x", "prediction_key=y"], "conflict", "prediction_key"),
        (["run=x", "references=y"], "conflict", "references"),
        (["predictions=none.jsonl"], "file-missing", None),
        (["predictions=x", "frmat=json"], "unknown-key", "frmat"),
        (["predictions=x", "items=maybe"], "wrong-type", "items"),
        (["predictions=x", "output=x"], "same-file", "output"),
        (["predictions=x", "references=y", "output=y"], "same-file", "output"),
        (["predictions=x", "output=."], "not-a-file", "output"),
        (["run=nowhere"], "not-a-run", "run"),
        (["run=nowhere*"], "no-match", "run"),
        (["run=nowhere", "evaluate.max_samples=1"], "not-a-run", "run"),
        (["run=nowhere*", "evaluate.max_samples=1"], "no-match", "run"),
        (["run=x", "evaluate.max_sample=1"], "unknown-key", "evaluate.max_sample"),
        (["run=x", "evaluate.max_samples=few"], "wrong-type", "evaluate.max_samples"),
        (["run=x", "evaluate.max_samples=1", "evaluate.max_samples=2"], "given-twice", "evaluate.max_samples"),
        (["predictions=x", "evaluate.max_samples=1"], "conflict", "evaluate.max_samples"),
        (["predictions=x", "model.path=y"], "conflict", "model.path"),
        (["run=x", "evaluate.max_samples=1", "metrics=[rouge]"], "conflict", "metrics"),
        (["run=x", "model.path=y", "evaluation=default"], "conflict", "evaluation"),
        (["run=x", "max_parallel=0"], "out-of-range", "max_parallel"),
        (["run=x", "retries=-1"], "out-of-range", "retries"),
        (["run=x", "gpus_per_run=-1"], "out-of-range", "gpus_per_run"),
        (["run=x", "threads=0"], "out-of-range", "threads"),
    ],
)
def test_bad_input_says_what_is_wrong(
    arguments: list[str], code: str, key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedQAError) as caught:
        command(arguments)
    assert caught.value.exit_code == 2
    assert (only_fault(caught).code, only_fault(caught).key) == (code, key)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_ends_with_2_and_its_fields_are_printed(tmp_path: Path) -> None:
    code, (fault,) = refusal("run=x", "evaluate.max_sample=1", cwd=tmp_path)
    assert (code, fault["code"], fault["key"], fault["got"]) == (2, "unknown-key", "evaluate.max_sample", "1")
    assert "evaluate.max_samples" in fault["allowed"]
    assert "evaluate.max_samples" in fault["hint"]


def test_an_unknown_format_is_refused_in_words(tmp_path: Path) -> None:
    done = evaluate("predictions=x", "format=xml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: format=xml: ")
    assert len(done.stderr.splitlines()) == 1


def test_all_that_says_nothing_together_is_said_at_once() -> None:
    code, faults = refusal("run=x", "evaluate.max_samples=1", "metrics=[rouge]", "evaluation=default")
    assert (code, [(fault["code"], fault["key"], fault["got"]) for fault in faults]) == (
        2, [("conflict", "metrics", "[rouge]"), ("conflict", "evaluation", "default")],
    )  # fmt: skip


def test_what_only_scoring_finds_is_told_with_the_file(predictions: Path) -> None:
    row = ROWS[0] | {"id": "d", "reference_nll": 1.0, "reference_tokens": 2}
    with predictions.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    code, (fault,) = refusal(f"predictions={predictions}")
    assert (code, fault["file"]) == (2, str(predictions))
    assert "reference_nll" in fault["message"]


def test_unknown_metric_and_unwritable_output(predictions: Path, tmp_path: Path) -> None:
    code, (fault,) = refusal(f"predictions={predictions}", "metrics=[rouge,meteor]")
    assert (code, fault["key"], fault["got"]) == (2, "metrics", "meteor")
    assert "rouge" in fault["allowed"]
    target = f"{predictions}/x.json"
    done = evaluate(f"predictions={predictions}", f"output={target}")
    assert (done.returncode, done.stderr.startswith(f"error: output={target}: ")) == (2, True)


def test_a_run_is_scored_again_and_keeps_its_timings(run: RunDir) -> None:
    done = evaluate(f"run={run.path}", "format=json", "items=true", "metrics=[rouge]")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    record = run.read()
    assert record is not None
    assert record.evaluation is not None
    assert record.status == "done"
    assert record.evaluation.seconds == 12.5
    assert record.evaluation.samples_per_second == 0.24
    # A run's own metrics stay, whatever is asked for beside them.
    assert set(record.evaluation.scores) == {"rouge1", "rouge2", "rougeL", "bleu", "sentence_bleu"}
    assert result["scores"]["rougeL"]["value"] == record.evaluation.scores["rougeL"].value == pytest.approx(200 / 3)
    for path in (run.results_path, default_of(run).results_path):
        assert json.loads(path.read_text(encoding="utf-8")) == dataclasses.asdict(record.evaluation)
    evaluation = default_of(run).read()
    assert evaluation is not None
    assert evaluation.result == record.evaluation
    assert damages(default_of(run).path, evaluation.files) == []
    assert [item["id"] for item in result["items"]] == ["a", "b", "c"]


def test_scoring_once_more_touches_nothing(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    before = files_below(run.path)
    assert evaluate(f"run={run.path}").returncode == 0
    assert files_below(run.path) == before


def test_lost_results_are_made_again(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    content = run.results_path.read_bytes()
    run.results_path.write_bytes(content[:20])
    assert evaluate("run=.", cwd=run.path).returncode == 0
    assert run.results_path.read_bytes() == content


def test_what_every_answer_scored_is_kept_and_made_again(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    folder = default_of(run)
    scores = folder.read_item_scores()
    assert scores is not None
    assert scores.ids.tolist() == ["a", "b", "c"]
    assert scores.values["rougeL"].mean() == pytest.approx(200 / 3)
    content = folder.item_scores_path.read_bytes()
    folder.item_scores_path.write_bytes(content[:50])
    evaluate(f"run={run.path}")
    assert folder.item_scores_path.read_bytes() == content
    evaluation = folder.read()
    assert evaluation is not None
    assert damages(folder.path, evaluation.files) == []


def test_a_run_without_scores_gets_them_once_all_is_answered(run: RunDir) -> None:
    without_scores(run)
    assert evaluate(f"run={run.path}").returncode == 0
    evaluation, record = default_of(run).read(), run.read()
    assert evaluation is not None
    assert evaluation.result is not None
    assert (evaluation.status, evaluation.result.n, evaluation.result.seconds) == ("running", 3, None)
    # What it cost is not known, so that the run is not done by it.
    assert record is not None
    assert (record.status, record.evaluation) == ("trained", None)


@pytest.mark.parametrize("evaluated", [True, False])
def test_missing_predictions_are_refused(run: RunDir, evaluated: bool) -> None:
    folder = default_of(run)
    folder.update(files={})  # nothing says how they were left
    if not evaluated:
        without_scores(run)
    # The last line is torn, as a crash leaves it.
    folder.predictions_path.write_bytes(folder.predictions_path.read_bytes()[:-5])
    before = run.record_path.read_bytes()
    for found in (2, 0):
        code, (fault,) = refusal(f"run={run.path}")
        assert (code, fault["code"], fault["file"]) == (2, "answers-missing", str(folder.predictions_path))
        assert str(found) in fault["problem"]
        folder.predictions_path.unlink(missing_ok=True)
    assert run.record_path.read_bytes() == before
    assert not run.results_path.exists()


def test_lost_predictions_of_a_finished_run_are_refused(run: RunDir) -> None:
    path = default_of(run).predictions_path
    default_of(run).update(files={"predictions.jsonl": stamp_of(path)})
    path.unlink()
    code, (fault,) = refusal(f"run={run.path}")
    assert (code, fault["code"], fault["file"]) == (2, "answers-missing", str(path))
    assert "predictions=FILE" not in fault["message"]


def test_changed_predictions_of_a_finished_run_are_refused(run: RunDir) -> None:
    folder = default_of(run)
    folder.predictions_path.write_bytes(folder.predictions_path.read_bytes().replace("就医".encode(), "休息".encode()))
    code, (fault,) = refusal(f"run={run.path}")
    assert (code, fault["code"]) == (2, "answers-changed")
    assert "predictions=FILE" in fault["hint"]


@pytest.mark.parametrize("of_run", [True, False])
def test_what_another_process_works_on_is_left_alone(run: RunDir, of_run: bool) -> None:
    if of_run:
        run.update(status="running")
    before = files_below(run.path)
    with run.lock() if of_run else default_of(run).lock():
        code, (fault,) = refusal(f"run={run.path}")
    assert (code, fault["code"]) == (1, "busy")
    assert files_below(run.path) == before


def test_a_torn_record_is_refused(run: RunDir) -> None:
    run.record_path.write_bytes(run.record_path.read_bytes()[:100])
    code, (fault,) = refusal(f"run={run.path}")
    assert (code, fault["code"], fault["file"]) == (2, "not-json", str(run.record_path))


# Several evaluations of a run.


def test_all_evaluations_are_scored_and_the_runs_own_is_printed(run: RunDir) -> None:
    other = put(run, "max_samples=3", None, settings={**SETTINGS, "max_samples": 3, "metrics": ["rouge", "distinct"]})
    done = evaluate(f"run={run.path}", "format=json", "metrics=[rouge]")
    assert done.returncode == 0, done.stderr
    record, evaluation = run.read(), other.read()
    assert record is not None
    assert record.evaluation is not None
    assert set(json.loads(done.stdout)["scores"]) == set(record.evaluation.scores)
    assert evaluation is not None
    assert evaluation.result is not None
    # Each keeps its own metrics.
    assert set(evaluation.result.scores) == {"rouge1", "rouge2", "rougeL", "distinct2"}
    assert json.loads(other.results_path.read_bytes()) == dataclasses.asdict(evaluation.result)


def test_one_evaluation_is_scored_by_its_name(run: RunDir) -> None:
    before = run.record_path.read_bytes()
    put(run, "max_samples=3", None, settings={**SETTINGS, "metrics": ["distinct"]})
    done = evaluate(f"run={run.path}", "format=json", "evaluation=max_samples=3", "metrics=[distinct]")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["scores"]) == {"distinct2"}
    assert run.record_path.read_bytes() == before
    code, (fault,) = refusal(f"run={run.path}", "evaluation=max_samples=4")
    assert (code, fault["key"], fault["got"]) == (2, "evaluation", "max_samples=4")
    assert fault["allowed"] == ["default", "max_samples=3"]


def test_one_that_another_process_works_on_is_passed_over(run: RunDir) -> None:
    other = put(run, "max_samples=3", None)
    with other.lock():
        done = evaluate(f"run={run.path}", "metrics=[rouge]")
    assert done.returncode == 0, done.stderr
    evaluation = other.read()
    assert evaluation is not None
    assert evaluation.result is None


def test_a_run_without_an_evaluation_is_refused(run: RunDir) -> None:
    default_of(run).move_aside()
    run.update(evaluation=None)
    code, (fault,) = refusal(f"run={run.path}")
    assert (code, fault["code"], fault["key"]) == (2, "no-evaluation", "run")


# A pattern of runs, without a key: all are scored again.


@pytest.fixture
def runs(run: RunDir) -> list[RunDir]:
    """Two runs, one that was moved aside, and a folder that is none."""
    for name in ("lora_50k", "lora_20k.old-1"):
        shutil.copytree(run.path, run.path.with_name(name))
    run.path.with_name("lora_none").mkdir()
    return [run, RunDir(run.path.with_name("lora_50k"))]


def test_a_pattern_gives_one_line_of_json_for_each_run(runs: list[RunDir], tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    done = evaluate("run=lora_*", "format=json", "metrics=[rouge]", f"output={out}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["run"], line["evaluation"], line["n"]) for line in lines] == [
        ("lora_20k", "default", 3), ("lora_50k", "default", 3),
    ]  # fmt: skip
    assert out.read_text(encoding="utf-8") == done.stdout
    assert all(run.results_path.is_file() for run in runs)
    assert RunDir(tmp_path / "lora_20k.old-1").results_path.exists() is False


def test_a_pattern_gives_one_table_for_each_run(runs: list[RunDir], tmp_path: Path) -> None:
    done = evaluate("run=lora_?0k", "metrics=[rouge]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.startswith("lora_")]
    assert headings == ["lora_20k  [default]", "lora_50k  [default]"]
    assert len([line for line in done.stdout.splitlines() if line.startswith("rougeL ")]) == 2


def test_a_folder_that_looks_like_a_pattern_is_a_folder(run: RunDir, tmp_path: Path) -> None:
    run.path.rename(tmp_path / "lora[1]")
    done = evaluate("run=lora[1]", "format=json", "metrics=[rouge]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"n", "scores"}
