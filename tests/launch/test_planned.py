"""Cells of a matrix run as they were checked, whatever files say by the time they start."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medqa_finetune.cell import Cell
from medqa_finetune.errors import ConfigError
from medqa_finetune.launch.compose import compose_cell
from medqa_finetune.launch.planned import PLANNED_VARIABLE, as_text, by_names, planned_cell, planning
from medqa_finetune.launch.task import CellTask
from medqa_finetune.launch.worker import CellProcess
from tests.faulty import only_fault

COMPOSED = OmegaConf.create({"run_name": "", "evaluation_name": ""})


@pytest.fixture
def cell(micro_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    monkeypatch.chdir(tmp_path)
    pairs = tmp_path / "pairs.jsonl"
    rows = (json.dumps({"question": f"咳嗽{day}天怎么办？", "answer": f"休息{day}天。"}) for day in range(12))
    pairs.write_text("\n".join(rows), encoding="utf-8")
    model, corpus = {"path": str(micro_model)}, {"path": str(pairs)}
    choices = {"model": ("local", model), "corpus": ("jsonl", corpus), "method": ("lora", {})}
    return compose_cell(choices, {"study": "药 一", "train": {"weight_decay": 0.3}})


def test_child_of_launcher_gets_its_cell(cell: Cell) -> None:
    code = f"import os; print(open(os.environ[{PLANNED_VARIABLE!r}]).read())"
    process = CellProcess([sys.executable, "-c", code], {}, cell)
    process._process.wait()
    assert process.end() == (0, [as_text(cell)])


def test_cell_comes_out_as_it_went_in(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cell.json"
    path.write_text(as_text(cell), encoding="utf-8")
    monkeypatch.setenv(PLANNED_VARIABLE, str(path))
    found = planned_cell(COMPOSED)
    assert found == cell
    assert found is not None
    assert found.identity == cell.identity


def test_worker_of_other_launcher_finds_its_cell_by_names(cell: Cell) -> None:
    names = {key: getattr(cell.config, key) for key in ("run_name", "evaluation_name")}
    with planning(by_names([cell])):
        assert planned_cell(OmegaConf.create(names)) == cell
        assert planned_cell(COMPOSED) is None
    assert planned_cell(OmegaConf.create(names)) is None


def test_changed_corpus_is_refused(cell: Cell) -> None:
    changed = dataclasses.replace(cell, fingerprints=dataclasses.replace(cell.fingerprints, corpus="another"))
    with planning({("", ""): changed}), pytest.raises(ConfigError) as caught:
        planned_cell(COMPOSED)
    assert (only_fault(caught).code, only_fault(caught).key) == ("files-changed", "corpus")


def test_no_matrix_plans_no_cell() -> None:
    assert PLANNED_VARIABLE not in os.environ
    assert planned_cell(COMPOSED) is None
    assert CellTask(lambda _: None).planned == {}
