import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.outputs.csv import write_csv
from medqa_finetune.report.scores import signatures
from medqa_finetune.report.table import COLUMNS, results_table
from tests.report.builders import BLEU_SIGNATURE, ROUGE_SIGNATURE, failed, matrix, record, table_of, write

PROMISED = [
    "name", "status", "method", "data", "train_size", "model", "seed", "rouge1", "rouge2", "rougeL", "bleu",
    "perplexity", "peak_vram_gib", "peak_rss_gib", "train_seconds", "train_samples_per_second",
    "train_tokens_per_second", "eval_samples_per_second", "trainable_parameters", "n_test", "signature",
]  # fmt: skip


def table(root: Path) -> pd.DataFrame:
    return table_of(root)


def test_columns_and_values(tmp_path: Path) -> None:
    frame = table(write(tmp_path, record("qlora", "50k")))
    assert list(frame.columns)[: len(PROMISED)] == PROMISED
    assert list(frame.columns) == list(COLUMNS)
    row = frame.iloc[0]
    assert (row["name"], row["train_size"], row["n_test"], row["study"], row["corpus"]) == (
        "qlora_50k", 50000, 1000, "", "huatuo26m_lite"
    )  # fmt: skip
    assert row["peak_vram_gib"] == pytest.approx(5.1)
    assert row["peak_rss_gib"] == 3
    assert row["model_flops_utilization"] == 0.45
    assert row["trainable_parameters"] == 30_000_000
    assert row["test_sha256"] == "1f2e" * 16
    assert signatures(row["signature"])["rougeL"] == ROUGE_SIGNATURE
    assert signatures(row["signature"])["bleu"] == BLEU_SIGNATURE


def test_the_share_of_truncated_examples_is_there_in_older_records_too(tmp_path: Path) -> None:
    runs = [record("lora", "20k"), record("lora", "50k"), record("none")]
    trained = runs[0].train
    assert trained is not None
    older = runs[0].updated(train=replace(trained, truncated=5000))
    newer = runs[1].updated(train=replace(trained, truncated=5, truncated_rate=0.75))
    frame = table(write(tmp_path, older, newer, runs[2])).set_index("name")["train_truncated_rate"]
    assert (frame["lora_20k"], frame["lora_50k"]) == (0.25, 0.75)
    assert pd.isna(frame["none"])


def test_order_is_base_then_method_then_size_as_a_number(tmp_path: Path) -> None:
    write(tmp_path, *reversed(matrix()), record("lora", "20k", seed=1))
    names = list(table(tmp_path)["name"])
    assert names == [
        "none",
        "lora_20k",
        "lora_20k__seed=1",
        "lora_50k",
        "lora_100k",
        "qlora_20k",
        "qlora_50k",
        "qlora_100k",
    ]


def test_what_was_not_measured_is_blank_never_zero(tmp_path: Path) -> None:
    write(tmp_path, failed("lora", "20k", data_manifest=None), record("none"))
    base, broken = table(tmp_path).iloc[0], table(tmp_path).iloc[1]
    for column in (
        "rougeL",
        "bleu",
        "peak_vram_gib",
        "model_flops_utilization",
        "n_test",
        "trainable_parameters",
        "signature",
    ):
        assert pd.isna(broken[column]), column
    assert broken["train_size"] == 20000
    assert broken["reason"] == "OutOfMemoryError: CUDA out of memory at step 12"
    assert base["train_size"] == 0
    assert pd.isna(base["train_seconds"])
    assert pd.isna(base["rouge1"])
    write_csv(table(tmp_path), tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text(encoding="utf-8-sig")
    assert next(csv.DictReader(io.StringIO(text)))["rouge1"] == ""
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("status", "reason"), [("running", "running, not done"), ("interrupted", "interrupted, not done")]
)
def test_unfinished_runs_say_so(tmp_path: Path, status: str, reason: str) -> None:
    assert table(write(tmp_path, record(status=status))).iloc[0]["reason"] == reason


def test_scaled_sizes_come_from_what_was_used(tmp_path: Path) -> None:
    settings = {"method": {"trains": "adapter"}, "data": {"train_size": 20000, "scale": 0.01}}
    pending: dict[str, Any] = {"config": settings, "data_manifest": None, "status": "pending"}
    assert table(write(tmp_path, record(**pending))).iloc[0]["train_size"] == 200


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema_version": 0}', '{"schema_version": 1}', '{"schema_version": NaN}', "[" * 100000],
)
def test_an_unreadable_record_is_a_row_with_the_reason(tmp_path: Path, content: str) -> None:
    write(tmp_path, record())
    path = tmp_path / "torn" / "record.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    frame = table(tmp_path)
    assert list(frame["status"]) == ["done", "unreadable"]
    assert frame.iloc[1]["name"] == "torn"
    assert str(path) in frame.iloc[1]["reason"]


def test_a_record_that_went_away_is_a_row(tmp_path: Path) -> None:
    frame = results_table(load_runs([RunDir(tmp_path / "gone")]))
    assert (frame.iloc[0]["status"], "removed" in frame.iloc[0]["reason"]) == ("unreadable", True)


def test_study_is_the_path_to_the_parent(tmp_path: Path) -> None:
    write(tmp_path, record())
    write(tmp_path / "demo" / "first", record(identity="other"))
    assert sorted(table(tmp_path)["study"]) == ["", "demo/first"]
    assert sorted(results_table(load_runs(find_runs(tmp_path)))["study"]) == ["", "demo/first"]


def test_no_runs_no_rows() -> None:
    assert list(results_table([]).columns) == list(COLUMNS)


@pytest.mark.parametrize("start", list("=+-@\t\r\n\0＝＋－＠"))
def test_formulas_are_defused(tmp_path: Path, start: str) -> None:
    path = tmp_path / "t.csv"
    write_csv(pd.DataFrame({"text": [f"{start}cmd|' /C calc'!A0", "plain"], "number": [-1.5, 2.0]}), path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    assert rows[1][0].startswith("'")
    assert (rows[1][1], rows[2]) == ("-1.5", ["plain", "2.0"])


def test_text_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "\udcff头" / "record.json"
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    write_csv(table(tmp_path), tmp_path / "t.csv")
    assert "\\udcff头" in (tmp_path / "t.csv").read_text(encoding="utf-8-sig")
