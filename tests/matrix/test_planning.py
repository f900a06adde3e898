"""How forecasts come about: which cells are rehearsed, in which process, and on which data."""

import dataclasses
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.data.prepare import prepare_splits
from medqa_finetune.errors import ConfigError, RunError
from medqa_finetune.matrix import planning
from medqa_finetune.matrix.forecast import Measured, Survey
from medqa_finetune.matrix.planning import kinds_of, make_plan
from medqa_finetune.matrix.rehearsal import Rehearsed
from medqa_finetune.matrix.survey import Asked
from tests.config.builders import VALID, changed
from tests.matrix.test_forecast import FACTS, MEASURED, survey

QLORA = MethodConfig(name="qlora", quantization="nf4")
NONE = MethodConfig(name="none", trains="nothing")


def small(**changes: Any) -> Config:
    sizes = {"data__train_size": 30, "data__validation_size": 5, "data__test_size": 5}
    return changed(VALID, **sizes | changes)


def test_cells_that_differ_in_data_and_seed_alone_are_of_one_kind() -> None:
    cells = [
        VALID, changed(VALID, data__train_size=50), changed(VALID, method=QLORA), changed(VALID, seed=3, run_name="x"),
        changed(VALID, train__max_length=64), changed(VALID, method=NONE),
        changed(VALID, method=NONE, train__epochs=3.0),
    ]  # fmt: skip
    assert kinds_of(cells) == [[0, 1, 3], [2], [4], [5, 6]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be asked of other processes; the second and third cell have more pairs than the first."""
    asked: list[Any] = []

    def answer(module: str, question: Any, kind: type[Any]) -> Any:
        asked.append(question)
        if kind is Measured:
            return MEASURED
        facts = [
            dataclasses.replace(FACTS, train_pairs=1000 * n, heaviest=[n]) for n in range(1, 1 + len(question.cells))
        ]
        return dataclasses.replace(survey(1e10), facts=facts)

    monkeypatch.setattr(planning, "_in_fresh_process", answer)
    return asked


def test_the_largest_cell_of_a_kind_is_rehearsed_for_all(asked: list[Any], tmp_path: Path) -> None:
    cells = [small(outputs=str(tmp_path)), small(data__train_size=40, outputs=str(tmp_path))]
    found = make_plan(cells, tmp_path, probe=True)
    rehearsed: Rehearsed = asked[1]
    assert len(asked) == 2
    assert (rehearsed.config.data.train_size, rehearsed.heaviest) == (40, [2])
    assert Path(rehearsed.config.outputs).parent == tmp_path
    assert (found.rehearsals, found.weightless) == (1, [])
    # The same speed, and each its own number of pairs.
    assert found.forecasts[1].start - found.forecasts[0].start == pytest.approx(1000 * MEASURED.encoding_seconds)


def test_nothing_is_rehearsed_unless_asked_for(asked: list[Any], tmp_path: Path) -> None:
    found = make_plan([small(outputs=str(tmp_path))], tmp_path, probe=False)
    assert len(asked) == 1
    assert (found.rehearsals, asked[0].random_models) == (0, [])


def test_data_that_was_prepared_before_is_used(asked: list[Any], tmp_path: Path) -> None:
    config = small(outputs=str(tmp_path / "outputs"))
    folder = tmp_path / "plan"
    folder.mkdir()
    make_plan([config], folder, probe=False)
    assert list((folder / "cache").iterdir()) == []
    before = prepare_splits(config, tmp_path / "outputs" / "cache")
    make_plan([config], folder, probe=False)
    (link,) = (folder / "cache").iterdir()
    assert link.is_symlink()
    stamp = (link / "pool.arrow").stat().st_mtime_ns
    assert prepare_splits(config, folder / "cache").manifest == before.manifest
    assert (link / "pool.arrow").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("code", "said", "kind", "message"),
    [
        (2, b"a warning\nerror: model.path=x: no\nsuch folder", ConfigError, "model.path=x: no\nsuch folder"),
        (1, b"Traceback\nOutOfMemoryError: CUDA out of memory", RunError, "the survey ended .* out of memory"),
        (-9, b"", RunError, "exit code -9: it left no message"),
    ],
)
def test_a_process_that_fails_says_why(
    code: int, said: bytes, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = SimpleNamespace(returncode=code, stderr=said, stdout=b"")
    monkeypatch.setattr(subprocess, "run", lambda *of, **how: ended)
    with pytest.raises(kind, match=message):
        planning._in_fresh_process("survey", Asked([VALID], str(tmp_path)), Survey)
