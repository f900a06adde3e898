"""Every form a corpus may come in, and every damage: rows, rejects with a place, or one honest error."""

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data import decode, json_rows
from medqa_finetune.data.ledger import Ledger, Reject
from medqa_finetune.data.pairs import Pair
from medqa_finetune.data.readers import format_of, read_rows
from medqa_finetune.data.row import Row
from medqa_finetune.data.sources import corpus_sha256, read_pairs
from medqa_finetune.errors import DataError

GOOD = {"question": "感冒了怎么办？", "answer": "多喝水，多休息。"}
GOOD_LINE = json.dumps(GOOD, ensure_ascii=False)


def corpus_of(path: Path, **changes: Any) -> CorpusConfig:
    return CorpusConfig(**({"name": "t", "source": "file", "path": str(path)} | changes))


def read(path: Path, **changes: Any) -> tuple[list[Pair], Ledger]:
    ledger = Ledger()
    return list(read_pairs(corpus_of(path, **changes), ledger)), ledger


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rejected(path: Path, **changes: Any) -> list[tuple[str, str]]:
    """Return place and reason of every reject of a file in which anything may be wrong."""
    rejects = path.parent / "r.out"
    with rejects.open("wb") as file:
        list(read_pairs(corpus_of(path, **({"max_reject_share": 1.0} | changes)), Ledger(file)))
    return [(r["place"], r["reason"]) for r in map(json.loads, rejects.read_text("utf-8").split("\n")[:-1])]


# ---------------------------------------------------------------- forms


