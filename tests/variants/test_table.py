"""Rows, text, CSV and picture of the variants."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.record.schema import Environment, FileStamp, Score
from medqa_finetune.variants.metadata import Measured, Metadata, Needed, read_metadata, write_metadata
from medqa_finetune.variants.plot import write_plot
from medqa_finetune.variants.table import as_text, compare, rows, write_csv

HERE = Environment({}, "CPU, 2 threads", "fp32", None, [])


def measured(rouge: float, speed: float = 100.0, **changes: Any) -> Measured:
    scores = {"rougeL": Score(rouge, "rouge"), "bleu": Score(rouge / 2, "bleu")}
    base = Measured("q" * 64, None, 50, scores, 10.0, 5.0, speed, None, None, 700 * 2**20, 400 * 2**20, HERE)
    return dataclasses.replace(base, **changes)


def metadata(name: str, size: int, result: Measured | None, needs: Needed | None = None) -> Metadata:
    files = {"model.safetensors": FileStamp(size, "0" * 64)}
    return Metadata(name, f"the {name}", {}, {}, files, size, HERE, "now", needs, result)


FOUR = {
    "base": metadata("base", 40 * 2**20, measured(10.0)),
    "lora": metadata("lora", 2**20, measured(15.0, 80.0), Needed("base", "base", 40 * 2**20)),
    "lora_quantized": metadata("lora_quantized", 12 * 2**20, measured(14.25)),
    "merged": metadata("merged", 40 * 2**20, None),
}


def test_a_row_has_values_and_differences() -> None:
    base, lora, quantized, merged = rows(compare(FOUR))
    assert (base["disk_bytes"], lora["disk_bytes"]) == (40 * 2**20, 41 * 2**20)
    assert (lora["size_bytes"], lora["needed_base_bytes"]) == (2**20, 40 * 2**20)
    assert lora["rougeL_minus_base"] == pytest.approx(5.0)
    assert lora["tokens_per_second_minus_base"] == pytest.approx(-20.0)
    assert quantized["rougeL_minus_lora"] == pytest.approx(-0.75)
    assert base["rougeL_minus_base"] is None
    assert merged["rougeL"] is merged["tokens_per_second"] is merged["rougeL_minus_base"] is merged["n"] is None
    assert merged["disk_bytes_minus_base"] == 0


def test_unmeasured_figures_are_none() -> None:
    (row, *_) = rows(compare(FOUR))
    assert row["perplexity"] is row["peak_vram_bytes"] is None


@pytest.mark.parametrize("other", [{"questions_sha256": "other"}, {"scores": {"rougeL": Score(9.0, "another rouge")}}])
def test_scores_that_do_not_compare_are_not_compared(other: dict[str, Any]) -> None:
    two = {"base": FOUR["base"], "quantized": metadata("quantized", 2**20, measured(9.0, **other))}
    row = rows(compare(two))[1]
    assert row["rougeL"] == 9.0
    assert row["rougeL_minus_base"] is None


def test_the_text_says_what_merging_and_quantizing_cost() -> None:
    text = as_text(rows(compare(FOUR)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert "less the adapter on its base: what merging and quantizing cost" in lines
    values = [line.split() for line in lines if line.startswith("lora_quantized")]
    assert values[0][1:4] == ["12.0", "700", "100"]
    assert values[1][1:4] == ["-28.0", "+0", "+0"]
    assert "-0.75" in values[2]
    assert "400 MiB of it Python and its libraries" in text


def test_unmeasured_figures_are_empty_cells(tmp_path: Path) -> None:
    write_csv(rows(compare(FOUR)), tmp_path / "variants.csv")
    with (tmp_path / "variants.csv").open(encoding="utf-8", newline="") as file:
        found = {row["variant"]: row for row in csv.DictReader(file)}
    assert (found["merged"]["rougeL"], found["base"]["peak_vram_bytes"]) == ("", "")
    assert float(found["lora"]["rougeL"]) == 15.0


def test_nothing_measured_is_said() -> None:
    assert "Not measured (export.measure=false)." in as_text(rows({"merged": FOUR["merged"]}))


def test_the_plot_shows_missing_figures(tmp_path: Path) -> None:
    paths = write_plot(rows(compare(FOUR)), "micro", tmp_path)
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
    assert (tmp_path / "variants.png").read_bytes().startswith(b"\x89PNG")


def test_metadata_comes_back_as_it_was_written(tmp_path: Path) -> None:
    for name, each in compare(FOUR).items():
        write_metadata(tmp_path / name, each)
        assert read_metadata(tmp_path / name) == each


def test_unchanged_metadata_is_not_rewritten(tmp_path: Path) -> None:
    write_metadata(tmp_path, FOUR["base"])
    before = (tmp_path / "metadata.json").stat()
    write_metadata(tmp_path, FOUR["base"])
    after = (tmp_path / "metadata.json").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
