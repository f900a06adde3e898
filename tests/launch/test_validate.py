"""A matrix is checked as a whole: same runs once, other runs apart, and nothing written before all is well."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medqa_finetune import objectives
from medqa_finetune.cell import Cell, place_cell
from medqa_finetune.config.identity import Fingerprints, default_settings
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, DataError, Fault
from medqa_finetune.languages.translate import Kind, catalogue
from medqa_finetune.launch import validate
from medqa_finetune.launch.validate import check_all, check_matrix, distinct_cells, scaled_size
from medqa_finetune.record.run_dir import find_runs
from tests.commands import files_below
from tests.config.builders import VALID, changed
from tests.evaluations import evaluation_of, record_of
from tests.faulty import only_fault

FINGERPRINTS = Fingerprints("c" * 64, "m" * 64)


def cell(name: str, outputs: Path, **values: object) -> Cell:
    typed = (f"name={name}", *(f"{key.replace('__', '.')}={value}" for key, value in values.items()))
    placed = place_cell(
        changed(VALID, outputs=str(outputs), **values), Path("model"), FINGERPRINTS, name, default_settings("evaluate")
    )
    return dataclasses.replace(placed, overrides=typed)


def end(cell: Cell, status: Any = "done") -> None:
    """Let a cell have come to its end."""
    cell.run.update(status=status)
    cell.evaluation.update(status=status)


class Checks:
    """What was checked, in order; a check whose name is in `refused` fails."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.preflighted: list[list[str]] = []
        self.refused = ""

    def prepare(self, config: Config, _: Path) -> Any:
        self.prepared.append(config.run_name)
        if self.refused == "data":
            raise DataError(Fault("too-few-pairs", "has too few pairs"))
        return SimpleNamespace(manifest=SimpleNamespace(counts={"pairs": 9}))

    def preflight(self, configs: Sequence[Config], counts: Sequence[Mapping[str, int]], *, here: bool) -> None:
        assert list(counts) == [{"pairs": 9}] * len(configs)
        self.here = here
        self.preflighted.append([config.run_name for config in configs])
        if self.refused == "preflight":
            raise ConfigError(Fault("disk-full", "is too small"))


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    monkeypatch.setattr(objectives, "prepare_splits", made.prepare)
    monkeypatch.setattr(validate, "preflight_matrix", made.preflight)
    return made


def test_repeated_cells_run_once_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell("a", tmp_path), cell("b", tmp_path), cell("a", tmp_path, threads=2)]
    assert distinct_cells(cells) == cells[:2]
    (said,) = capsys.readouterr().err.splitlines()
    assert "2 cells" in said
    assert distinct_cells([*cells, cell("b", tmp_path, threads=2)]) == cells[:2]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_two_evaluations_of_one_training_are_two_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell("a", tmp_path), cell("a", tmp_path, evaluate__max_samples=2)]
    assert distinct_cells(cells) == cells
    # Speed alone, and the order of metrics, make no other evaluation.
    alike = [
        cell("a", tmp_path, evaluate__batch_size=3),
        cell("a", tmp_path, evaluate__metrics=["bleu", "rouge"], evaluate__max_samples=2),
        cell("a", tmp_path, evaluate__metrics=["rouge", "bleu"], evaluate__max_samples=2),
    ]
    assert distinct_cells([*cells, *alike]) == [*cells, alike[1]]
    assert len({each.run.path for each in cells}) == 1
    assert "run once" in capsys.readouterr().err


def test_two_runs_for_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        distinct_cells([cell("a", tmp_path), cell("a", tmp_path, seed=1)])
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("two-runs-one-folder", str(cell("a", tmp_path).run.path))


def test_every_cell_has_record_before_first_one_starts(tmp_path: Path) -> None:
    check_matrix([cell("a", tmp_path), cell("b", tmp_path)])
    assert [(run.path.name, record_of(run).status) for run in find_runs(tmp_path)] == [
        ("a", "pending"), ("b", "pending"),
    ]  # fmt: skip


def test_every_evaluation_has_a_record_before_the_start(tmp_path: Path) -> None:
    cells = [cell("a", tmp_path), cell("a", tmp_path, evaluate__max_samples=2)]
    check_matrix(cells)
    assert [record_of(run).status for run in find_runs(tmp_path)] == ["pending"]
    assert [(evaluation_of(each).name, evaluation_of(each).status) for each in cells] == [
        ("default", "pending"), ("max_samples=2", "pending"),
    ]  # fmt: skip


