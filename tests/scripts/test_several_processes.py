"""`scripts/several_processes.py` compares curves point by point, and starts one process as a user does."""

import json
from pathlib import Path

import pytest

from scripts.several_processes import METHODS, command, difference, newest_step, resumed_at


def write_run(outputs: Path, losses: list[float], resumed: list[int]) -> Path:
    run = outputs / "demo" / "run"
    (run / "checkpoints" / f"step-{len(losses)}").mkdir(parents=True)
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (run / "record.json").write_text(json.dumps({"train": {"resumed_from": resumed}}), encoding="utf-8")
    return outputs


def test_curves_are_compared_point_by_point(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "1", [3.0, 2.0], []), write_run(tmp_path / "2", [3.0, 2.5], [1, 2])
    assert difference(one, other, "loss") == 0.5
    assert (newest_step(other), newest_step(tmp_path / "none")) == (2, 0)
    assert (resumed_at(one), resumed_at(other)) == ("–", "1, 2")
    with pytest.raises(SystemExit):
        difference(one, write_run(tmp_path / "3", [3.0], []), "loss")


def test_one_process_divides_nothing(tmp_path: Path) -> None:
    settings = METHODS["full, divided"]
    assert "train.sharding=full" in command(2, tmp_path, settings)
    assert "train.sharding=full" not in command(1, tmp_path, settings)
    assert "--nproc_per_node=2" in command(2, tmp_path, settings)
