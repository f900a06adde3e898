"""Language modelling from end to end by the real command line: the same records, and the perplexity of plain code."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import DataError
from medqa_finetune.objectives import TASKS, task_of
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Record
from tests.commands import UNTRAINED, files_below, python, train
from tests.config.builders import VALID, changed
from tests.faulty import only_fault
from tests.guide import perplexity_of_the_guide

LENGTH = 32
PARTS = {
    "train": [f" 第{number}个病人感冒了，要多休息，多喝水。 \n" for number in range(120)],
    "valid": [f" 第{number}天，还是头痛。 \n" for number in range(20)],
    "test": [" = 发烧 = \n", " \n", *(f" 发烧怎么办？量体温，喝{number}杯水。 \n" for number in range(20))],
}
SETTINGS = (
    "model=local", f"train.max_length={LENGTH}", "train.epochs=2", "train.learning_rate=5e-3", "method.dropout=0",
    "train.batch_size=8", "train.validations=2", "tracker=none", "threads=1", "precision=fp32",
    "evaluate.batch_tokens=200",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model: no chat template, no token to pad with."""
    folder = shutil.copytree(micro_model, tmp_path_factory.mktemp("base") / "base")
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "wiki").mkdir()
    for name, lines in PARTS.items():
        (folder / "wiki" / f"wiki.{name}.raw").write_text("".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def command(model: Path) -> list[str]:
    return ["corpus=wikitext2", "corpus.path=wiki", f"model.path={model}", *SETTINGS]


@pytest.fixture(scope="module")
def runs(place: Path, command: list[str]) -> dict[str, Record]:
    done = train("-m", "method=none,lora", *command, cwd=place)
    assert done.returncode == 0, done.stderr
    records = [run.read() for run in find_runs(place / "outputs")]
    return {record.method: record for record in records if record is not None}


def test_every_task_has_its_stages() -> None:
    assert task_of(VALID) is TASKS["qa"]
    assert task_of(text_config()) is TASKS["text"]


def text_config(**changes: str) -> Config:
    return changed(VALID, corpus__task="text", corpus__source="file", corpus__path="none.txt", **changes)


def test_a_text_that_is_missing_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        TASKS["text"].prepare(text_config(), tmp_path, tmp_path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("file-missing", "corpus.path", "none.txt")


@pytest.mark.slow
def test_the_record_of_text_is_that_of_any_run(runs: dict[str, Record]) -> None:
    record = runs["lora"]
    assert (record.status, record.data) == ("done", "all")
    manifest, trained = record.data_manifest, record.train
    assert manifest is not None
    assert trained is not None
    assert manifest.train.n > 20
    assert trained.samples == 2 * manifest.train.n
    # The loss is on every token but the first of each block.
    assert trained.tokens == 2 * manifest.counts["train_tokens"]
    assert trained.answer_tokens == trained.tokens - trained.samples
    assert trained.best_validation_loss is not None


@pytest.mark.slow
def test_what_does_not_apply_to_text_is_null(runs: dict[str, Record]) -> None:
    for record in runs.values():
        evaluation = record.evaluation
        assert evaluation is not None
        assert record.data_manifest is not None
        assert evaluation.scores.keys() == {"perplexity"}
        assert f"length:{LENGTH}|stride:{LENGTH}" in evaluation.scores["perplexity"].signature
        assert evaluation.n == record.data_manifest.test.n
        assert (evaluation.empty_rate, evaluation.truncated_rate, evaluation.repetition_rate) == (None, None, None)
        assert evaluation.seconds is not None
        assert evaluation.seconds > 0


@pytest.mark.slow
def test_the_perplexity_is_that_of_plain_code_before_and_after_training(
    runs: dict[str, Record], place: Path, model: Path
) -> None:
    # As `datasets` reads it: a line, or nothing where it is blank; joined as in transformers' guide.
    content = "\n\n".join(line if line.strip() else "" for line in PARTS["test"])
    found = {name: perplexity(record) for name, record in runs.items()}
    assert found["none"] == pytest.approx(perplexity_of_the_guide(model, content, LENGTH), rel=1e-6)
    adapter = next((place / "outputs").glob("lora*/adapter"))
    assert found["lora"] == pytest.approx(perplexity_of_the_guide(model, content, LENGTH, adapter), rel=1e-6)
    assert found["lora"] < 0.9 * found["none"]


def perplexity(record: Record) -> float:
    assert record.evaluation is not None
    return record.evaluation.scores["perplexity"].value


@pytest.mark.slow
def test_a_second_start_changes_nothing(runs: dict[str, Record], place: Path, command: list[str]) -> None:
    before = files_below(place / "outputs")
    done = train("-m", "method=none,lora", *command, cwd=place)
    assert done.returncode == 0, done.stderr
    assert files_below(place / "outputs") == before


@pytest.mark.slow
def test_a_run_is_scored_again_from_its_lines(runs: dict[str, Record], place: Path) -> None:
    run = RunDir(next((place / "outputs").glob("lora*")))
    before = run.record_path.read_bytes()
    done = python("-m", "medqa_finetune.evaluate", f"run={run.path}", "format=json", "items=true", cwd=place)
    assert done.returncode == 0, done.stderr
    content, evaluation = json.loads(done.stdout), runs["lora"].evaluation
    assert evaluation is not None
    assert (content["n"], content["scores"]["perplexity"]["value"]) == (
        evaluation.n, evaluation.scores["perplexity"].value,
    )  # fmt: skip
    assert content["items"][0].keys() == {"id", "perplexity"}
    assert run.record_path.read_bytes() == before
    table = python("-m", "medqa_finetune.evaluate", f"run={run.path}", cwd=place)
    assert "perplexity|text:blocks" in table.stdout
    refused = python("-m", "medqa_finetune.evaluate", f"run={run.path}", "metrics=[rouge]", "format=json", cwd=place)
    (fault,) = json.loads(refused.stdout)["faults"]
    assert (refused.returncode, fault["code"], fault["key"], fault["allowed"]) == (
        2, "not-allowed", "metrics", ["perplexity"],
    )  # fmt: skip


@pytest.mark.slow
def test_text_is_measured_in_another_way_without_training_again(runs: dict[str, Record], place: Path) -> None:
    run = RunDir(next((place / "outputs").glob("lora*")))
    before = run.record_path.read_bytes()
    again = ["-m", "medqa_finetune.evaluate", f"run={run.path}", "format=json", "threads=1"]
    found = {}
    for key in ("max_samples=3", "stride=16", "max_samples=4"):
        done = python(*again, f"evaluate.{key}", cwd=place)
        assert done.returncode == 0, done.stderr
        found[key] = json.loads(done.stdout)
    assert run.record_path.read_bytes() == before
    assert [found[key]["n"] for key in ("max_samples=3", "max_samples=4")] == [3, 4]
    assert "stride:16" in found["stride=16"]["scores"]["perplexity"]["signature"]
    rows = {each.path.name: each.read_predictions() for each in evaluation_dirs(run, runs["lora"])}
    # Blocks that were measured are not measured again.
    assert rows["max_samples=4"] == rows["default"][:4]
    assert rows["max_samples=3"] == rows["default"][:3]
    for name in found:
        shutil.rmtree(run.evaluations_path / name)


@pytest.mark.slow
def test_a_summary_keeps_text_and_answers_in_columns_of_their_own(
    runs: dict[str, Record], place: Path, micro_model: Path
) -> None:
    alone = python("-m", "medqa_finetune.summarize", cwd=place)
    assert alone.returncode == 0, alone.stderr
    assert "text ppl" in alone.stdout
    answered = train(*UNTRAINED, "method=none", f"model.path={micro_model}", "outputs=outputs", "study=qa", cwd=place)
    assert answered.returncode == 0, answered.stderr
    done = python("-m", "medqa_finetune.summarize", cwd=place)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 120
    with (place / "outputs" / "summary" / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {(row["corpus"], row["method"]): row for row in csv.DictReader(file)}
    for record in runs.values():
        row = rows["wikitext2", record.method]
        assert record.evaluation is not None
        assert float(row["text_perplexity"]) == pytest.approx(record.evaluation.scores["perplexity"].value)
        assert [row[name] for name in ("perplexity", "rouge1", "rouge2", "rougeL", "bleu")] == [""] * 5
        assert row["signature"].startswith("text_perplexity=perplexity|text")
    row = rows["embedded", "none"]
    assert (row["text_perplexity"], float(row["perplexity"]) > 1) == ("", True)
    shutil.rmtree(place / "outputs" / "qa")


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["false", "true"])
def test_it_can_be_planned(place: Path, command: list[str], probe: str) -> None:
    done = python("-m", "medqa_finetune.plan", "-m", "method=none,lora", *command, f"plan.probe={probe}", "format=json",
                  cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) == 2
    assert all(cell["evaluation_seconds"] >= 0 and cell["seconds"] > 0 for cell in cells)
    assert [cell["train_seconds"] > 0 for cell in cells] == [False, True]


@pytest.mark.slow
def test_more_blocks_than_there_are_is_refused_before_anything_is_written(place: Path, command: list[str]) -> None:
    before = files_below(place / "outputs")
    done = train("method=lora", "data=20k", *command, cwd=place)
    assert done.returncode == 2
    assert "data.train_size=" in done.stderr
    assert "data=all" in done.stderr  # what helps
    assert {name for name in files_below(place / "outputs") if "/cache/" not in name} == {
        name for name in before if "/cache/" not in name
    }
