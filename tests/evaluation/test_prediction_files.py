"""Predictions as other programs write them: keys that are found, chosen, or refused as unclear."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.prediction_files import Keys, predictions_of, read_prediction_file
from medqa_finetune.evaluation.predictions import Prediction
from tests.faulty import only_fault

Row = dict[str, Any]
ASKED = [{"role": "system", "content": "你是医生。"}, {"role": "user", "content": "头痛怎么办？"}]
SAID = {"role": "assistant", "content": "休息。"}
WANTED = Prediction("1", "头痛怎么办？", ("多休息。",), "休息。")


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def batch(text: str) -> Row:
    body = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    return {"id": "batch-1", "custom_id": "q7", "response": {"status_code": 200, "body": body}, "error": None}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "头痛怎么办？", "predict": "休息。", "label": "多休息。"},
        {"response": "休息。", "labels": "多休息。", "logprobs": None, "messages": [*ASKED, SAID]},
        {"response": "休息。", "labels": "多休息。", "solution": "别的", "messages": ASKED},
        {"system": None, "query": "头痛怎么办？", "response": "休息。", "label": "多休息。", "history": []},
        {"origin_prompt": "头痛怎么办？", "prediction": "休息。", "gold": "多休息。"},
        {"instruction": "头痛怎么办？", "output": "多休息。", "response": "休息。"},
        {"instruction": "头痛怎么办？", "output": "休息。", "label": "多休息。"},
        {"question": "头痛怎么办？", "answer": "多休息。", "generated_text": "休息。"},
        {"prompt": "头痛怎么办？", "outputs": [{"text": "休息。"}], "ground_truth": "多休息。"},
        {"question": "头痛怎么办？", "target": "多休息。", "resps": [["休息。"]], "filtered_resps": ["休息。"]},
        {"messages": [ASKED[0], {"role": "user", "content": [{"type": "text", "text": "头痛怎么办？"}]}],
         "choices": [{"message": SAID}], "label": "多休息。"},
    ],
)  # fmt: skip
def test_keys_of_other_programs_are_found(row: Row, tmp_path: Path) -> None:
    assert read_prediction_file(lines(tmp_path / "p.jsonl", row)) == [WANTED]


def test_what_the_harness_scores_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {
        "doc_id": 3,
        "doc": {"q": "头痛"},
        "target": "多休息。",
        "arguments": {"gen_args_0": {"arg_0": "头痛怎么办？", "arg_1": {}}},
        "resps": [["想 休息。"]],
        "filtered_resps": ["休息。"],
        "filter": "none",
    }
    path = lines(tmp_path / "samples_task.jsonl", row)
    with caplog.at_level(logging.INFO):
        assert read_prediction_file(path) == [Prediction("3", "头痛怎么办？", ("多休息。",), "休息。")]
    assert "filtered_resps.0 is taken, not resps.0.0" in caplog.text
    assert read_prediction_file(path, Keys(prediction="resps.0.0"))[0].prediction == "想 休息。"


def test_what_is_taken_is_said_unless_it_is_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read_prediction_file(lines(tmp_path / "a.jsonl", {"prompt": "问", "predict": "甲", "label": "乙"}))
        assert "prediction=predict, reference=label, question=prompt" in caplog.text
        caplog.clear()
        read_prediction_file(lines(tmp_path / "b.jsonl", {"question": "问", "prediction": "甲", "reference": "乙"}))
    assert not caplog.records


ROWS = [{"prompt": "问一", "predict": "甲,一", "label": "乙\n一"}, {"prompt": "问二", "predict": "", "label": "乙二"}]


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_of_an_array_are_numbered_by_place(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(ROWS, indent=indent), "utf-8")
    assert [each.id for each in read_prediction_file(path)] == ["1", "2"]


@pytest.mark.parametrize(
    ("third", "code"),
    [
        (ROWS[1] | {"label": None}, "wrong-type"),
        (ROWS[1] | {"id": 7}, "repeated"),
        ({"predict": "甲"}, "missing-key"),
    ],
)
def test_a_fault_in_an_array_names_the_row(third: Row, code: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([ROWS[0] | {"id": 7}, ROWS[1], third]), "utf-8")
    with pytest.raises(DataError) as caught:
        read_prediction_file(path)
    fault = only_fault(caught)
    assert (fault.code, fault.line_number, "(row 3)" in fault.problem) == (code, 1, True)
    if code == "repeated":
        assert "row 1 has it" in fault.problem


@pytest.mark.parametrize("times", [1, 2])
def test_one_row_is_read_as_two_are(times: int, tmp_path: Path) -> None:
    rows = [{"messages": [ASKED[1], SAID], "reference": "多休息。"}] * times
    found = read_prediction_file(lines(tmp_path / "p.jsonl", *rows), Keys(prediction="messages"))
    assert {(each.prediction, each.references) for each in found} == {("休息。", ("多休息。",))}
    parts = [{"parts": [{"text": "休息。"}], "gold": "多休息。"}] * times
    found = read_prediction_file(lines(tmp_path / "q.jsonl", *parts), Keys(prediction="parts.0.text"))
    assert [each.prediction for each in found] == ["休息。"] * times
    with pytest.raises(DataError) as caught:
        read_prediction_file(lines(tmp_path / "r.jsonl", *rows))
    assert (only_fault(caught).key, "messages" in only_fault(caught).problem) == ("prediction", True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("predict;label\n甲;乙\n".encode(), "semicolons"),
        ("predict\tlabel\n甲\t乙\n".encode("utf-16"), "utf-16"),
    ],
)
def test_the_log_of_a_table_names_no_setting_of_a_corpus(
    content: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    with caplog.at_level(logging.INFO):
        (found,) = read_prediction_file(tmp_path / "p.csv")
    assert (found.prediction, found.references) == ("甲", ("乙",))
    assert said in caplog.text
    assert "corpus." not in caplog.text


def as_csv(path: Path) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def as_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    return path


def test_every_form_of_a_file_is_read(tmp_path: Path) -> None:
    found = {
        path.name: [(each.question, each.references, each.prediction) for each in read_prediction_file(path)]
        for path in (
            lines(tmp_path / "a.jsonl", *ROWS),
            lines(tmp_path / "lines.json", *ROWS),
            as_json(tmp_path / "b.json", ROWS),
            as_json(tmp_path / "c.json", {"model": "m", "results": ROWS}),
            as_json(tmp_path / "d.json", {"0": ROWS[0], "1": ROWS[1]}),
            as_csv(tmp_path / "e.csv"),
            as_parquet(tmp_path / "f.parquet"),
        )
    }
    wanted = [("问一", ("乙\n一",), "甲,一"), ("问二", ("乙二",), "")]
    assert found == dict.fromkeys(found, wanted)
    assert [each.id for each in read_prediction_file(tmp_path / "d.json")] == ["0", "1"]


def test_a_table_of_our_own_rows_keeps_numbers_and_several_references(tmp_path: Path) -> None:
    header = "id,references,prediction,hit_limit,reference_nll,reference_tokens"
    (tmp_path / "a.csv").write_text(f'{header}\na,"[""甲"", ""乙""]",丙,True,1.5,3\nb,丁,戊,,,\n', "utf-8")
    first, second = read_prediction_file(tmp_path / "a.csv")
    assert (first.references, first.hit_limit, first.reference_nll, first.reference_tokens) == (
        ("甲", "乙"),
        True,
        1.5,
        3,
    )
    assert (second.references, second.hit_limit, second.reference_nll) == (("丁",), None, None)


def test_keys_can_be_chosen(tmp_path: Path) -> None:
    row = {"k": {"a": ["休息。"]}, "output": "多休息。", "answer": "别的", "头": "头痛怎么办？", "n": 7}
    keys = Keys(prediction="k.a.0", reference="output", question="头", id="n")
    (found,) = read_prediction_file(lines(tmp_path / "p.jsonl", row), keys)
    assert found == Prediction("7", "头痛怎么办？", ("多休息。",), "休息。")


def test_lists_of_labels_are_several_references(tmp_path: Path) -> None:
    (found,) = read_prediction_file(lines(tmp_path / "p.jsonl", {"predict": "甲", "label": ["乙", "丙"]}))
    assert found.references == ("乙", "丙")


@pytest.mark.parametrize(
    ("rows", "code", "key", "line"),
    [
        ([{"output": "甲", "answer": "乙"}], "conflict", "prediction", 1),
        ([{"pred": "甲", "response": "甲", "gold": "乙"}], "conflict", "prediction", 1),
        ([{"predict": "甲"}], "missing-key", "reference", 1),
        ([{"text": "甲"}], "missing-key", "prediction", 1),
        ([{"answer": "甲", "question": "问"}], "missing-key", "prediction", 1),
        ([{"predict": "甲", "label": "乙"}, {"predict": "甲", "target": "乙"}], "missing-key", "label", 2),
        ([{"response": "甲", "labels": "乙"}, {"response": "甲", "labels": None}], "wrong-type", "labels", 2),
        ([{"predict": 3, "label": "乙"}], "wrong-type", "predict", 1),
    ],
)
def test_what_is_unclear_or_missing_is_refused(rows: list[Row], code: str, key: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_prediction_file(lines(tmp_path / "p.jsonl", *rows))
    fault = caught.value.faults[0]
    assert (fault.code, fault.key, fault.line_number, fault.file) == (code, key, line, str(tmp_path / "p.jsonl"))
    assert "_key=KEY" in fault.hint


@pytest.mark.parametrize(
    ("name", "content", "code", "line"),
    [
        ("a.jsonl", b"{", "not-json", 1),
        ("a.jsonl", '{"predict": "甲"}\n'.encode("gb18030"), "not-utf8", 1),
        ("a.json", '[{"predict": "甲", "label": "乙"},\n{"predict": ]'.encode(), "not-json", 2),
        ("a.csv", "predict,label\n甲,乙,丙\n".encode(), "not-csv", 2),
        ("a.csv", 'predict,label\n甲,乙\n丙,"丁\n戊,己\n庚,辛"\n'.encode(), "not-csv", 3),
        ("a.csv", b"", "no-answers", None),
        ("a.jsonl", b"", "no-answers", None),
        ("a.parquet", b"PAR1", "not-parquet", None),
        ("a.jsonl.gz", b"no gzip", "not-readable", None),
    ],
)
def test_a_broken_file_is_refused_by_line(
    name: str, content: bytes, code: str, line: int | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_prediction_file(tmp_path / name)
    fault = only_fault(caught)
    assert (fault.code, fault.line_number, fault.file) == (code, line, str(tmp_path / name))
    assert not str(fault.key).startswith("corpus.")


def test_references_come_from_another_file_by_id(tmp_path: Path) -> None:
    answers = lines(tmp_path / "b.jsonl", batch("休息。"), batch("吃药。") | {"custom_id": "q8"})
    given = lines(tmp_path / "r.jsonl", *({"id": f"q{n}", "question": f"问{n}", "answer": f"答{n}"} for n in (9, 8, 7)))
    with pytest.raises(DataError) as caught:
        read_prediction_file(answers)
    assert "references=FILE" in only_fault(caught).hint
    found = read_prediction_file(answers, references=given)
    assert [(each.id, each.references, each.question, each.prediction) for each in found] == [
        ("q7", ("答7",), "问7", "休息。"), ("q8", ("答8",), "问8", "吃药。"),
    ]  # fmt: skip


def test_a_request_that_failed_is_named(tmp_path: Path) -> None:
    failed = {"custom_id": "q8", "response": None, "error": {"message": "too long"}}
    given = lines(tmp_path / "r.jsonl", *({"id": name, "answer": "答"} for name in ("q7", "q8")))
    with pytest.raises(DataError) as caught:
        read_prediction_file(lines(tmp_path / "b.jsonl", batch("休息。"), failed), references=given)
    fault = only_fault(caught)
    assert (fault.code, fault.line_number) == ("missing-key", 2)
    assert "too long" in fault.problem


def test_references_without_ids_are_matched_row_by_row(tmp_path: Path) -> None:
    answers = lines(tmp_path / "b.jsonl", {"generated_text": "甲"}, {"generated_text": "乙"})
    given = lines(tmp_path / "r.jsonl", {"gold": "丙"}, {"gold": "丁"})
    assert [each.references for each in read_prediction_file(answers, references=given)] == [("丙",), ("丁",)]
    for rows, code in (([{"gold": "丙"}], "answers-lack"), ([], "no-answers")):
        with pytest.raises(DataError) as caught:
            read_prediction_file(answers, references=lines(given, *rows))
        assert only_fault(caught).code == code


def test_an_id_without_reference_is_refused(tmp_path: Path) -> None:
    answers = lines(tmp_path / "b.jsonl", {"id": 1, "pred": "甲"}, {"id": 2, "pred": "乙"})
    given = lines(tmp_path / "r.jsonl", {"id": 1, "gold": "丙"}, {"id": 3, "gold": "丁"})
    with pytest.raises(DataError) as caught:
        read_prediction_file(answers, references=given)
    assert (only_fault(caught).code, only_fault(caught).key, only_fault(caught).file) == (
        "answers-lack", "references", str(given),
    )  # fmt: skip


def test_rows_in_memory_are_read_as_a_file_is() -> None:
    rows = [(1, {"id": "a", "response": "甲", "labels": "乙"})]
    assert predictions_of(rows, Path("answers")) == [Prediction("a", "", ("乙",), "甲")]


def test_the_case_of_another_program(shared: Path) -> None:
    first, second = read_prediction_file(shared / "cases" / "predictions" / "lf.jsonl")
    assert (first.prediction, first.references) == ("建议多饮水，必要时就医。", ("多饮水，注意休息，必要时去医院。",))
    assert second.prediction == ""
