"""One whole experiment on what ships and a random model, by the real command line, on any machine in seconds."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Evaluation, Record
from tests.commands import TINY, files_below, start, train

pytestmark = pytest.mark.slow
NAME = "max_new_tokens=8"  # what of TINY is not the demo's default


@pytest.fixture(scope="module")
def command(micro_model: Path) -> list[str]:
    return [*TINY, f"model.path={micro_model}", "method=lora", "data=20k"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiment")


@pytest.fixture(scope="module")
def run(command: list[str], place: Path) -> RunDir:
    done = train(*command, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (found,) = find_runs(place / "outputs")
    return found


@pytest.fixture(scope="module")
def record(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


@pytest.fixture(scope="module")
def folder(run: RunDir, record: Record) -> EvaluationDir:
    (found,) = evaluation_dirs(run, record)
    return found


@pytest.fixture(scope="module")
def evaluated(folder: EvaluationDir) -> Evaluation:
    found = folder.read()
    assert found is not None
    return found


def test_a_finished_run_says_so(record: Record, run: RunDir) -> None:
    assert (record.status, record.failure) == ("done", None)
    assert record.started is not None
    assert record.finished is not None
    assert record.started <= record.finished
    assert record.name == run.path.name


def test_its_evaluation_says_so_too(record: Record, evaluated: Evaluation, folder: EvaluationDir, run: RunDir) -> None:
    assert (evaluated.status, evaluated.failure, evaluated.reused) == ("done", None, None)
    assert evaluated.name == record.evaluation_name == NAME
    assert folder.path == run.evaluations_path / NAME
    assert record.evaluation_defaults is not None
    assert (record.evaluation_defaults["max_new_tokens"], evaluated.settings["max_new_tokens"]) == (128, 8)
    assert record.started is not None
    assert evaluated.started is not None
    assert record.started <= evaluated.started
    assert evaluated.environment == record.environment
    assert evaluated.result == record.evaluation


def test_the_folder_is_named_for_what_differs(run: RunDir, place: Path) -> None:
    assert run.path.parent == place / "outputs" / "demo"
    assert run.path.name.startswith("lora_n20__model=micro-")
    assert "train.max_steps=3" in run.path.name
    assert "max_new_tokens" not in run.path.name  # it changes no weight


def test_the_folder_holds_what_the_design_lists(run: RunDir) -> None:
    names = {path.name for path in run.path.iterdir()}
    assert {
        "record.json", "config.yaml", "adapter", "evaluations", "eval_results.json", "training_curves.png", "log.txt",
        "metrics.jsonl",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith(".")]
    assert sorted(path.name for path in (run.path / "evaluations" / NAME).iterdir()) == [
        "answering.jsonl", "eval_results.json", "evaluation.json", "item_scores.npz", "predictions.jsonl",
    ]  # fmt: skip


def test_the_record_says_what_was_run(record: Record) -> None:
    assert (record.method, record.data, record.model, record.seed) == ("lora", "n20", "micro", 0)
    assert record.schema_version == 2
    assert len(record.identity) == 16


def test_the_record_says_on_which_pairs(record: Record) -> None:
    manifest = record.data_manifest
    assert manifest is not None
    assert (manifest.train.n, manifest.validation.n, manifest.test.n) == (20, 4, 4)
    hashes = {manifest.corpus_sha256, manifest.train.sha256, manifest.validation.sha256, manifest.test.sha256}
    assert {len(each) for each in hashes} == {64}
    assert len(hashes) == 4


def test_the_record_counts_parameters(record: Record) -> None:
    assert record.parameters is not None
    assert 0 < record.parameters.trainable < record.parameters.total


def test_the_record_says_what_training_did_and_cost(record: Record) -> None:
    trained = record.train
    assert trained is not None
    # 20 pairs in batches of 8: 8, 8, 4.
    assert (trained.steps, trained.samples) == (3, 20)
    assert 0 < trained.answer_tokens < trained.tokens
    assert trained.samples_per_second is not None
    assert trained.samples_per_second > 0
    assert trained.best_validation_loss is not None
    assert 0 < trained.best_validation_loss < 10
    assert trained.peak_rss_bytes is not None
    assert trained.peak_rss_bytes > 10**8
    assert trained.optimizer == "adamw_torch"


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_what_was_not_measured_is_null_and_not_zero(run: RunDir) -> None:
    content = json.loads(run.record_path.read_bytes())
    assert content["train"]["peak_vram_bytes"] is None
    assert content["train"]["peak_vram_reserved_bytes"] is None
    assert content["train"]["datasheet_flops_per_second"] is None
    assert content["train"]["model_flops_utilization"] > 0
    assert content["fitted"] is None
    assert content["evaluation"]["peak_vram_bytes"] is None


def test_the_record_says_how_the_answers_scored(record: Record, folder: EvaluationDir) -> None:
    evaluation = record.evaluation
    assert evaluation is not None
    assert evaluation.n == len(folder.read_predictions()) == 4
    assert {"rouge1", "rouge2", "rougeL", "bleu", "perplexity"} <= evaluation.scores.keys()
    assert all(score.signature for score in evaluation.scores.values())
    assert evaluation.seconds is not None
    assert evaluation.seconds > 0
    assert evaluation.empty_rate is not None


def test_eval_results_repeat_the_record(run: RunDir, folder: EvaluationDir) -> None:
    content = json.loads(run.record_path.read_bytes())
    assert json.loads(run.results_path.read_bytes()) == content["evaluation"]
    assert run.results_path.read_bytes() == folder.results_path.read_bytes()


def test_what_every_answer_scored_is_kept(record: Record, evaluated: Evaluation, folder: EvaluationDir) -> None:
    scores = folder.read_item_scores()
    assert scores is not None
    assert record.evaluation is not None
    assert scores.ids.tolist() == [row["id"] for row in folder.read_predictions()]
    assert scores.values["rougeL"].mean() == pytest.approx(record.evaluation.scores["rougeL"].value)
    assert sorted(evaluated.files) == ["answering.jsonl", "eval_results.json", "item_scores.npz", "predictions.jsonl"]
    assert not [name for name in record.files if name.startswith("evaluation") or name in evaluated.files]


def test_the_record_says_where_it_ran(record: Record) -> None:
    environment = record.environment
    assert environment is not None
    assert {"python", "torch", "transformers", "peft"} <= environment.versions.keys()
    assert environment.precision in ("fp32", "bf16", "fp16")
    assert "method=lora" in environment.command


def test_config_yaml_holds_every_setting_resolved(record: Record, run: RunDir) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(run.config_path), resolve=False)
    assert settings == record.config
    assert "${" not in run.config_path.read_text(encoding="utf-8")


def test_predictions_hold_question_reference_and_answer(folder: EvaluationDir) -> None:
    for row in folder.read_predictions():
        assert {"id", "question", "prediction"} <= row.keys()
        assert "reference" in row or "references" in row


def test_metrics_hold_training_and_validation_loss_by_step(run: RunDir) -> None:
    rows = run.read_metrics()
    assert rows[-1]["step"] == 3
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert any("loss" in row for row in rows)
    assert any("eval_loss" in row for row in rows)


def test_the_adapter_loads_with_plain_peft(run: RunDir, micro_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(micro_model)
    model = PeftModel.from_pretrained(base, str(run.adapter_path))
    assert model.peft_config["default"].to_dict()["r"] == 16
    assert AutoTokenizer.from_pretrained(run.adapter_path).chat_template
    assert any(parameter.abs().sum() > 0 for name, parameter in model.named_parameters() if "lora_B" in name)


def test_a_second_start_changes_no_file(run: RunDir, command: list[str], place: Path) -> None:
    before = files_below(place)
    done = train(*command, cwd=place)
    assert done.returncode == 0
    assert "done before" in done.stderr
    assert files_below(place) == before


def test_a_folder_of_other_settings_is_refused_with_the_key(run: RunDir, command: list[str], place: Path) -> None:
    other = run.path.with_name(run.path.name.replace("max_steps=3", "max_steps=2"))
    shutil.copytree(run.path, other)
    before = files_below(place)
    done = train(*command, "train.max_steps=2", cwd=place)
    assert done.returncode == 2
    assert "train.max_steps: 3 -> 2" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert files_below(place) == before
    shutil.rmtree(other)


def test_the_untuned_base_trains_nothing_and_answers_the_same_questions(
    folder: EvaluationDir, record: Record, command: list[str], place: Path
) -> None:
    untrained = [each for each in command if not each.startswith("train.")]
    done = train(*untrained, "method=none", "data=50k", cwd=place)
    assert done.returncode == 0, done.stderr
    (path,) = (place / "outputs" / "demo").glob("none*")
    baseline = RunDir(path).read()
    assert baseline is not None
    assert (baseline.status, baseline.data, baseline.train) == ("done", "none", None)
    assert baseline.parameters is not None
    assert baseline.parameters.trainable == 0
    assert baseline.data_manifest is not None
    assert record.data_manifest is not None
    assert baseline.data_manifest.test == record.data_manifest.test
    assert baseline.data_manifest.train.n == 0
    assert not (path / "adapter").exists()
    (answered,) = evaluation_dirs(RunDir(path), baseline)
    assert [row["id"] for row in answered.read_predictions()] == [row["id"] for row in folder.read_predictions()]
    assert answered.path.name == NAME


def test_overwriting_keeps_the_old_run_whole(run: RunDir, record: Record, command: list[str], place: Path) -> None:
    before = files_below(run.path)
    done = train(*command, "overwrite=true", cwd=place)
    assert done.returncode == 0, done.stderr
    aside = run.path.with_name(f"{run.path.name}.old-1")
    assert files_below(aside) == before
    again = run.read()
    assert again is not None
    assert (again.status, again.identity) == ("done", record.identity)
    assert None not in (again.train, again.environment, again.data_manifest, again.parameters, again.started)
    weights = "adapter/adapter_model.safetensors"
    if not torch.cuda.is_available():
        assert sha256_of(run.path / weights) == sha256_of(aside / weights)


def test_a_failure_is_recorded_and_tried_again(command: list[str], tmp_path: Path) -> None:
    broken = [*command, "train.learning_rate=1e30", "train.max_gradient_norm=1e30"]
    for _ in range(2):
        done = train(*broken, cwd=tmp_path)
        assert done.returncode == 1
        assert "loss became nan" in done.stderr
        assert "Traceback" not in done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    record = run.read()
    assert record is not None
    assert record.status == "failed"
    assert record.failure is not None
    assert (record.failure.kind, record.failure.final) == ("RunError", True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("moment", ["checkpoints/step-1", f"evaluations/{NAME}/answering.jsonl"])
def test_a_stopped_run_resumes_to_the_same_end(
    run: RunDir, command: list[str], tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    folder = tmp_path / run.path.relative_to(run.path.parents[2])
    often = [*command, "train.checkpoint_steps=1"]
    with start(*often, cwd=tmp_path) as process:
        while process.poll() is None and not (folder / moment).exists():
            time.sleep(0.005)
        process.send_signal(number)
    if process.returncode:  # it may have been done before the signal came
        assert process.returncode == (143 if number == signal.SIGTERM else -9)
        stopped = RunDir(folder).read()
        assert stopped is not None
        assert stopped.status == ("interrupted" if number == signal.SIGTERM else stopped.status)
    done = train(*often, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = RunDir(folder)
    for name in ("adapter/adapter_model.safetensors", f"evaluations/{NAME}/predictions.jsonl"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()
    assert [row["step"] for row in again.read_metrics()] == [row["step"] for row in run.read_metrics()]
    assert not [path for path in again.path.rglob(".*") if path.suffix != ".lock"]


def test_a_second_start_of_the_same_run_names_the_first(command: list[str], tmp_path: Path) -> None:
    with start(*command, cwd=tmp_path) as first:
        while first.poll() is None and not list(tmp_path.rglob("log.txt")):
            time.sleep(0.005)
        second = train(*command, cwd=tmp_path)
    assert second.returncode == 1
    assert f"process {first.pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert first.returncode == 0
