"""The matrix: same runs once, other runs apart, and real cells of which one fails."""

import dataclasses
import subprocess
from pathlib import Path

import pytest
from hydra.core.utils import JobStatus

from medqa_finetune.config.identity import Fingerprints
from medqa_finetune.errors import ConfigError
from medqa_finetune.matrix.cells import Cell
from medqa_finetune.matrix.launcher import _announce_all, _check_folders, _job_return, distinct
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Failure, Record
from tests.commands import TINY, files_below, train
from tests.config.builders import VALID, changed

FINGERPRINTS = Fingerprints("c" * 64, "m" * 64)


def cell(name: str, outputs: Path, **values: object) -> Cell:
    config = changed(VALID, run_name=name, outputs=str(outputs), **values)
    return Cell(config, FINGERPRINTS, (f"name={name}", *(f"{key}={value}" for key, value in values.items())))


def test_cells_that_are_the_same_run_are_run_once_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [cell("a", tmp_path), cell("b", tmp_path), cell("a", tmp_path, threads=2)]
    assert distinct(cells) == cells[:2]
    assert capsys.readouterr().err == "name=a threads=2 is the same run as a: run once\n"


def test_two_runs_for_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two different runs: name=a and name=a seed=1"):
        distinct([cell("a", tmp_path), cell("a", tmp_path, seed=1)])


def test_every_cell_has_a_record_before_the_first_one_starts(tmp_path: Path) -> None:
    _announce_all([cell("a", tmp_path), cell("b", tmp_path)])
    assert [(run.path.name, record_of(run).status) for run in find_runs(tmp_path)] == [
        ("a", "pending"), ("b", "pending"),
    ]  # fmt: skip


def test_one_folder_that_is_taken_leaves_all_others_unwritten(tmp_path: Path) -> None:
    started = [cell("b", tmp_path), cell("c", tmp_path)]
    _announce_all(started)
    for one in started:
        one.run.update(status="failed")
    before = files_below(tmp_path)
    with pytest.raises(ConfigError) as caught:
        _check_folders([cell("a", tmp_path), cell("b", tmp_path, seed=1), cell("c", tmp_path, seed=2)])
    assert ["seed: 0 -> 1" in line or "seed: 0 -> 2" in line for line in str(caught.value).splitlines()] == [True] * 2
    assert files_below(tmp_path) == before


def test_a_cell_that_was_announced_and_never_started_gives_way(tmp_path: Path) -> None:
    _announce_all([cell("a", tmp_path)])
    changed = cell("a", tmp_path, seed=1)
    _announce_all([changed])
    record = changed.run.read()
    assert record is not None
    assert record.seed == 1


def test_overwriting_leaves_the_old_record_to_the_cell_itself(tmp_path: Path) -> None:
    _announce_all([cell("a", tmp_path)])
    before = files_below(tmp_path)
    _announce_all([cell("a", tmp_path, seed=1, overwrite=True)])
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("status", ["pending", "running", "trained", "evaluated", "failed", "interrupted"])
def test_a_cell_that_is_not_done_has_failed(status: str, tmp_path: Path) -> None:
    _announce_all([cell("a", tmp_path)])
    record = cell("a", tmp_path).run.update(status=status, failure=Failure("RunError", "bad luck"))
    result = _job_return(cell("a", tmp_path), record)
    assert result.status == JobStatus.FAILED
    with pytest.raises(Exception, match=rf"{status}: bad luck \(log: .*a/log\.txt\)"):
        _ = result.return_value


def test_a_cell_without_a_record_has_failed(tmp_path: Path) -> None:
    assert _job_return(cell("a", tmp_path), None).status == JobStatus.FAILED


def record_of(run: RunDir) -> Record:
    record = run.read()
    assert record is not None
    return record


