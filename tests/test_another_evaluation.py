"""One training, many evaluations, by the real commands: what is shared, what is trained, and what is left alone."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Evaluation, Reused
from tests.chatting.runs import another_model
from tests.commands import TINY, files_below, python, start, train
from tests.evaluations import record_of

pytestmark = pytest.mark.slow
EIGHT = "data.test_size=8000"  # scaled, as all of TINY


@pytest.fixture(scope="module")
def command(micro_model: Path) -> list[str]:
    return [*TINY, EIGHT, f"model.path={micro_model}", "method=lora", "data=20k"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, command: list[str]) -> Path:
    """A folder in which a run was trained and answered two questions."""
    folder = tmp_path_factory.mktemp("another")
    done = train(*command, "evaluate.max_samples=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> RunDir:
    (found,) = find_runs(place / "outputs")
    return found


@pytest.fixture(scope="module")
def trained(run: RunDir) -> tuple[str, dict[str, tuple[int, bytes]]]:
    return training_of(run)


def training_of(run: RunDir) -> tuple[str, dict[str, tuple[int, bytes]]]:
    """Return what no evaluation may change: what the record says of the training, as text, and the weights."""
    return json.dumps(json.loads(run.record_path.read_bytes())["train"]), files_below(run.adapter_path)


def evaluation_of(run: RunDir, name: str) -> Evaluation:
    evaluation = EvaluationDir(run.evaluations_path / name).read()
    assert evaluation is not None
    return evaluation


def rows_of(run: RunDir, name: str) -> list[dict[str, Any]]:
    return EvaluationDir(run.evaluations_path / name).read_predictions()


def evaluate(*arguments: str, cwd: Path) -> Any:
    """Return what the command prints as JSON; one object per line where there are several."""
    done = python("-m", "medqa_finetune.evaluate", *arguments, "format=json", "threads=1", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return found if len(found) > 1 else found[0]


def refusal(*arguments: str, cwd: Path) -> tuple[int, list[dict[str, Any]]]:
    done = python("-m", "medqa_finetune.evaluate", *arguments, "format=json", "threads=1", cwd=cwd)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])["faults"]


FEW, ALL = "max_new_tokens=8__max_samples=2", "max_new_tokens=8"


def test_more_questions_are_answered_without_training_again(
    run: RunDir, trained: object, command: list[str], place: Path
) -> None:
    assert record_of(run).evaluation_name == FEW
    done = train(*command, cwd=place)
    assert done.returncode == 0, done.stderr
    assert [each.path for each in find_runs(place / "outputs")] == [run.path]
    assert training_of(run) == trained
    assert rows_of(run, ALL)[:2] == rows_of(run, FEW)
    assert len(rows_of(run, ALL)) == 8
    evaluation = evaluation_of(run, ALL)
    assert evaluation.reused == Reused(FEW, 2)
    # What it cost is what it answered itself.
    assert evaluation.result is not None
    assert evaluation.result.seconds is not None
    assert evaluation.result.samples_per_second == pytest.approx(6 / evaluation.result.seconds)
    # The first evaluation stays the run's own, for neither is the default one.
    assert record_of(run).evaluation_name == FEW
    before = files_below(run.path)
    for limit in ("null", "8", "9"):  # as many as there are, or more
        done = train(*command, f"evaluate.max_samples={limit}", cwd=place)
        assert (done.returncode, "done before" in done.stderr) == (0, True), done.stderr
    assert files_below(run.path) == before


def test_a_metric_is_added_without_a_model(run: RunDir, trained: object, command: list[str], place: Path) -> None:
    train(*command, cwd=place)
    code = "import sys; from medqa_finetune.train import train; train(sys.argv[1:]); print('torch' in sys.modules)"
    for metrics in ("[rouge,length_ratio]", "[length_ratio,rouge]"):
        done = python("-c", code, *command, f"evaluate.metrics={metrics}", cwd=place)
        assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    name = "max_new_tokens=8__metrics=length_ratio+rouge"
    evaluation = evaluation_of(run, name)
    assert evaluation.result is not None
    assert evaluation.result.scores.keys() == {"rouge1", "rouge2", "rougeL", "length_ratio"}
    assert evaluation.reused is not None
    assert (evaluation.reused.answers, evaluation.result.seconds) == (8, None)
    assert rows_of(run, name) == rows_of(run, ALL)
    assert len(list(run.evaluations_path.glob("max*length_ratio*"))) == 1
    assert training_of(run) == trained


def test_the_default_evaluation_becomes_the_runs_own_and_stays_it(
    run: RunDir, trained: object, command: list[str], place: Path
) -> None:
    content = evaluate(f"run={run.path}", "evaluate.max_new_tokens=128", cwd=place)
    assert record_of(run).evaluation_name == "default"
    own = json.loads(run.results_path.read_bytes())
    assert (own["n"], own["scores"]) == (8, content["scores"])
    assert json.loads(run.record_path.read_bytes())["evaluation"] == own
    assert evaluation_of(run, "default").reused is None  # longer answers
    before = {name: file for name, file in files_below(run.path).items() if not name.startswith("evaluations/")}
    content = evaluate(f"run={run.path}", "evaluate.max_new_tokens=4", "evaluate.max_samples=3", cwd=place)
    assert content["n"] == 3
    after = {name: file for name, file in files_below(run.path).items() if not name.startswith("evaluations/")}
    assert {name for name in after if before.get(name) != after[name]} == {"log.txt"}
    assert training_of(run) == trained
    # The command that trains sees the same evaluations as the one that evaluates.
    done = train(*command, "evaluate.max_new_tokens=4", "evaluate.max_samples=3", cwd=place)
    assert (done.returncode, "done before" in done.stderr) == (0, True), done.stderr


def test_a_text_is_measured_with_the_trained_weights(run: RunDir, trained: object, place: Path) -> None:
    (place / "book.txt").write_text("感冒要多休息，多喝水。\n" * 40, encoding="utf-8")
    text = ["evaluate.text=text", "evaluate.text_path=book.txt"]
    evaluate(f"run={run.path}", *text, "evaluate.max_new_tokens=8", cwd=place)
    (folder,) = run.evaluations_path.glob("max_new_tokens=8__text=book-*")
    first = evaluation_of(run, folder.name)
    ((name, score),) = first.exams.items()
    assert (name.startswith("book-"), score.value > 1) == (True, True)
    # Once measured, it is taken along: with fewer new tokens, say.
    evaluate(f"run={run.path}", *text, "evaluate.max_new_tokens=4", cwd=place)
    (folder,) = run.evaluations_path.glob("max_new_tokens=4__text=book-*")
    assert evaluation_of(run, folder.name).exams == first.exams
    assert training_of(run) == trained


@pytest.mark.parametrize("method", ["none", "retrieval"])
def test_a_baseline_is_evaluated_again(command: list[str], place: Path, method: str) -> None:
    done = train(*command, f"method={method}", "evaluate.max_samples=2", "study=baselines", cwd=place)
    assert done.returncode == 0, done.stderr
    (path,) = (place / "outputs" / "baselines").glob(f"{method}*")
    before = RunDir(path).record_path.read_bytes()
    content = evaluate(f"run={path}", "evaluate.max_new_tokens=8", cwd=place)
    assert content["n"] == 8
    assert RunDir(path).record_path.read_bytes() == before
    assert rows_of(RunDir(path), ALL)[:2] == rows_of(RunDir(path), FEW)
    assert evaluation_of(RunDir(path), ALL).reused == Reused(FEW, 2)
    shutil.rmtree(path)


def test_a_pattern_evaluates_all_runs_that_are_trained(run: RunDir, place: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(run.path, tmp_path / "outputs" / name, ignore=shutil.ignore_patterns("evaluations"))
        RunDir(tmp_path / "outputs" / name).update(name=name, evaluation=None, evaluation_name=None, status="trained")
    shutil.copytree(tmp_path / "outputs" / "a", tmp_path / "outputs" / "a.old-1")
    begun = RunDir(tmp_path / "outputs" / "b")
    begun.update(status="interrupted", files={}, train=None)
    asked = ["run=outputs/*", "evaluate.max_samples=2", "evaluate.max_new_tokens=4", "max_parallel=2"]
    before = files_below(begun.path)
    done = python("-m", "medqa_finetune.evaluate", *asked, "format=json", "threads=1", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    *lines, said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["run"], line["n"]) for line in lines] == [("outputs/a", 2), ("outputs/c", 2)]
    assert {line["evaluation"] for line in lines} == {"max_new_tokens=4__max_samples=2"}
    assert [(fault["code"], fault["got"]) for fault in said["faults"]] == [("not-trained", "outputs/b")]
    assert files_below(begun.path) == before
    assert not (tmp_path / "outputs" / "a.old-1" / "evaluations").exists()
    # Without it, the same command finds everything done.
    shutil.rmtree(begun.path)
    before = files_below(tmp_path / "outputs" / "a" / "evaluations")
    assert evaluate(*asked, cwd=tmp_path) == lines
    assert files_below(tmp_path / "outputs" / "a" / "evaluations") == before


def test_a_run_that_is_still_training_is_not_evaluated(command: list[str], tmp_path: Path) -> None:
    longer = [*command, "train.max_steps=400", "train.epochs=400"]
    with start(*longer, cwd=tmp_path) as process:
        while process.poll() is None and not list(tmp_path.rglob("metrics.jsonl")):
            time.sleep(0.05)
        (run,) = find_runs(tmp_path / "outputs")
        code, (fault,) = refusal(f"run={run.path}", "evaluate.max_samples=1", cwd=tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (code, fault["code"]) in [(2, "not-trained"), (1, "busy")]
    assert list(run.evaluations_path.glob("*/predictions.jsonl")) == []


def copied(run: RunDir, folder: Path) -> RunDir:
    """Return a copy of the run in another folder, as it was trained."""
    target = RunDir(folder / run.path.relative_to(run.path.parents[2]))
    shutil.copytree(run.path, target.path)
    return target


def test_damaged_weights_are_refused_and_not_trained_again(run: RunDir, command: list[str], tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    shutil.rmtree(other.checkpoints_path, ignore_errors=True)
    weights = other.adapter_path / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    before = {name: file for name, file in files_below(other.path).items() if name != "log.txt"}
    code, (fault,) = refusal(f"run={other.path}", "evaluate.max_new_tokens=5", cwd=tmp_path)
    assert (code, fault["code"], fault["file"]) == (2, "changed-file", str(other.path))
    done = train(*command, "evaluate.max_new_tokens=5", cwd=tmp_path)
    assert done.returncode == 2
    after = {name: file for name, file in files_below(other.path).items() if name != "log.txt"}
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} <= {"evaluations"}
    # What is done is done all the same.
    done = train(*command, "evaluate.max_samples=2", cwd=tmp_path)
    assert (done.returncode, "done before" in done.stderr) == (0, True)


def test_the_model_may_lie_elsewhere_and_must_be_the_same(run: RunDir, micro_model: Path, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    moved = shutil.copytree(micro_model, tmp_path / "moved")
    asked = [f"run={other.path}", "evaluate.max_samples=1", "evaluate.max_new_tokens=4"]
    content = evaluate(*asked, f"model.path={moved}", cwd=tmp_path)
    assert content["n"] == 1
    code, (fault,) = refusal(*asked, f"model.path={another_model(micro_model, tmp_path / 'other')}", cwd=tmp_path)
    assert (code, fault["code"], fault["key"]) == (2, "another-training", "run")
    assert "model.fingerprint" in fault["problem"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_stopped_second_evaluation_resumes_to_the_same_end(
    run: RunDir, command: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    other = copied(run, tmp_path)
    before = other.record_path.read_bytes()
    long = [*command, "evaluate.max_new_tokens=100", "evaluate.batch_size=1"]
    folder = EvaluationDir(other.evaluations_path / "max_new_tokens=100")
    with start(*long, cwd=tmp_path) as process:
        while process.poll() is None and not folder.answering_path.exists():
            time.sleep(0.005)
        process.send_signal(number)
    assert other.record_path.read_bytes() == before
    if process.returncode:  # it may have been done before the signal came
        stopped = folder.read()
        assert stopped is not None
        assert stopped.status == ("interrupted" if number == signal.SIGTERM else "running")
    done = train(*long, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert other.record_path.read_bytes() == before
    whole = copied(run, tmp_path / "whole")
    done = train(*long, cwd=tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    undisturbed = EvaluationDir(whole.evaluations_path / "max_new_tokens=100")
    assert folder.predictions_path.read_bytes() == undisturbed.predictions_path.read_bytes()
    ours, theirs = folder.read(), undisturbed.read()
    assert ours is not None
    assert theirs is not None
    assert ours.result is not None
    assert theirs.result is not None
    assert ours.result.scores == theirs.result.scores
    assert ours.result.seconds is not None


def test_two_evaluations_of_a_run_work_at_once(run: RunDir, command: list[str], tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    before = other.record_path.read_bytes()
    long = [*command, "evaluate.max_new_tokens=110", "evaluate.batch_size=1"]
    folder = EvaluationDir(other.evaluations_path / "max_new_tokens=110")
    with start(*long, cwd=tmp_path) as first:
        while first.poll() is None and not folder.answering_path.exists():
            time.sleep(0.005)
        content = evaluate(f"run={other.path}", "evaluate.max_samples=1", "evaluate.max_new_tokens=4", cwd=tmp_path)
        again = train(*long, cwd=tmp_path)
        first.wait()
    assert content["n"] == 1
    assert first.returncode == 0
    # Refused while the first was at work, or found done behind it.
    assert (again.returncode == 1 and f"process {first.pid} on " in again.stderr) or "done before" in again.stderr
    assert other.record_path.read_bytes() == before
    assert {
        evaluation_of(other, name).status for name in ("max_new_tokens=110", "max_new_tokens=4__max_samples=1")
    } == {"done"}
