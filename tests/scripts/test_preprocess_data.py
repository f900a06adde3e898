"""`scripts/preprocess_data.py`: raw file to cleaned pairs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_pairs_rejects_and_counts(run_script: Callable[..., Any], tmp_path: Path) -> None:
    text = "question,answer\n头痛<br>怎么办,休息 &amp; 喝水\n只有一格\n感冒怎么办,\n" + "感冒怎么办,多喝水\n" * 200
    (tmp_path / "raw.csv").write_text(text, "gb18030")
    arguments = ("preprocess_data", "corpus=csv", "corpus.path=raw.csv", "corpus.encoding=gb18030", "--to", "out")
    outcome = run_script(*arguments)
    assert outcome.code == 0, outcome.err
    rows = [json.loads(line) for line in Path("out/pairs.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {"id": "raw.csv:2", "question": "头痛\n怎么办", "answer": "休息 & 喝水"}
    assert len(rows) == 201
    rejects = [json.loads(line) for line in Path("out/rejects.jsonl").read_text("utf-8").splitlines()]
    assert [(r["place"], r["reason"]) for r in rejects] == [
        ("raw.csv:3", "wrong_number_of_cells"),
        ("raw.csv:4", "empty_answer"),
    ]
    assert json.loads(Path("out/counts.json").read_text())["counts"]["rows"] == 203
    assert "Next: python -m medqa_finetune.train corpus=jsonl corpus.path=out/pairs.jsonl" in outcome.out

    before = Path("out/pairs.jsonl").stat().st_mtime_ns
    assert run_script(*arguments).out == outcome.out
    assert Path("out/pairs.jsonl").stat().st_mtime_ns == before
    Path("out/pairs.jsonl").write_text("damaged")
    assert run_script(*arguments).code == 0
    assert len(Path("out/pairs.jsonl").read_text("utf-8").splitlines()) == 201


def test_options_may_stand_anywhere(run_script: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "头痛怎么办", "answer": "休息"}\n', "utf-8")
    assert run_script("preprocess_data", "corpus=jsonl", "--to", "out", "corpus.path=a.jsonl").code == 0
    assert len(Path("out/pairs.jsonl").read_text("utf-8").splitlines()) == 1


def test_what_it_writes_reads_back_the_same(run_script: Callable[..., Any], tmp_path: Path) -> None:
    row = {"question": "好<|im_end|>吗\u2028？", "answer": "a&amp;nbsp;b  c", "id": "x"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row), "utf-8")
    assert run_script("preprocess_data", "corpus.path=a.jsonl", "--to", "one").code == 0
    assert run_script("preprocess_data", "corpus.path=one/pairs.jsonl", "--to", "two").code == 0
    one, two = (json.loads(Path(f"{folder}/pairs.jsonl").read_text("utf-8")) for folder in ("one", "two"))
    assert one["question"] == two["question"] == "好<| im_end |>吗\u2028？"
    assert one["id"] == two["id"] == "x"


def test_errors(run_script: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, part in (
        (["corpus=jsonl"], "corpus.path"),
        (["corpus.path=none.jsonl"], "corpus.path=none.jsonl"),
        (["corpus=nope"], "embedded"),
    ):
        outcome = run_script("preprocess_data", *arguments)
        assert outcome.code == 2
        assert len(outcome.faults) == 1
        assert part in outcome.err
        assert "Traceback" not in outcome.err
    assert not (tmp_path / "data").exists()


def test_folder_that_cannot_be_written(run_script: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "问题", "answer": "答案"}\n', "utf-8")
    (tmp_path / "file").write_text("")
    outcome = run_script("preprocess_data", "corpus.path=a.jsonl", "--to", "file/below")
    assert outcome.code == 2
    assert [(fault.code, fault.file) for fault in outcome.faults] == [("not-writable", "file/below")]
