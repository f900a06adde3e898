"""The matrix by the real command line: experiments that end well, one that fails, and what a second start does."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medqa_finetune.child_process import faults_file, read_faults
from medqa_finetune.errors import Fault
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import RunDir, find_runs
from tests.commands import ROOT, TINY, UNTRAINED, files_below, python, train
from tests.evaluations import record_of

# Two cells of which the second has a learning rate that no optimizer can take.
CELLS = ("-m", "method=lora", "data=20k", "train.learning_rate=0.001,1e38", "hydra.launcher.retries=0")
RUN = {"good": "learning_rate=0.001", "bad": "learning_rate=1e"}


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A matrix that was run, where, how the command ended, and the faults that it left."""

    outputs: Path
    command: tuple[str, ...]
    done: "subprocess.CompletedProcess[str]"
    faults: list[Fault]

    def run(self, kind: str) -> RunDir:
        (found,) = (run for run in find_runs(self.outputs) if RUN[kind] in run.path.name)
        return found


@pytest.fixture(scope="module")
def matrix(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    # A folder as people call theirs: each cell gets it through another command line.
    outputs = tmp_path_factory.mktemp("matrix") / "结果 一,二"
    command = (*TINY, f"model.path={micro_model}", f"outputs='{outputs}'", *CELLS)
    with faults_file() as left:
        done = python("-m", "medqa_finetune.train", *command, cwd=outputs.parent, MEDQA_FAULTS_FILE=str(left))
        return Matrix(outputs, command, done, read_faults(left))


@pytest.mark.slow
def test_cell_that_fails_does_not_stop_other(matrix: Matrix) -> None:
    assert record_of(matrix.run("good")).status == "done"
    assert record_of(matrix.run("bad")).status == "failed"


@pytest.mark.slow
def test_command_fails_and_lists_what_failed_and_why(matrix: Matrix) -> None:
    assert matrix.done.returncode == 1
    whole, missing = matrix.faults
    assert [whole.code, missing.code] == ["runs-not-done", "run-failed"]
    assert matrix.run("bad").path.name in str(missing.file)
    assert str(matrix.run("bad").log_path) in missing.problem
    failure = record_of(matrix.run("bad")).failure
    assert failure is not None
    assert failure.message in missing.problem
    summary = matrix.done.stderr.partition("error: ")[2]
    assert matrix.run("bad").path.name in summary
    assert matrix.run("good").path.name not in summary
    assert "Traceback" not in matrix.done.stderr


@pytest.mark.slow
def test_console_of_log_file_has_whole_lines_alone(matrix: Matrix) -> None:
    assert not {"\r", "\x1b"} & set(matrix.done.stderr)
    lines = matrix.done.stderr.splitlines()
    first = [line for line in lines if line.startswith("[1/2] LoRA n20 lr 1e-3  ")]
    assert "preparing" in first[0]
    assert "done  ROUGE-L" in first[-1]
    assert lines.index(first[-1]) < next(number for number, line in enumerate(lines) if line.startswith("[2/2]"))
    assert matrix.done.stdout == ""


@pytest.mark.slow
def test_cell_was_started_by_command_of_its_own(matrix: Matrix) -> None:
    environment = record_of(matrix.run("good")).environment
    assert environment is not None
    assert environment.command[:3] == ["python", "-m", "medqa_finetune.train"]
    assert [each for each in environment.command if each == "-m" or "hydra" in each] == ["-m"]
    assert "train.learning_rate=0.001" in environment.command


@pytest.mark.slow
def test_second_start_retries_only_the_failed_cell(matrix: Matrix) -> None:
    before, failed = files_below(matrix.run("good").path), record_of(matrix.run("bad"))
    again = train(*matrix.command, cwd=matrix.outputs.parent)
    assert again.returncode == 1
    assert "done before, untouched" in again.stderr.splitlines()[0]
    assert files_below(matrix.run("good").path) == before
    assert record_of(matrix.run("bad")).process != failed.process


@pytest.mark.slow
def test_finished_matrix_ends_at_once(matrix: Matrix) -> None:
    command = [each.replace(",1e38", "") for each in matrix.command]
    before, started = files_below(matrix.run("good").path), time.monotonic()
    assert train(*command, cwd=matrix.outputs.parent).returncode == 0
    assert time.monotonic() - started < 15
    assert files_below(matrix.run("good").path) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_same_command_resumes_after_the_launcher_ended(
    number: signal.Signals, micro_model: Path, tmp_path: Path
) -> None:
    command = (*TINY, f"model.path={micro_model}", "-m", "method=lora", "data=20k", "train.max_steps=200",
               "train.epochs=100", "train.checkpoint_steps=5", "train.logging_steps=1")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "medqa_finetune.train", *command], cwd=tmp_path, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    ) as launcher:  # fmt: skip
        wait_until(lambda: any(len(run.read_metrics()) > 8 for run in find_runs(tmp_path)))
        launcher.send_signal(number)
        launcher.communicate(timeout=60)
    assert launcher.returncode == (143 if number == signal.SIGTERM else -9)
    (run,) = find_runs(tmp_path)
    # A cell whose launcher was killed notices by itself.
    wait_until(lambda: record_of(run).status == "interrupted")
    assert train(*command, cwd=tmp_path).returncode == 0
    trained = record_of(run).train
    assert trained is not None
    assert len(trained.resumed_from) == 1
    assert trained.resumed_from[0] > 0