def test_taken_folder_leaves_all_others_unwritten(tmp_path: Path) -> None:
    for one in check_matrix([cell("b", tmp_path), cell("c", tmp_path)]):
        one.run.update(status="failed")
    before = files_below(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_matrix([cell("a", tmp_path), cell("b", tmp_path, seed=1), cell("c", tmp_path, seed=2)])
    assert [(fault.code, Path(str(fault.file)).name) for fault in caught.value.faults] == [
        ("another-run", "b"), ("another-run", "c"),
    ]  # fmt: skip
    assert all("seed" in fault.problem for fault in caught.value.faults)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("refused", ["data", "preflight"])
def test_what_is_refused_leaves_nothing_behind(refused: str, tmp_path: Path, checks: Checks) -> None:
    checks.refused = refused
    with pytest.raises(ConfigError):
        check_matrix([cell("a", tmp_path / "outputs"), cell("b", tmp_path / "outputs")])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_only_open_cells_are_checked_in_full(tmp_path: Path, checks: Checks) -> None:
    cells = [cell(name, tmp_path) for name in "abc"]
    check_matrix(cells)
    end(cells[1])
    checks.prepared, checks.preflighted = [], []
    assert check_matrix(cells) == cells
    assert checks.prepared == ["a", "c"]
    assert checks.preflighted == [["a", "c"]]


def test_finished_matrix_is_not_checked_and_not_touched(tmp_path: Path, checks: Checks) -> None:
    cells = [cell(name, tmp_path) for name in "ab"]
    check_matrix(cells)
    for one in cells:
        end(one)
    before, checks.prepared, checks.preflighted = files_below(tmp_path), [], []
    check_matrix(cells)
    assert (checks.prepared, checks.preflighted) == ([], [])
    assert files_below(tmp_path) == before


def test_another_evaluation_of_a_finished_run_is_open(tmp_path: Path, checks: Checks) -> None:
    first, second = cell("a", tmp_path), cell("a", tmp_path, evaluate__max_samples=2)
    check_matrix([first])
    end(first)
    before, checks.preflighted = files_below(tmp_path), []
    check_matrix([first, second])
    assert checks.preflighted == [["a"]]
    assert evaluation_of(second).status == "pending"
    after = files_below(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {
        str(second.evaluation.record_path.relative_to(tmp_path))
    }


def test_pending_cell_gives_way(tmp_path: Path) -> None:
    check_matrix([cell("a", tmp_path)])
    check_matrix([cell("a", tmp_path, seed=1)])
    assert record_of(cell("a", tmp_path).run).seed == 1


def test_overwriting_leaves_old_record_to_cell_itself(tmp_path: Path, checks: Checks) -> None:
    check_matrix([cell("a", tmp_path)])
    end(cell("a", tmp_path))
    before = files_below(tmp_path)
    check_matrix([cell("a", tmp_path, seed=1, overwrite=True)])
    assert files_below(tmp_path) == before
    assert checks.preflighted[-1] == ["a"]


def test_record_of_another_process_is_left_alone(tmp_path: Path) -> None:
    one = cell("a", tmp_path)
    with one.run.lock():
        check_matrix([one])
    assert one.run.read() is None


def test_faults_are_raised_together_without_repeats() -> None:
    small, large = Fault("odd", "an odd number"), Fault("odd", "a large odd number")

    def check(number: int) -> int:
        if number % 2:
            raise DataError(small if number < 5 else large)
        return number

    assert check_all([2, 4], check) == [2, 4]
    with pytest.raises(ConfigError) as caught:
        check_all([1, 2, 3, 5], check)
    assert caught.value.faults == (small, large)


@pytest.mark.parametrize(
    ("overrides", "scale", "said"),
    [
        (["data.train_size=300"], 0.01, "data.train_size=300 is 3 here"),
        (["data.train_size=300", "data.scale=0.01"], 0.01, None),
        (["data.train_size=300"], 1.0, None),
        (["data=20k"], 0.01, None),
    ],
)
def test_a_typed_size_that_a_profile_scales_is_said(overrides: list[str], scale: float, said: str | None) -> None:
    found = scaled_size(changed(VALID, data__train_size=300, data__scale=scale), overrides)
    assert (found is None) if said is None else (found or "").startswith(said)


def test_the_scaled_size_is_said_in_chinese() -> None:
    text = scaled_size(changed(VALID, data__train_size=300, data__scale=0.01), ["data.train_size=300"])
    assert text is not None
    assert catalogue(Kind.SAID).find(text) is not None
