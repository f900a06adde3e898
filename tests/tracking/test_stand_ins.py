"""What W&B, MLflow and SwanLab are told, where they may not be installed: modules in their place keep it."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from medqa_finetune.tracking.base import Row
from medqa_finetune.tracking.trackers import Trackers

SETTINGS: dict[str, Any] = {"cell.method": "lora", "method.rank": 16, "method.dora": False}
RESULTS = {"scores/rougeL": 31.5}


class Run:
    """A run of W&B or SwanLab."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, float] = {}
        self.ended: list[dict[str, Any]] = []

    def log(self, values: dict[str, float], step: int) -> None:
        assert step == 7
        self.summary |= values

    def finish(self, **ending: Any) -> None:
        self.ended.append(ending)


class Config(dict[str, Any]):
    def update(self, values: Any, allow_val_change: bool = False) -> None:  # type: ignore[override]
        super().update(values)


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row("0" * 16, "lora_20k", "demo/lora_20k", "default", tmp_path, tmp_path, SETTINGS, RESULTS, step=7)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def report(name: str, row: Row, *, fails: bool = False) -> None:
    with Trackers([name], lambda: row) as trackers:
        trackers.report()
        if fails:
            raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True])
def test_wandb_has_settings_scores_and_the_ending(fails: bool, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    run, begun = Run(), dict[str, Any]()
    run.config = Config()

    def init(**given: Any) -> Run:
        begun.update(given)
        return run

    stand_in(monkeypatch, "wandb", init=init, login=lambda prompt: prompt)
    monkeypatch.setattr("medqa_finetune.tracking.weights_and_biases.mode", lambda: "offline")
    with pytest.raises(KeyboardInterrupt) if fails else monkeypatch.context():
        report("wandb", row, fails=fails)
    assert (begun["id"], begun["group"], begun["resume"]) == (row.id, row.cell, "allow")
    assert (run.config, run.summary, run.ended) == (SETTINGS, RESULTS, [{"exit_code": int(fails)}])


def test_swanlab_has_settings_scores_and_asks_nobody(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    run, begun = Run(), dict[str, Any]()

    def init(**given: Any) -> Run:
        begun.update(given)
        return run

    stand_in(monkeypatch, "swanlab", init=init, Settings=SimpleNamespace)
    report("swanlab", row)
    assert (begun["id"], begun["settings"].interactive) == (row.id, False)
    assert (run.config, run.summary, run.ended) == (SETTINGS, RESULTS, [{}])


def test_mlflow_is_told_a_setting_once(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    params, metrics, ended = {"method.rank": "16"}, dict[str, float](), list[str]()
    info = SimpleNamespace(info=SimpleNamespace(run_id="1"), data=SimpleNamespace(params=params))
    stand_in(
        monkeypatch, "mlflow", set_tracking_uri=lambda uri: None, get_experiment_by_name=lambda name: None,
        create_experiment=lambda name, files: None, set_experiment=lambda name: None,
        search_runs=lambda **given: [info], start_run=lambda **given: None, active_run=lambda: info,
        get_run=lambda run_id: info, log_params=params.update, log_metrics=lambda values, step: metrics.update(values),
        end_run=ended.append,
    )  # fmt: skip
    report("mlflow", row)
    assert params == {**SETTINGS, "method.rank": "16"}
    assert (metrics, ended) == (RESULTS, ["FINISHED"])