# Two cells of which the second names layers that the model does not have.
CELLS = ("-m", "method=lora", "data=20k", "method.target_modules=[q_proj],[no_such_layer]")


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A matrix that was run, where, and how the command ended."""

    outputs: Path
    command: tuple[str, ...]
    done: "subprocess.CompletedProcess[str]"

    def run(self, word: str) -> RunDir:
        (found,) = (run for run in find_runs(self.outputs) if word in run.path.name)
        return found


@pytest.fixture(scope="module")
def matrix(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    # A folder as people call theirs: each cell gets it through another command line.
    outputs = tmp_path_factory.mktemp("matrix") / "结果 一,二"
    command = (*TINY, f"model.path={micro_model}", f"outputs='{outputs}'", *CELLS)
    return Matrix(outputs, command, train(*command, cwd=outputs.parent))


@pytest.mark.slow
def test_a_cell_that_fails_does_not_stop_the_other(matrix: Matrix) -> None:
    assert record_of(matrix.run("q_proj")).status == "done"
    assert record_of(matrix.run("no_such_layer")).status == "failed"


@pytest.mark.slow
def test_the_command_fails_and_lists_what_failed_and_why(matrix: Matrix) -> None:
    assert matrix.done.returncode == 1
    summary = matrix.done.stderr.partition("error: ")[2]
    assert summary.startswith("1 of 2 runs are not done:\n")
    assert "method.target_modules=[no_such_layer]: failed: " in summary
    assert "[q_proj]" not in summary
    assert "log.txt" in summary
    assert "Traceback" not in matrix.done.stderr


@pytest.mark.slow
def test_the_console_of_a_log_file_has_whole_lines_alone(matrix: Matrix) -> None:
    assert not {"\r", "\x1b"} & set(matrix.done.stderr)
    lines = matrix.done.stderr.splitlines()
    assert [line[:5] for line in lines[:4]] == ["[1/2]", "[1/2]", "[2/2]", "[2/2]"]
    assert "done  ROUGE-L" in lines[1]
    assert matrix.done.stdout == ""


@pytest.mark.slow
def test_a_cell_was_started_by_a_command_of_its_own(matrix: Matrix) -> None:
    environment = record_of(matrix.run("q_proj")).environment
    assert environment is not None
    assert environment.command[:3] == ["python", "-m", "medqa_finetune.train"]
    assert "-m" not in environment.command[3:]
    assert "method.target_modules=[q_proj]" in environment.command


@pytest.mark.slow
def test_starting_again_leaves_the_done_cell_and_tries_the_failed_one(matrix: Matrix) -> None:
    before = files_below(matrix.run("q_proj").path)
    failed_at = record_of(matrix.run("no_such_layer")).started
    again = train(*matrix.command, cwd=matrix.outputs.parent)
    assert again.returncode == 1
    assert "done before, untouched" in again.stderr.splitlines()[0]
    assert files_below(matrix.run("q_proj").path) == before
    assert record_of(matrix.run("no_such_layer")).started != failed_at


@pytest.mark.slow
def test_the_untuned_base_is_run_once_for_all_sizes(micro_model: Path, tmp_path: Path) -> None:
    done = train(*TINY, f"model.path={micro_model}", "-m", "method=none", "data=20k,50k", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is the same run as none" in done.stderr
    assert "[1/1]" in done.stderr
    assert [record_of(run).status for run in find_runs(tmp_path / "outputs")] == ["done"]


@pytest.mark.slow
def test_a_method_of_the_users_own_reaches_the_cells(micro_model: Path, tmp_path: Path) -> None:
    (tmp_path / "my conf" / "method").mkdir(parents=True)
    text = "defaults: [lora, _self_]\nname: small\nrank: 2\nalpha: 4\n"
    (tmp_path / "my conf" / "method" / "small.yaml").write_text(text, encoding="utf-8")
    done = train(
        "--config-dir", "my conf", "-m", *TINY, f"model.path={micro_model}", "method=small", "data=20k", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    assert run.path.name.startswith("small_20k__")
    assert "method." not in run.path.name
    assert record_of(run).config["method"]["rank"] == 2
