"""Exams beside the answers in the tables: their own columns, never mixed, and no word in what the answers say."""

from pathlib import Path

import pandas as pd
import pytest

from medqa_finetune.record.schema import Record, Score
from medqa_finetune.report.analysis import analyse
from medqa_finetune.report.grouping import tables_of
from medqa_finetune.report.html.table import results_of
from medqa_finetune.report.outputs.benchmarks import benchmarks_table
from medqa_finetune.report.outputs.csv import apart, cells_table, write_csv
from medqa_finetune.report.outputs.markdown import benchmarks_as_markdown
from medqa_finetune.report.outputs.terminal import benchmarks_as_text
from medqa_finetune.report.scores import signatures
from medqa_finetune.report.stats.intervals import Settings
from medqa_finetune.report.table import COLUMNS, results_table
from tests.report.builders import failed, group_of, record, runs_of
from tests.report.builders import table_of as table

TEXT = "wikitext2/perplexity"


def benchmarked(run: Record, accuracy: float, perplexity: float, signature: str = "stride:512") -> Record:
    return run.updated(zero_shot={"our_task/acc": Score(accuracy, "lm-eval"), TEXT: Score(perplexity, signature)})


def test_without_benchmarks_there_is_no_column_and_no_table(tmp_path: Path) -> None:
    frame = table(tmp_path, record("lora"), failed("qlora", "20k"))
    assert list(frame.columns) == list(COLUMNS)
    assert benchmarks_as_text(frame) == ""
    assert benchmarks_as_markdown(benchmarks_table(frame)) == ""


def test_cells_have_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    seeds = [benchmarked(record("lora", seed=seed), 0.25 + seed / 100, 20.0 + seed) for seed in (1, 2, 3)]
    frame = table(tmp_path, *seeds, benchmarked(record("none"), 0.2, 10.0), record("qlora"), failed("dora", "20k"))
    assert benchmarks_table(frame) == [
        ["none", "our_task/acc", "0.200", "–", "1"],
        ["none", TEXT, "10.00", "–", "1"],
        ["lora_20k", "our_task/acc", "0.270", "0.010", "3"],
        ["lora_20k", TEXT, "22.00", "1.00", "3"],
    ]
    cells = cells_table(frame).set_index("cell")
    assert cells[f"{TEXT}_sd"]["lora_20k"] == pytest.approx(1.0)
    assert cells[f"{TEXT}_mean"]["qlora_20k"] is None


@pytest.mark.parametrize(("signature", "model"), [("stride:1024", "tiny"), ("stride:512", "phi-2")])
def test_figures_that_do_not_compare_are_in_columns_of_their_own(tmp_path: Path, signature: str, model: str) -> None:
    odd = benchmarked(record("qlora").updated(model=model), 0.3, 30.0, signature)
    frame = table(tmp_path, benchmarked(record("none"), 0.2, 10.0), benchmarked(record("lora"), 0.2, 11.0), odd)
    found = [(cell, name, value) for cell, name, value, *_ in benchmarks_table(frame) if name != "our_task/acc"]
    assert found == [("none", TEXT, "10.00"), ("lora_20k", TEXT, "11.00"), ("qlora_20k", f"{TEXT}#2", "30.00")]
    # Nothing is set apart twice.
    benchmarks = [column for column in frame.columns if "/" in str(column)]
    pd.testing.assert_frame_equal(apart(frame)[benchmarks], frame[benchmarks])


def test_what_was_asked_beside_does_not_part_the_answers(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, benchmarked(record("none"), 0.2, 10.0), benchmarked(record("lora"), 0.2, 11.0, "other"))
    assert len(tables_of(runs)) == 1
    spread = apart(results_table(runs))
    assert "rougeL#2" not in spread
    assert cells_table(spread)["rougeL_mean"].notna().all()


def test_the_table_for_report_md_is_escaped(tmp_path: Path) -> None:
    run = record("lora").updated(zero_shot={"<b>|task/acc": Score(0.5, "lm-eval")})
    text = benchmarks_as_markdown(benchmarks_table(table(tmp_path, run)))
    assert r"\<b\>\|task/acc" in text
    assert "0.500" in text


def test_parts_of_a_benchmark_are_in_the_csv_alone(tmp_path: Path) -> None:
    scores = {f"cmmlu{part}/acc": Score(0.5, "lm-eval") for part in ("", "_anatomy", "_virology")}
    frame = table(tmp_path, record("lora").updated(zero_shot=scores), record("none").updated(zero_shot=scores))
    assert [row[:2] for row in benchmarks_table(frame)] == [["none", "cmmlu/acc"], ["lora_20k", "cmmlu/acc"]]
    assert "cmmlu_anatomy" not in benchmarks_as_text(frame)
    assert list(cells_table(frame)["cmmlu_anatomy/acc_mean"]) == [0.5, 0.5]


def test_on_a_terminal_it_is_at_most_120_columns_wide(tmp_path: Path) -> None:
    scores = {f"{'long' * 20}{at}/acc": Score(0.5, "lm-eval") for at in range(9)}
    runs = [
        record("lora").updated(name="lora_20k__" + "x" * 90, zero_shot=scores),
        record("none").updated(zero_shot=scores),
    ]
    text = benchmarks_as_text(table(tmp_path, *runs))
    assert len(text.splitlines()) == 19
    assert max(map(len, text.splitlines())) <= 120


def test_names_of_benchmarks_cannot_be_taken_for_something_else(tmp_path: Path) -> None:
    odd = {"a; b=c/acc": Score(0.5, "one"), "\x1b[31mx/acc#2": Score(0.5, "two"), "foo/bar": Score(0.1, "three"),
           "foo/bar_low": Score(0.2, "four")}  # fmt: skip
    frame = table(tmp_path, record("lora").updated(zero_shot=odd), record("none").updated(zero_shot=odd))
    names = [row[1] for row in benchmarks_table(frame) if row[0] == "none"]
    assert names == [r"\x1b[31mx/acc_2", "a_ b_c/acc", "foo/bar", "foo/bar_low"]
    assert cells_table(apart(frame))["foo/bar_low_mean"].notna().all()
    write_csv(apart(frame), tmp_path / "table.csv")
    assert "one" in signatures(frame["signature"][0])["a_ b_c/acc"]


def test_the_page_has_no_mean_over_some_of_the_seeds(tmp_path: Path) -> None:
    runs = [benchmarked(record("lora", seed=1), 0.2, 10.0), benchmarked(record("lora", seed=2), 0.4, 12.0, "other")]
    group = group_of(tmp_path, *runs, record("none"))
    headings, rows = results_of(group.cells, analyse([], Settings()))
    places = {heading.en: place for place, heading in enumerate(headings[1:])}
    lora = next(row for row in rows if row.label.en.startswith("LoRA"))
    assert lora.values[places["our_task/acc"]].text == "0.300"
    assert lora.values[places[TEXT]].text == "–"


def test_a_heading_is_no_formula(tmp_path: Path) -> None:
    frame = table(tmp_path, record("lora").updated(zero_shot={"+1/acc": Score(0.5, "one")}))
    write_csv(frame, tmp_path / "table.csv")
    assert ",'+1/acc" in (tmp_path / "table.csv").read_text("utf-8-sig").splitlines()[0]
