import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import DataManifest, EvaluationRecord, Record, Score, SetManifest
from medqa_finetune.record.stamps import damages, stamp_of
from tests.evaluation.golden import GOLDEN, golden_rows, needs_golden

ROOT = Path(__file__).parents[1]
ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "头痛怎么办？", "reference": "多休息，多喝水。", "prediction": "多休息，多喝水。"},
    {"id": "b", "question": "发热怎么办？", "references": ["口服退热药。", "就医。"], "prediction": "就医。"},
    {"id": "c", "question": "咳嗽怎么办？", "reference": "多喝水。", "prediction": ""},
]


def evaluate(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medqa_finetune.evaluate", *arguments],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


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
            config={"evaluate": {"metrics": ["rouge", "bleu"], "max_samples": None}},
            data_manifest=manifest, evaluation=stale,
        )
    )  # fmt: skip
    run.append_predictions(ROWS)
    return run


def changed(run: RunDir, **changes: Any) -> None:
    record = run.read()
    assert record is not None
    run.write(dataclasses.replace(record, **changes))


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
    ("arguments", "message"),
    [
        ([], "exactly one of run=DIR and predictions=FILE"),
        (["run=x", "predictions=y"], "exactly one of"),
        (["predictions=none.jsonl"], "none.jsonl: no such file"),
        (["predictions=x", "format=xml"], "format=xml: allowed: text, json"),
        (["predictions=x", "frmat=json"], "did you mean format"),
        (["predictions=x", "items=maybe"], "true or false"),
        (["predictions=x", "output=x"], "would overwrite"),
        (["predictions=x", "output=."], "the name of a file"),
        (["run=nowhere"], "no record.json in there"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = evaluate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_only_scoring_finds_is_told_with_the_file(predictions: Path) -> None:
    row = ROWS[0] | {"id": "d", "reference_nll": 1.0, "reference_tokens": 2}
    with predictions.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    done = evaluate(f"predictions={predictions}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {predictions}: reference_nll: 1 of 4 answers have it")


def test_unknown_metric_and_unwritable_output(predictions: Path, tmp_path: Path) -> None:
    done = evaluate(f"predictions={predictions}", "metrics=[rouge,meteor]")
    assert (done.returncode, "'meteor' is unknown; allowed: bleu" in done.stderr) == (2, True)
    done = evaluate(f"predictions={predictions}", f"output={predictions}/x.json")
    assert (done.returncode, "cannot be written" in done.stderr) == (2, True)


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
    assert json.loads(run.results_path.read_text(encoding="utf-8")) == dataclasses.asdict(record.evaluation)
    assert [item["id"] for item in result["items"]] == ["a", "b", "c"]


def test_scoring_once_more_touches_nothing(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    assert evaluate(f"run={run.path}").returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_lost_results_are_made_again(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    content = run.results_path.read_bytes()
    run.results_path.write_bytes(content[:20])
    assert evaluate("run=.", cwd=run.path).returncode == 0
    assert run.results_path.read_bytes() == content


def test_what_every_answer_scored_is_kept_and_made_again(run: RunDir) -> None:
    evaluate(f"run={run.path}")
    scores = run.read_item_scores()
    assert scores is not None
    assert scores.ids.tolist() == ["a", "b", "c"]
    assert scores.values["rougeL"].mean() == pytest.approx(200 / 3)
    content = run.item_scores_path.read_bytes()
    run.item_scores_path.write_bytes(content[:50])
    evaluate(f"run={run.path}")
    assert run.item_scores_path.read_bytes() == content
    record = run.read()
    assert record is not None
    assert damages(run.path, {run.item_scores_path.name: record.files[run.item_scores_path.name]}) == []


def test_a_run_without_scores_gets_them_once_all_is_answered(run: RunDir) -> None:
    changed(run, evaluation=None, status="trained")
    assert evaluate(f"run={run.path}").returncode == 0
    record = run.read()
    assert record is not None
    assert record.evaluation is not None
    assert (record.status, record.evaluation.n, record.evaluation.seconds) == ("trained", 3, None)


@pytest.mark.parametrize("evaluated", [True, False])
def test_missing_predictions_are_refused(run: RunDir, evaluated: bool) -> None:
    if not evaluated:
        changed(run, evaluation=None)
    # The last line is torn, as a crash leaves it.
    run.predictions_path.write_bytes(run.predictions_path.read_bytes()[:-5])
    before = run.record_path.read_bytes()
    done = evaluate(f"run={run.path}")
    assert done.returncode == 2
    assert "2 predictions, and the run has 3 test questions" in done.stderr
    run.predictions_path.unlink()
    assert "0 predictions" in evaluate(f"run={run.path}").stderr
    assert run.record_path.read_bytes() == before
    assert not run.results_path.exists()


def test_answers_of_a_finished_run_that_are_gone_are_not_to_be_scored_as_a_file(run: RunDir) -> None:
    run.update(files={"predictions.jsonl": stamp_of(run.predictions_path)})
    run.predictions_path.unlink()
    done = evaluate(f"run={run.path}")
    assert done.returncode == 2
    assert "predictions.jsonl: the answers are gone. Put the file back, or give" in done.stderr
    assert "predictions=FILE" not in done.stderr


def test_a_run_at_work_is_left_alone(run: RunDir) -> None:
    with run.lock():
        done = evaluate(f"run={run.path}")
    assert done.returncode == 1
    assert "another process" in done.stderr


def test_a_torn_record_is_refused(run: RunDir) -> None:
    run.record_path.write_bytes(run.record_path.read_bytes()[:100])
    done = evaluate(f"run={run.path}")
    assert (done.returncode, "not a whole JSON file" in done.stderr) == (2, True)
