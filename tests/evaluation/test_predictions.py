import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.errors import NO_VALUE, DataError
from medqa_finetune.evaluation.predictions import Prediction, from_row, read_predictions, to_row
from tests.faulty import only_fault

GOOD = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@given(
    st.builds(
        Prediction,
        id=text,
        question=text,
        references=st.lists(text, min_size=1, max_size=3).map(tuple),
        prediction=text,
        hit_limit=st.none() | st.booleans(),
        prediction_tokens=st.none() | st.integers(0, 10**6),
        reference_nll=st.just(12.5),
        reference_tokens=st.integers(1, 100),
    )
)
def test_a_row_gives_back_its_answer(answer: Prediction) -> None:
    row = json.loads(json.dumps(to_row(answer)))
    assert from_row(row, ("file", 1)) == answer


def test_one_reference_and_several_have_their_own_key() -> None:
    assert to_row(Prediction("a", "q", ("r",), "p"))["reference"] == "r"
    assert to_row(Prediction("a", "q", ("r", "s"), "p"))["references"] == ["r", "s"]


def test_golden_names_are_taken() -> None:
    row = {"id": "g", "hyp": "甲", "refs": ["乙", "丙"]}
    assert from_row(row, ("f", 1)) == Prediction("g", "", ("乙", "丙"), "甲")


def test_missing_id_is_the_line_and_numbers_become_text(tmp_path: Path) -> None:
    rows = [{"reference": "r", "prediction": "p"}, GOOD | {"id": 7}, GOOD | {"id": None}]
    assert [answer.id for answer in read_predictions(write(tmp_path / "p.jsonl", *rows))] == ["1", "7", "3"]


def test_empty_texts_are_legal(tmp_path: Path) -> None:
    answers = read_predictions(write(tmp_path / "p.jsonl", GOOD | {"reference": "", "prediction": ""}))
    assert answers[0].references == ("",)
    assert answers[0].prediction == ""


def test_byte_order_mark_blank_lines_and_line_separators_inside_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    line = json.dumps(GOOD | {"prediction": "一\u2028二"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n".encode())
    assert read_predictions(path)[0].prediction == "一\u2028二"


@pytest.mark.parametrize(
    ("row", "code", "key", "got"),
    [
        (GOOD | {"prediction": None}, "wrong-type", "prediction", None),
        (GOOD | {"prediction": 3}, "wrong-type", "prediction", 3),
        (GOOD | {"prediction": "\ud83d"}, "lone-surrogate", "prediction", "\ud83d"),
        ({"id": "a", "reference": "r"}, "missing-key", "prediction", NO_VALUE),
        (GOOD | {"hyp": "x"}, "conflict", "prediction", NO_VALUE),
        ({"id": "a", "prediction": "p"}, "missing-key", "reference", NO_VALUE),
        (GOOD | {"reference": None}, "wrong-type", "reference", None),
        (GOOD | {"reference": ["r"]}, "wrong-type", "reference", ["r"]),
        ({"id": "a", "prediction": "p", "references": []}, "wrong-type", "references", []),
        ({"id": "a", "prediction": "p", "references": "r"}, "wrong-type", "references", "r"),
        ({"id": "a", "prediction": "p", "references": ["r", None]}, "wrong-type", "references", None),
        (GOOD | {"id": ["a"]}, "wrong-type", "id", ["a"]),
        (GOOD | {"id": True}, "wrong-type", "id", True),
        (GOOD | {"question": 5}, "wrong-type", "question", 5),
        (GOOD | {"hit_limit": 1}, "wrong-type", "hit_limit", 1),
        (GOOD | {"prediction_tokens": -1}, "out-of-range", "prediction_tokens", -1),
        (GOOD | {"prediction_tokens": 1.5}, "out-of-range", "prediction_tokens", 1.5),
        (GOOD | {"prediction_tokens": 2**63}, "out-of-range", "prediction_tokens", 2**63),
        (GOOD | {"reference_nll": 10**400, "reference_tokens": 2}, "out-of-range", "reference_nll", 10**400),
        (GOOD | {"reference_nll": 1.0}, "missing-key", "reference_nll", 1.0),
        (GOOD | {"reference_nll": True, "reference_tokens": 2}, "wrong-type", "reference_nll", True),
        (GOOD | {"reference_nll": 1.0, "reference_tokens": 0}, "out-of-range", "reference_tokens", 0),
    ],
)
def test_bad_rows_are_refused_with_place_and_key(tmp_path: Path, row: object, code: str, key: str, got: object) -> None:
    path = write(tmp_path / "p.jsonl", GOOD | {"id": "first"}, row)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert (fault.file, fault.line_number) == (str(path), 2)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "no-answers"),
        (b"\n\n", "no-answers"),
        (b'{"id": "a", "prediction"', "not-json"),
        ("怎么办".encode("gb18030"), "not-utf8"),
        (json.dumps([GOOD]).encode(), "wrong-type"),
        (b"42\n", "wrong-type"),
        (b'{"a": NaN}\n', "not-json"),
        (b'{"id": "a", "id": "b"}\n', "not-json"),
        (b"[" * 200_000, "not-json"),
        (b'{"id": ' + b"9" * 6000 + b"}\n", "not-json"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    fault = only_fault(caught)
    assert (fault.code, fault.file) == (code, str(path))
    assert fault.line_number == (None if code == "no-answers" else 1)
    assert fault.hint


def test_a_message_shows_keys_of_any_number_and_length_in_brief(tmp_path: Path) -> None:
    row = {"[" * 3000: 1} | {str(number): number for number in range(500)}
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path / "p.jsonl", row))
    assert len(str(caught.value)) < 500


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "b"}, GOOD)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, fault.line_number) == ("repeated", "id", "a", 3)
    assert "line 1" in fault.problem


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "none.jsonl", "file-missing"), (tmp_path, "not-readable")):
        with pytest.raises(DataError) as caught:
            read_predictions(path)
        assert (only_fault(caught).code, only_fault(caught).file) == (code, str(path))