def test_json_lines_with_places_as_names(tmp_path: Path) -> None:
    pairs, ledger = read(written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n\n{GOOD_LINE}\n"))
    assert pairs == [Pair("a.jsonl:1", *GOOD.values()), Pair("a.jsonl:3", *GOOD.values())]
    assert ledger.counts["rows"] == ledger.counts["pairs"] == 2


@pytest.mark.parametrize("indent", [None, 2])
def test_array_by_either_name(tmp_path: Path, indent: int | None, caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps([GOOD, GOOD], ensure_ascii=False, indent=indent)
    assert [p.id for p in read(written(tmp_path / "a.json", text))[0]] == ["a.json[0]", "a.json[1]"]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert [p.id for p in read(written(tmp_path / "b.jsonl", text))[0]] == ["b.jsonl[0]", "b.jsonl[1]"]
    assert "is a JSON array, not JSON Lines" in caplog.text


def test_json_lines_called_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read(written(tmp_path / "a.json", f"{GOOD_LINE}\n{GOOD_LINE}"))[0]) == 2
    assert "is JSON Lines, not a JSON array" in caplog.text


def test_csv_with_line_breaks_in_quotes_keeps_line_numbers(tmp_path: Path) -> None:
    text = 'question,answer\r\n"头痛\n怎么办","休息\r\n多喝水"\r\n\r\n感冒怎么办,多喝水\r\n'
    pairs, _ = read(written(tmp_path / "a.csv", text))
    assert pairs == [Pair("a.csv:2", "头痛\n怎么办", "休息\n多喝水"), Pair("a.csv:6", "感冒怎么办", "多喝水")]


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["问题一", None], "answer": ["答案一", "答案二"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", max_reject_share=0.5)[0] == [Pair("a.parquet[0]", "问题一", "答案一")]
    assert rejected(tmp_path / "a.parquet") == [("a.parquet[1]", "empty_question")]


def test_not_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        read(written(tmp_path / "a.parquet", "nothing of the kind"))


def test_compressed_files_give_the_same_pairs(tmp_path: Path) -> None:
    data = (GOOD_LINE + "\n").encode() * 3000
    frames = zstandard.ZstdCompressor().compress(data[: len(data) // 2]) + zstandard.compress(data[len(data) // 2 :])
    for name, content in (("a.jsonl", data), ("a.jsonl.gz", gzip.compress(data)), ("a.jsonl.zst", frames)):
        pairs, _ = read(written(tmp_path / name, content))
        assert len(pairs) == 3000
        assert pairs[-1] == Pair(f"{name}:3000", *GOOD.values())


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_data_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    data = "".join(json.dumps(GOOD | {"id": i, "salt": hash((i, "s"))}) + "\n" for i in range(2000)).encode()
    packed = gzip.compress(data) if suffix == "gz" else zstandard.compress(data)
    for cut in (packed[:-1], packed[: len(packed) // 2], packed[:5], b"no such thing" + packed):
        with pytest.raises(DataError, match=rf"a\.jsonl\.{suffix}"):
            read(written(tmp_path / f"a.jsonl.{suffix}", cut))


def test_folder_means_its_known_files_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        written(tmp_path / name, GOOD_LINE + "\n")
    assert [pair.id for pair in read(tmp_path)[0]] == ["a.jsonl:1", "b.jsonl:1"]


def test_format_by_name() -> None:
    assert [format_of(n) for n in ("a.CSV.gz", "a.jsonl.zst", "b.parquet", "b.parquet.gz", "a.pkl", "a.py", "a.bin")] == [
        *("csv", "jsonl", "parquet"), None, None, None, None]  # fmt: skip


def test_u2028_inside_a_text_survives(tmp_path: Path) -> None:
    lines = (GOOD_LINE.replace("感冒", f"感{mark}冒") for mark in ("\u2028", "\u2029"))
    pairs, _ = read(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [pair.question for pair in pairs] == ["感\u2028冒了怎么办？", "感\u2029冒了怎么办？"]


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "big5"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_encodings_and_byte_order_marks(tmp_path: Path, encoding: str, mark: str) -> None:
    row = json.dumps({"question": "感冒怎麼辦", "answer": "多喝水"}, ensure_ascii=False)
    mark = "" if encoding == "big5" else mark  # which cannot write one
    path = written(tmp_path / "a.jsonl", f"{mark}{row}\n{row}\n".encode(encoding))
    assert [p.question for p in read(path, encoding=encoding)[0]] == ["感冒怎麼辦"] * 2


@pytest.mark.parametrize(
    ("real", "given", "guess"),
    [
        ("gb18030", "utf-8", "gb18030"),
        ("utf-16", "utf-8", "utf-16"),
        ("utf-16-le", "utf-8", "utf-16-le"),
        ("utf-16-be", "utf-8", "utf-16-be"),
        ("utf-8", "gb18030", "utf-8"),
        ("utf-8", "utf-16", "utf-8"),
        ("utf-8", "latin-1", "utf-8"),
        ("utf-16-le", "gb18030", "utf-16-le"),
    ],
)
def test_wrong_encoding_is_refused_with_a_guess(tmp_path: Path, real: str, given: str, guess: str) -> None:
    path = written(tmp_path / "a.jsonl", (GOOD_LINE + "\n").encode(real) * 3)
    with pytest.raises(DataError, match=rf"a\.jsonl: byte [\d,]+ \(line \d\).*{given}.*{guess}"):
        read(path, encoding=given)


def test_the_failing_byte_and_line_are_exact(tmp_path: Path) -> None:
    line = (GOOD_LINE + "\n").encode()
    n = decode.CHUNK_BYTES // len(line) + 5
    path = written(tmp_path / "a.jsonl", line * n + b'{"question": "\xff"}\n')
    with pytest.raises(
        DataError, match=rf"byte {len(line) * n + 14:,} \(line {n + 1:,}\): not utf-8.*damaged or mixed"
    ):
        read(path)


def test_a_character_across_two_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CHUNK_BYTES", 7)
    for encoding in ("utf-8", "gb18030", "utf-16-le"):
        path = written(tmp_path / "a.jsonl", (GOOD_LINE + "\n").encode(encoding))
        assert read(path, encoding=encoding)[0] == [Pair("a.jsonl:1", *GOOD.values())]
        with pytest.raises(DataError, match="byte"):
            read(
                written(path, path.read_bytes()[:-4] + b"\xff\xff\xff"),
                encoding=encoding if encoding != "utf-16-le" else "utf-8",
            )


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "zip", "", "undefined"])
def test_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="no text encoding"):
        read(written(tmp_path / "a.jsonl", GOOD_LINE), encoding=encoding)


# ---------------------------------------------------------------- files that cannot be used


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner.jsonl").mkdir(parents=True)
    for path, words in (
        (tmp_path / "none.jsonl", "no such file or folder"),
        (tmp_path / "folder", "the folder holds no .jsonl"),
        (written(tmp_path / "e.jsonl", ""), "the file is empty"),
        (written(tmp_path / "w.jsonl", " \n\n"), "no rows in it"),
        (written(tmp_path / "x.json", "[]"), "no rows in it"),
        (written(tmp_path / "m.jsonl", "\ufeff"), "no rows in it"),
        (written(tmp_path / "h.csv", "question,answer\n"), "no rows in it"),
        (written(tmp_path / "t.txt", GOOD_LINE), "corpus.format=jsonl"),
        (written(tmp_path / "o.json", '{\n "question": 1\n}'), "one JSON object over several lines"),
        (written(tmp_path / "d.csv", "question,answer,answer\na,b,c\n"), "column named twice: answer"),
    ):
        with pytest.raises(DataError, match=words):
            read(path)


def test_missing_column_lists_the_ones_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"instruction": "问题", "output": "答案"}\n' * 3)
    with pytest.raises(
        DataError, match=r"no column 'question'; found: instruction, output\.\nGive corpus.question=COLUMN"
    ):
        read(path)
    with pytest.raises(DataError, match=r"no column 'answer'"):
        read(path, question="instruction")
    with pytest.raises(DataError, match=r"no column 'a' or 'b'"):
        read(path, question=["a", "b"], answer="output")


def test_a_big_file_without_the_column_is_refused_early(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"q": "问题", "answer": "答案"}\n' * 5000)
    ledger = Ledger()
    with pytest.raises(DataError, match="no column 'question'"):
        list(read_pairs(corpus_of(path), ledger))
    assert ledger.counts["rows"] == 1000


def test_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_ROW_CHARS", 1000)
    with pytest.raises(DataError, match=r"a\.jsonl:2: over 1,000 characters"):
        read(written(tmp_path / "a.jsonl", "{}\n" + "x" * 2000))


# ---------------------------------------------------------------- rows that cannot be used


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "问题", "ans', "broken_json"),
        ("[]", "not_an_object"),
        ("42", "not_an_object"),
        ("null", "not_an_object"),
        ('{"question": "问题"}', "missing_column"),
        ('{"question": "问题", "answer": null}', "empty_answer"),
        ('{"question": "问题", "answer": ""}', "empty_answer"),
        ('{"question": " \\u3000\\n", "answer": "答案"}', "empty_question"),
        ('{"question": "\\u200b", "answer": "答案"}', "empty_question"),
        ('{"question": "问题", "answer": "有"}', "one_character_answer"),
        ('{"question": "问", "answer": "答案"}', "one_character_question"),
        ('{"question": "问题", "answer": 42}', "answer_not_text"),
        ('{"question": "问题", "answer": true}', "answer_not_text"),
        ('{"question": {"a": "b"}, "answer": "答案"}', "question_not_text"),
        ('{"question": "问题", "answer": [1, 2]}', "answer_not_text"),
        ('{"question": "问题", "answer": []}', "empty_answer"),
        ('{"question": "问题", "answer": "答案", "score": NaN}', "nan_constant"),
        ('{"question": "问题", "answer": "答案", "score": -Infinity}', "nan_constant"),
        ('{"question": "问题", "answer": "答案", "answer": "另一个"}', "duplicate_key"),
        ('{"question": "问题\\ud83d", "answer": "答案"}', "lone_surrogate"),
        ('{"question": "问题", "answer": "答案", "n": ' + "9" * 5000 + "}", "number_too_long"),
        ('{"question": "问题", "answer": "答案", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "too_deep"),
    ],
)
def test_rejected_row_has_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n{line}\n{GOOD_LINE}\n")
    assert rejected(path) == [("a.jsonl:2", reason)]
    array = written(tmp_path / "a.json", f"[{GOOD_LINE},\n{line}\n,{GOOD_LINE}]") if reason != "broken_json" else None
    assert array is None or rejected(array) == [("a.json[1]", reason)]


def test_torn_last_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" * 3 + GOOD_LINE[:-9])
    assert rejected(path) == [("a.jsonl:4", "torn_last_line")]
    path = written(tmp_path / "a.json", "[" + f"{GOOD_LINE},\n" * 3 + GOOD_LINE[:-9])
    assert rejected(path) == [("a.json[3]", "torn_last_line")]


def test_array_that_cannot_be_divided_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "TORN_CHARS", 100)
    lost_quote = "[" + GOOD_LINE.replace('。"', "。") + f",{GOOD_LINE}" * 50
    for text, words in (
        (lost_quote + "]", "never closed"),
        (f"[{GOOD_LINE}}}, {GOOD_LINE}]", "without its {"),
        (f"[{GOOD_LINE}] {GOOD_LINE}", "outside the array"),
        (f"[{GOOD_LINE}] and more", "after the array's end"),
    ):
        with pytest.raises(DataError, match=words):
            rejected(written(tmp_path / "a.json", text))


def test_broken_element_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CHUNK_BYTES", 5)
    path = written(tmp_path / "a.json", f'[{GOOD_LINE},{{"a" "]}}\\"["}}, 7,{GOOD_LINE},]')
    assert rejected(path) == [("a.json[1]", "broken_json"), ("a.json[2]", "not_an_object")]


def test_csv_rows_that_cannot_be_used(tmp_path: Path) -> None:
    text = 'question,answer\n问题一,答案一\n只有一格\n一,二,三\n"错"引号,答案\n问题二,答案二\n"没有结束,答案\n'
    path = written(tmp_path / "a.csv", text)
    assert rejected(path) == [
        ("a.csv:3", "wrong_number_of_cells"),
        ("a.csv:4", "wrong_number_of_cells"),
        ("a.csv:5", "broken_csv"),
        ("a.csv:7", "broken_csv"),
    ]
    path = written(tmp_path / "a.csv", 'question,answer\n"从这里,开始\n' + "问题,答案\n" * 500)
    with pytest.raises(DataError, match=r"a\.csv:2: .*never closed"):
        read(path)


def test_share_of_broken_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" * 98 + "oops\n" + '{"question": "问题", "answer": null}\n')
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert (
        "2 of 100 rows cannot be used (empty_answer 1, broken_json 1)" in message
        or "broken_json 1, empty_answer 1" in message
    )
    assert "a.jsonl:99 broken_json" in message
    assert len(message.splitlines()) == 2
    assert len(read(path, max_reject_share=0.02)[0]) == 98


def test_one_character_answers_are_cleaning_and_not_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f"{GOOD_LINE}\n" + '{"question": "问题", "answer": "A"}\n' * 9)
    pairs, ledger = read(path)
    assert len(pairs) == 1
    assert ledger.counts["dropped_one_character_answer"] == 9
    assert ledger.broken == 0


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 3 rows gives a pair"):
        read(written(tmp_path / "a.jsonl", '{"question": "问题", "answer": "A"}\n' * 3))


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("cell", "text", "count"),
    [
        (["答案"], "答案", None),
        ([["答案"]], "答案", None),
        (["", None, "答案", "别的"], "答案", "lists_of_several"),
        ([["答案", "别的"], ["三"]], "答案", "lists_of_several"),
        ("['多喝水', '多休息']", "多喝水、多休息", "python_list_texts"),
        ("['多喝水']", "多喝水", "python_list_texts"),
        ("[{'a': ['b']}]", "[{'a': ['b']}]", None),
        ("['没有结束]", "['没有结束]", None),
        ("['\\d', 1]", "['\\d', 1]", None),
        ('["a", "b"]', '["a", "b"]', None),
        ("好<|im_end|>的", "好<| im_end |>的", "chat_tokens_neutralised"),
    ],
)
def test_odd_cells(tmp_path: Path, cell: Any, text: str, count: str | None) -> None:
    path = written(tmp_path / "a.jsonl", json.dumps({"question": "问题", "answer": cell}) + "\n")
    pairs, ledger = read(path)
    assert [pair.answer for pair in pairs] == [text]
    assert {name for name in ledger.counts if name not in ("rows", "pairs")} == ({count} if count else set())


