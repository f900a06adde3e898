"""The command `summarize`: in a fresh process once, everything else in this one, without marks in its charts."""

import contextlib
import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from medqa_finetune.errors import MedQAError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Score
from medqa_finetune.summarize import summarize as command
from scripts.benchmarks.made_runs import AnswerBank, MadeRun, six, write_run
from tests.commands import here, timed
from tests.evaluations import default_of
from tests.faulty import only_fault
from tests.report.builders import failed, matrix, record, write

ROOT = Path(__file__).parents[1]


def summarize(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return here(command, *arguments, cwd=cwd)


def summarize_freshly(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in which warnings are errors as well."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "strict")))
    return subprocess.run(
        [sys.executable, "-m", "medqa_finetune.summarize", *arguments],
        cwd=cwd, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "summary" / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_whole_matrix_and_again_the_same(tmp_path: Path) -> None:
    write(tmp_path / "outputs", *matrix())
    done = summarize_freshly(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "7 of 7 runs done." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    summary = tmp_path / "outputs" / "summary"
    assert sorted(path.name for path in summary.iterdir()) == [
        "captions.md", "comparisons.csv", "data_scale_comparison.pdf", "data_scale_comparison.png",
        "data_scale_comparison.svg", "figures", "method_comparison.pdf", "method_comparison.png",
        "method_comparison.svg", "report.html", "report.md", "results_by_cell.csv", "results_summary.csv", "scores.csv",
        "table.md", "table.tex",
    ]  # fmt: skip
    assert all(f"wrote outputs/summary/{path.name}" in done.stdout for path in summary.iterdir() if path.is_file())
    assert [row["name"] for row in rows_of(tmp_path / "outputs")][:3] == ["none", "lora_20k", "lora_50k"]
    before = {path: path.read_bytes() for path in summary.rglob("*") if path.is_file()}
    assert len(before) > 30
    again = summarize(cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
    assert {path: path.read_bytes() for path in summary.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("blank_charts")
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


@pytest.mark.usefixtures("blank_charts")
def test_no_done_run_no_pictures(tmp_path: Path) -> None:
    write(tmp_path, *matrix())
    summarize(f"outputs={tmp_path}")
    for run in matrix()[1:]:
        write(tmp_path, failed(run.method, run.data))
    done = summarize(f"outputs={tmp_path}")
    assert done.returncode == 0
    assert "no pictures: no run that trained something is done" in done.stdout
    # Pictures of runs that are gone would mislead.
    assert not list((tmp_path / "summary").glob("*.png"))


@pytest.mark.usefixtures("blank_charts")
def test_other_test_sets_are_pointed_out(tmp_path: Path) -> None:
    other = record("qlora", "20k")
    assert other.evaluation is not None
    write(tmp_path, record(), other.updated(evaluation=other.evaluation.__class__(n=5, scores=other.evaluation.scores)))
    lines = summarize(f"outputs={tmp_path}").stdout.splitlines()
    assert any("do not compare" in line for line in lines)
    # Two tables, a run each: the two share no column.
    assert [line.split()[0] for line in lines if line.startswith(("run", "LoRA", "QLoRA"))] == [
        "run", "LoRA", "run", "QLoRA",
    ]  # fmt: skip
    rows = pd.read_csv(tmp_path / "summary" / "results_summary.csv").set_index("name")
    assert rows["rougeL"].notna().to_dict() == {"lora_20k": True, "qlora_20k": False}
    assert rows["rougeL#2"].notna().to_dict() == {"lora_20k": False, "qlora_20k": True}


@pytest.mark.usefixtures("blank_charts")
def test_a_missing_score_is_no_other_signature(tmp_path: Path) -> None:
    """Answers that are looked up have no perplexity; all else they are scored by as the others are."""
    looked_up = record("retrieval", "20k", name="retrieval_20k")
    assert looked_up.evaluation is not None
    scores = {name: score for name, score in looked_up.evaluation.scores.items() if name != "perplexity"}
    looked_up = looked_up.updated(evaluation=dataclasses.replace(looked_up.evaluation, scores=scores), train=None)
    # A signature that both have and that differs still makes another table, wherever the retrieval stands.
    words = record("zlora", "20k", name="zlora_20k")
    assert words.evaluation is not None
    scores = words.evaluation.scores | {"perplexity": Score(9.0, "perplexity|another way")}
    words = words.updated(evaluation=dataclasses.replace(words.evaluation, scores=scores))
    write(tmp_path, *matrix(), looked_up, words)
    tables = summarize(f"outputs={tmp_path}").stdout.split("9 of 9 runs done.")[0].strip().split("\n\n")
    assert [len(table.splitlines()) - 1 for table in tables] == [8, 1]
    (line,) = [line for line in tables[0].splitlines() if line.startswith("retrieval 20k")]
    assert line.split()[6] == "-"
    assert tables[1].splitlines()[1].startswith("zlora 20k")
    rows = {row["name"]: row for row in rows_of(tmp_path)}
    assert (rows["retrieval_20k"]["perplexity"], rows["retrieval_20k"]["perplexity#2"]) == ("", "")
    assert (rows["zlora_20k"]["perplexity"], rows["zlora_20k"]["perplexity#2"]) == ("", "9.0")


@pytest.mark.parametrize(
    ("arguments", "code", "key", "got"),
    [
        (["outputs=nowhere"], "file-missing", "outputs", "nowhere"),
        ([], "file-missing", "outputs", "outputs"),
        (["outputs=."], "no-match", "outputs", "."),
        (["output=."], "unknown-key", "output", "."),
        (["."], "mistyped", None, "."),
        (["price_per_hour=-1"], "out-of-range", "price_per_hour", -1.0),
    ],
)
def test_bad_input(arguments: list[str], code: str, key: str | None, got: object, tmp_path: Path) -> None:
    done = summarize(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    with contextlib.chdir(tmp_path), pytest.raises(MedQAError) as caught:
        command(arguments)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)


def test_unwritable_summary(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "summary").write_text("a file where a folder should be", encoding="utf-8")
    done = summarize(f"outputs={tmp_path}")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.usefixtures("blank_charts")
def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    write(tmp_path, record(name="\x1b[31m=cmd", status="failed"))
    done = summarize(f"outputs={tmp_path}")
    assert "\x1b" not in done.stdout
    assert done.returncode == 0


@pytest.mark.usefixtures("blank_charts")
def test_statistics_stand_in_table_files_and_on_the_terminal(tmp_path: Path) -> None:
    bank = AnswerBank(30)
    folders = [write_run(tmp_path, run, bank) for run in six()]
    # Of one run they are made again from its predictions.
    default_of(folders[1]).item_scores_path.unlink()
    done = summarize(f"outputs={tmp_path}", "price_per_hour=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert "Seed of both 12345" in done.stdout
    assert "GPU-hours more (price" in done.stdout
    assert "None of these scores measures medical safety" in done.stdout
    rows = rows_of(tmp_path)
    assert len(rows) == 7
    for row in rows:
        for score in ("rougeL", "bleu"):
            assert float(row[f"{score}_low"]) < float(row[score]) < float(row[f"{score}_high"])
    with (tmp_path / "summary" / "comparisons.csv").open(encoding="utf-8-sig", newline="") as file:
        compared = list(csv.DictReader(file))
    assert len(compared) == 21 * 6
    assert {row["verdict"] for row in compared} <= {"different", "no difference shown"}
    assert "## Scores 分数" in (tmp_path / "summary" / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("blank_charts")
def test_a_winner_is_not_called_where_more_differs(tmp_path: Path) -> None:
    bank = AnswerBank(30)
    for run in (MadeRun("lora", 20_000), MadeRun("qlora", 20_000, quality=1.0)):
        write_run(tmp_path, run, bank)
    folder = RunDir(tmp_path / "qlora_20k")
    found = folder.read()
    assert found is not None
    assert found.train is not None
    folder.write(found.updated(train=dataclasses.replace(found.train, steps=99)))
    text = " ".join(summarize(f"outputs={tmp_path}").stdout.split())
    assert "No winner is called: QLoRA 20k has the highest score, but it and LoRA 20k do not compare." in text
    assert "steps (99, 1,250)" in text or "steps (1,250, 99)" in text


@pytest.mark.usefixtures("blank_charts")
def test_long_names_that_differ_at_their_end_look_different(tmp_path: Path) -> None:
    stem = "lora_20k__corpus=book-56326d__train.learning_rate=0.0001__train.batch_size=64__train.max_length="
    names = [f"{stem}{number:03}"[:100].ljust(100, "0") for number in range(100, 110)]
    write(tmp_path, *(record(name=name, identity=name) for name in names))
    done = summarize(f"outputs={tmp_path}")
    shown = [line[:30] for line in done.stdout.splitlines() if line.startswith("LoRA 20k")][: len(names)]
    assert len(set(shown)) == len(names)
    assert all(f"max length {number}" in line for number, line in enumerate(shown, start=100))


def test_help_is_quick(tmp_path: Path) -> None:
    done, seconds = timed("-m", "medqa_finetune.summarize", "-h", cwd=tmp_path)
    assert (done.returncode, "outputs=DIR" in done.stdout) == (0, True)
    assert seconds < 1
