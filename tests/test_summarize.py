import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from medqa_finetune.record.run_dir import RunDir
from tests.report.builders import failed, matrix, record, write

ROOT = Path(__file__).parents[1]


def summarize(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "medqa_finetune.summarize", *arguments],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "summary" / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_whole_matrix(tmp_path: Path) -> None:
    write(tmp_path / "outputs", *matrix())
    done = summarize(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "7 of 7 runs done." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    summary = tmp_path / "outputs" / "summary"
    assert sorted(path.name for path in summary.iterdir()) == [
        "data_scale_comparison.png", "method_comparison.png", "results_by_cell.csv", "results_summary.csv"
    ]  # fmt: skip
    assert all(f"wrote outputs/summary/{path.name}" in done.stdout for path in summary.iterdir())
    assert [row["name"] for row in rows_of(tmp_path / "outputs")][:3] == ["none", "lora_20k", "lora_50k"]


def test_a_second_time_gives_the_same_files(tmp_path: Path) -> None:
    write(tmp_path, *matrix())
    summarize(f"outputs={tmp_path}")
    before = {path.name: path.read_bytes() for path in (tmp_path / "summary").iterdir()}
    summarize(f"outputs={tmp_path}")
    assert {path.name: path.read_bytes() for path in (tmp_path / "summary").iterdir()} == before


def test_failed_torn_and_moved_aside_runs(tmp_path: Path) -> None:
    write(tmp_path, *matrix()[:4], failed("qlora", "50k"), record("qlora", "100k"))
    RunDir(tmp_path / "qlora_100k").record_path.write_text('{"schema_version": 1, "na', encoding="utf-8")
    write(tmp_path / "lora_20k.old-1" / "x", record("lora", "20k"))
    write(tmp_path / "cache", record("lora", "20k"))
    write(tmp_path / "summary", record("lora", "20k"))
    done = summarize(f"outputs={tmp_path}")
    assert done.returncode == 0
    assert "4 of 6 runs done, 1 failed, 1 unreadable." in done.stdout
    assert "qlora_50k: OutOfMemoryError: CUDA out of memory at step 12" in done.stdout
    assert "not a whole JSON file" in done.stdout
    rows = {row["name"]: row for row in rows_of(tmp_path)}
    assert rows["qlora_50k"]["rougeL"] == ""
    assert rows["qlora_100k"]["status"] == "unreadable"


def test_no_done_run_no_pictures(tmp_path: Path) -> None:
    write(tmp_path, *matrix())
    summarize(f"outputs={tmp_path}")
    for run in matrix()[1:]:
        write(tmp_path, failed(run.method, run.data))
    done = summarize(f"outputs={tmp_path}")
    assert done.returncode == 0
    assert "no pictures: no run that trained something is done" in done.stdout
    # Pictures of runs that are gone would mislead.
    left = sorted(path.name for path in (tmp_path / "summary").iterdir())
    assert left == ["results_by_cell.csv", "results_summary.csv"]


def test_other_test_sets_are_pointed_out(tmp_path: Path) -> None:
    other = record("qlora", "20k")
    assert other.evaluation is not None
    write(tmp_path, record(), other.updated(evaluation=other.evaluation.__class__(n=5, scores=other.evaluation.scores)))
    lines = summarize(f"outputs={tmp_path}").stdout.splitlines()
    assert any("scores of different tables above do" in line for line in lines)
    # Two tables, a run each: the two share no column.
    assert [line.split()[0] for line in lines if line.startswith(("run", "lora", "qlora"))] == [
        "run", "lora_20k", "run", "qlora_20k",
    ]  # fmt: skip
    rows = pd.read_csv(tmp_path / "summary" / "results_summary.csv").set_index("name")
    assert rows["rougeL"].notna().to_dict() == {"lora_20k": True, "qlora_20k": False}
    assert rows["rougeL#2"].notna().to_dict() == {"lora_20k": False, "qlora_20k": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outputs=nowhere"], "outputs=nowhere: no such folder"),
        ([], "outputs=outputs: no such folder"),
        (["outputs=."], "no record of a run below it"),
        (["output=."], "did you mean outputs"),
        (["."], "key=value is wanted"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = summarize(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_unwritable_summary(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "summary").write_text("a file where a folder should be", encoding="utf-8")
    done = summarize(f"outputs={tmp_path}")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    write(tmp_path, record(name="\x1b[31m=cmd", status="failed"))
    done = summarize(f"outputs={tmp_path}")
    assert "\x1b" not in done.stdout
    assert done.returncode == 0


def test_help_is_quick() -> None:
    start = time.monotonic()
    done = summarize("-h")
    assert (done.returncode, "outputs=DIR" in done.stdout) == (0, True)
    assert time.monotonic() - start < 1