def test_several_columns_empty_values_prefixes_and_suffixes(tmp_path: Path) -> None:
    rows = [
        {"title": "问题：标题", "ask": "正文\n回答: ", "answer": "答：答案"},
        {"title": "只有标题", "ask": "无", "answer": "答案"},
        {"title": "一样的", "ask": "一样的", "answer": "答案"},
        {"ask": "没有标题", "answer": "答案"},
        {"title": "标题", "ask": "正文", "answer": " 无 "},
    ]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "question": ["title", "ask"],
        "empty_values": ["无"],
        "question_prefix": "问题[：:]",
        "question_suffix": r"\n回答[：:]\s*",
        "answer_prefix": "答：",
    }
    pairs, _ = read(path, max_reject_share=0.2, **changes)
    assert [pair.question for pair in pairs] == ["标题\n正文", "只有标题", "一样的", "没有标题"]
    assert pairs[0].answer == "答案"
    assert rejected(path, **changes) == [("a.jsonl:5", "empty_answer")]


def test_columns_inside_lists_and_objects(tmp_path: Path) -> None:
    row = {"conversations": [{"value": "问题"}, {"value": "答案"}], "a.b": "点"}
    path = written(tmp_path / "a.jsonl", json.dumps(row) + "\n" + '{"conversations": []}\n')
    pairs, _ = read(path, question="conversations.0.value", answer="conversations.1.value", max_reject_share=0.5)
    assert [(p.question, p.answer) for p in pairs] == [("问题", "答案")]


def test_ids_are_unique(tmp_path: Path) -> None:
    ids: list[Any] = ["x", 7, "x", None, "", [1], True, "a\nb", "7"]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(GOOD | {"id": i}) + "\n" for i in ids) + GOOD_LINE)
    pairs, ledger = read(path, id="id")
    assert [p.id for p in pairs] == ["x", "7", *(f"a.jsonl:{n}" for n in range(3, 11))]
    assert ledger.counts["rows_named_after_their_place"] == 7


@pytest.mark.parametrize("key", ["question_prefix", "question_suffix", "answer_prefix"])
def test_not_a_regular_expression(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match=rf"corpus\.{key}='\(': not a regular expression"):
        read(written(tmp_path / "a.jsonl", GOOD_LINE), **{key: "("})


def test_unknown_source() -> None:
    with pytest.raises(DataError, match="allowed are embedded, file, hub"):
        list(read_pairs(CorpusConfig(name="t", source="cloud"), Ledger()))


def test_embedded_corpus() -> None:
    pytest.importorskip("medqa_finetune.data.embedded")
    corpus = CorpusConfig(name="embedded", source="embedded")
    ledger = Ledger()
    pairs = list(read_pairs(corpus, ledger))
    assert len(pairs) > 100
    assert ledger.broken == 0
    assert corpus_sha256(corpus) == corpus_sha256(corpus)


# ---------------------------------------------------------------- hash


def test_corpus_hash_covers_bytes_names_and_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", GOOD_LINE)
    first = corpus_sha256(corpus_of(path))
    assert first == corpus_sha256(corpus_of(path))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert corpus_sha256(corpus_of(written(moved / "a.jsonl", GOOD_LINE))) == first
    assert corpus_sha256(corpus_of(written(moved / "b.jsonl", GOOD_LINE))) != first
    assert corpus_sha256(corpus_of(moved)) != first
    written(path, GOOD_LINE + "\n")
    assert corpus_sha256(corpus_of(path)) != first


# ---------------------------------------------------------------- any bytes


@given(content=st.binary(max_size=400), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet", "a.csv.gz", "a.json.zst"]),
       encoding=st.sampled_from(["utf-8", "gb18030", "utf-16", "latin-1", "utf-7"]))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_bytes_give_rows_rejects_or_an_error(tmp_path: Path, content: bytes, name: str, encoding: str) -> None:
    check_rows(written(tmp_path / name, content), encoding)


TEXTS = st.lists(
    st.sampled_from(
        [*'{}[]",:\n\\ 12', "null", '"question"', '"answer"', GOOD_LINE, "\ud83d", "\u2028", "\r\n", "\ufeff", "NaN"]
    ),
    max_size=40,
).map("".join)


@given(text=TEXTS, name=st.sampled_from(["a.jsonl", "a.json", "a.csv"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=500)
def test_any_json_like_text(tmp_path: Path, text: str, name: str) -> None:
    check_rows(written(tmp_path / name, text.encode("utf-8", "replace")), "utf-8")


def check_rows(path: Path, encoding: str) -> None:
    rows: Iterator[Row | Reject]
    try:
        rows = read_rows(path, path.name, "auto", encoding)
        found = list(rows)
        ledger = Ledger((path.parent / "rejects").open("wb"))
        with ledger._rejects:  # type: ignore[union-attr]
            list(read_pairs(corpus_of(path, encoding=encoding), ledger))
    except DataError as error:
        assert str(error).encode()
        assert len(str(error).splitlines()) <= 2
    else:
        assert all(isinstance(row, Row | Reject) for row in found)


@given(rows=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=4)),
       indent=st.sampled_from([None, 1]), chunk=st.integers(1, 30))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_array_scanner_agrees_with_json(tmp_path: Path, rows: list[Any], indent: int | None, chunk: int) -> None:
    path = written(tmp_path / "a.json", json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "CHUNK_BYTES", chunk)
        found = list(json_rows.read_json_array(path, "a", "utf-8"))
    assert [row.values for row in found if isinstance(row, Row)] == rows
