import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.answers import Answer, from_row, read_answers, to_row

GOOD = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@given(
    st.builds(
        Answer,
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
def test_a_row_gives_back_its_answer(answer: Answer) -> None:
    row = json.loads(json.dumps(to_row(answer)))
    assert from_row(row, "file:1") == answer


def test_one_reference_and_several_have_their_own_key() -> None:
    assert to_row(Answer("a", "q", ("r",), "p"))["reference"] == "r"
    assert to_row(Answer("a", "q", ("r", "s"), "p"))["references"] == ["r", "s"]


def test_golden_names_are_taken() -> None:
    assert from_row({"id": "g", "hyp": "甲", "refs": ["乙", "丙"]}, "f:1") == Answer("g", "", ("乙", "丙"), "甲")


def test_missing_id_is_the_line_and_numbers_become_text(tmp_path: Path) -> None:
    rows = [{"reference": "r", "prediction": "p"}, GOOD | {"id": 7}, GOOD | {"id": None}]
    assert [answer.id for answer in read_answers(write(tmp_path / "p.jsonl", *rows))] == ["1", "7", "3"]


def test_empty_texts_are_legal(tmp_path: Path) -> None:
    answers = read_answers(write(tmp_path / "p.jsonl", GOOD | {"reference": "", "prediction": ""}))
    assert answers[0].references == ("",)
    assert answers[0].prediction == ""


def test_byte_order_mark_blank_lines_and_line_separators_inside_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    line = json.dumps(GOOD | {"prediction": "一\u2028二"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n".encode())
    assert read_answers(path)[0].prediction == "一\u2028二"


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (GOOD | {"prediction": None}, "prediction is None"),
        (GOOD | {"prediction": 3}, "prediction is 3"),
        (GOOD | {"prediction": "\ud83d"}, "prediction is"),
        ({"id": "a", "reference": "r"}, "prediction or hyp"),
        (GOOD | {"hyp": "x"}, "prediction or hyp"),
        ({"id": "a", "prediction": "p"}, "reference or references or refs"),
        (GOOD | {"reference": None}, "reference is None"),
        (GOOD | {"reference": ["r"]}, "references"),
        ({"id": "a", "prediction": "p", "references": []}, "references is []"),
        ({"id": "a", "prediction": "p", "references": "r"}, "references is 'r'"),
        ({"id": "a", "prediction": "p", "references": ["r", None]}, "references is None"),
        (GOOD | {"id": ["a"]}, "id is"),
        (GOOD | {"id": True}, "id is True"),
        (GOOD | {"question": 5}, "question is 5"),
        (GOOD | {"hit_limit": 1}, "hit_limit is 1"),
        (GOOD | {"prediction_tokens": -1}, "prediction_tokens is -1"),
        (GOOD | {"prediction_tokens": 1.5}, "prediction_tokens is 1.5"),
        (GOOD | {"prediction_tokens": 2**63}, "prediction_tokens is 9223372036854775808"),
        (GOOD | {"reference_nll": 10**400, "reference_tokens": 2}, "reference_nll is 1000"),
        (GOOD | {"reference_nll": 1.0}, "reference_tokens"),
        (GOOD | {"reference_nll": True, "reference_tokens": 2}, "reference_nll is True"),
        (GOOD | {"reference_nll": 1.0, "reference_tokens": 0}, "reference_tokens is 0"),
    ],
)
def test_bad_rows_are_refused_with_place_and_key(tmp_path: Path, row: object, key: str) -> None:
    path = write(tmp_path / "p.jsonl", GOOD | {"id": "first"}, row)
    with pytest.raises(DataError) as caught:
        read_answers(path)
    assert f"{path}:2: " in str(caught.value)
    assert key in str(caught.value)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no answers"),
        (b"\n\n", "holds no answers"),
        (b'{"id": "a", "prediction"', ":1: not JSON"),
        ("怎么办".encode("gb18030"), ":1: not UTF-8"),
        (json.dumps([GOOD]).encode(), ":1: got"),
        (b"42\n", ":1: got 42"),
        (b'{"a": NaN}\n', "NaN"),
        (b'{"id": "a", "id": "b"}\n', "given twice"),
        (b"[" * 200_000, ":1: not JSON"),
        (b'{"id": ' + b"9" * 6000 + b"}\n", ":1: not JSON"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_answers(path)
    assert message in str(caught.value)


def test_a_message_shows_keys_of_any_number_and_length_in_brief(tmp_path: Path) -> None:
    row = {"[" * 3000: 1} | {str(number): number for number in range(500)}
    with pytest.raises(DataError) as caught:
        read_answers(write(tmp_path / "p.jsonl", row))
    assert len(str(caught.value)) < 500


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "b"}, GOOD)
    with pytest.raises(DataError, match=r":3: id is 'a'.*line 1"):
        read_answers(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_answers(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path)