def wait_until(condition: Callable[[], bool], seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.1)


@pytest.mark.slow
def test_untuned_base_is_run_once_for_all_sizes(micro_model: Path, tmp_path: Path) -> None:
    done = train(*UNTRAINED, f"model.path={micro_model}", "-m", "method=none", "data=20k,50k", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "untuned base: " in done.stderr
    assert "[1/1]" in done.stderr
    assert [record_of(run).status for run in find_runs(tmp_path / "outputs")] == ["done"]


@pytest.mark.slow
def test_method_of_users_own_reaches_cells(micro_model: Path, tmp_path: Path) -> None:
    (tmp_path / "my conf" / "method").mkdir(parents=True)
    text = "defaults: [lora, _self_]\nname: small\nrank: 2\nalpha: 4\n"
    (tmp_path / "my conf" / "method" / "small.yaml").write_text(text, encoding="utf-8")
    done = train(
        "--config-dir", "my conf", "-m", *TINY, f"model.path={micro_model}", "method=small", "data=20k", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    assert run.path.name.startswith("small_n20__")
    assert "method." not in run.path.name
    assert record_of(run).config["method"]["rank"] == 2


@pytest.mark.slow
def test_hydras_own_launcher_runs_the_same_matrix(micro_model: Path, tmp_path: Path) -> None:
    done = train(*TINY, f"model.path={micro_model}", "-m", "method=none,lora", "data=20k", "hydra/launcher=basic",
                 cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [record_of(run).status for run in find_runs(tmp_path / "outputs")] == ["done", "done"]
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.slow
def test_two_evaluations_share_one_training(micro_model: Path, tmp_path: Path) -> None:
    command = (*TINY, f"model.path={micro_model}", "-m", "method=lora", "data=20k", "evaluate.max_samples=2,3",
               "hydra.launcher.max_parallel=2")  # fmt: skip
    done = train(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    record = record_of(run)
    assert record.status == "done"
    found = {folder.path.name: folder.read() for folder in evaluation_dirs(run, record)}
    assert {name: each.status for name, each in found.items() if each} == {
        "max_new_tokens=8__max_samples=2": "done", "max_new_tokens=8__max_samples=3": "done",
    }  # fmt: skip
    assert {name: each.result.n for name, each in found.items() if each and each.result} == {
        "max_new_tokens=8__max_samples=2": 2, "max_new_tokens=8__max_samples=3": 3,
    }  # fmt: skip
    steps = [row["step"] for row in run.read_metrics() if "loss" in row]
    assert len(steps) == len(set(steps))
    before = files_below(tmp_path / "outputs")
    assert train(*command, cwd=tmp_path).returncode == 0
    assert files_below(tmp_path / "outputs") == before


@pytest.mark.parametrize(
    ("setting", "code", "key"),
    [
        ("hydra.launcher.max_parallel=0", "out-of-range", "hydra.launcher.max_parallel"),
        ("hydra.launcher.retries=many", "wrong-type", "hydra.launcher.retries"),
        ("hydra.launcher.patience=1", "unknown-key", "hydra.launcher.patience"),
        ("hydra.launcher.gpus_per_cell=9", "out-of-range", "hydra.launcher.gpus_per_cell"),
        ("hydra/launcher=nonsense", "not-allowed", "hydra/launcher"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(
    setting: str, code: str, key: str, micro_model: Path, tmp_path: Path
) -> None:
    typed = ("-m", *TINY, f"model.path={micro_model}", "method=lora", "data=20k", setting)
    with faults_file() as left:
        done = python("-m", "medqa_finetune.train", *typed, cwd=tmp_path, CUDA_VISIBLE_DEVICES="0",
                      MEDQA_FAULTS_FILE=str(left))  # fmt: skip
        faults = read_faults(left)
    assert done.returncode == 2, done.stderr
    assert [(fault.code, fault.key) for fault in faults] == [(code, key)]
    assert len(done.stderr.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []
