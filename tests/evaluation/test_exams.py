"""Exams beside the answers: the perplexity of a text, against transformers' own guide, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation import exams
from medqa_finetune.evaluation.exams import (
    TextExam,
    check_exams,
    hold_exams,
    prepare_text,
    text_corpus,
    text_perplexity,
    text_sha256,
)
from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.record.schema import Record, Score
from tests.commands import TINY, python, train
from tests.config.builders import VALID, changed
from tests.data.files import written
from tests.data.test_text import three_files
from tests.guide import perplexity_of_the_guide

LENGTH = 16
CONTENT = "\n\n".join(f"第{number}段：多休息，多喝水。" for number in range(12))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return written(tmp_path / "book.txt", CONTENT)


def asking(path: Path, **values: Any) -> Config:
    settings = {"text": "text", "text_path": str(path)} | values
    return changed(VALID, train__max_length=LENGTH, **{f"evaluate__{key}": value for key, value in settings.items()})


def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def examined(folder: Path, config: Config) -> Score:
    """The score of a text by the model in a folder."""
    model, tokenizer = loaded(folder)
    text = prepare_text(tokenizer, config)
    assert text is not None
    return text_perplexity(model, text, config.evaluate)


@pytest.mark.parametrize("stride", [None, 8])
def test_it_is_the_perplexity_of_transformers_guide(text: Path, micro_model: Path, stride: int | None) -> None:
    score = examined(micro_model, asking(text, stride=stride))
    expected = perplexity_of_the_guide(micro_model, CONTENT, LENGTH, stride=stride)
    assert score.value == pytest.approx(expected, rel=1e-6)
    start = rf"perplexity|text:blocks|length:{LENGTH}|stride:{stride or LENGTH}|joined:'\n\n'|mean:token|text_sha256:"
    assert score.signature.startswith(start)


def test_as_many_blocks_are_read_as_there_are_samples(text: Path, micro_model: Path) -> None:
    score = examined(micro_model, asking(text, max_samples=2))
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    first = str(tokenizer.decode(tokenizer(CONTENT)["input_ids"][: 2 * LENGTH]))
    assert score.value == pytest.approx(perplexity_of_the_guide(micro_model, first, LENGTH), rel=1e-6)
    assert score.signature.endswith("|n:2")


def test_another_text_has_another_signature(text: Path, micro_model: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.txt", CONTENT + "。")
    signatures = {examined(micro_model, asking(path)).signature for path in (text, other)}
    assert len(signatures) == 2


def test_a_text_of_one_token_is_refused(tmp_path: Path, micro_model: Path) -> None:
    with pytest.raises(DataError, match=r"evaluate.text=text: the test part is a single token"):
        examined(micro_model, asking(written(tmp_path / "a.txt", "a")))


def test_what_is_in_the_record_is_not_measured_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = RunDir(tmp_path / "run"), list[str]()
    run.write(Record("lora_20k", "1", "running", "lora", "20k", "tiny", 0, {}))
    task, perplexity = Score(0.5, "lm-eval"), Score(9.0, "perplexity")

    def tasks(*_: Any) -> dict[str, Score]:
        asked.append("tasks")
        return {"our_exam/acc": task}

    def of_text(*_: Any) -> Score:
        asked.append("text")
        return perplexity

    monkeypatch.setattr(exams, "zero_shot_scores", tasks)
    monkeypatch.setattr(exams, "text_perplexity", of_text)
    exam, settings = TextExam("text", [], "perplexity"), asking(text, zero_shot=["our_exam"]).evaluate
    for _ in range(2):
        hold_exams(None, None, exam, settings, run)
    assert asked == ["tasks", "text"]
    record = run.read()
    assert record is not None
    assert record.zero_shot == {"our_exam/acc": task, "text/perplexity": perplexity}
    # Stopped after the text, with the tasks still to come.
    run.update(zero_shot={"text/perplexity": perplexity})
    hold_exams(None, None, exam, settings, run)
    assert asked == ["tasks", "text", "tasks"]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"text": "huatuo26m_lite"}, ["evaluate.text=huatuo26m_lite", "text, wikitext2", "evaluate.text_path=FILE"]),
        ({"text": "wikitext"}, ["evaluate.text=wikitext", "text, wikitext2"]),
        ({"text_path": None}, ["evaluate.text_path is missing"]),
        ({"text_path": "none.txt"}, ["evaluate.text_path=none.txt: no such file or folder (looked in "]),
        # A hub's data set would be fetched into it.
        ({"text": "wikitext2", "text_path": "none"}, ["evaluate.text_path=none: no such file or folder"]),
    ],
)
def test_a_text_that_is_not_known_is_refused(text: Path, values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_exams(asking(text, **values))
    assert all(part in str(caught.value) for part in parts)


def test_what_is_wrong_with_a_text_is_said_by_its_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "gb.txt"
    path.write_bytes("感冒要多休息，多喝水。".encode("gb18030"))
    with pytest.raises(DataError, match=r"^evaluate\.text: .*gb\.txt.*read as UTF-8; convert it \(iconv -f gb18030"):
        check_exams(asking(path))
    other = written(tmp_path / "rows.jsonl", '{"content": "text"}\n')
    with pytest.raises(DataError, match=r"found: content\.\nCall the column text, or give plain text"):
        check_exams(asking(other))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^evaluate\.text: evaluate\.text_path=.*the folder holds no "):
        check_exams(asking(tmp_path / "empty"))


@pytest.mark.parametrize("name", ['"q".txt', "${oc.env:HOME}.txt", "null", "语料 <script>.txt"])
def test_a_text_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, CONTENT)
    corpus = text_corpus(asking(path).evaluate)
    assert corpus.path == str(path)
    assert text_sha256(asking(path)) is not None


def test_a_text_is_known_by_its_content(text: Path, tmp_path: Path) -> None:
    config = asking(text)
    first = text_sha256(config)
    (tmp_path / "moved").mkdir()
    assert text_sha256(asking(text.rename(tmp_path / "moved" / text.name))) == first
    assert text_sha256(asking(written(text, CONTENT + "。"))) != first
    assert text_sha256(VALID) is None
    # A baseline that loads no model is not examined.
    assert text_sha256(changed(config, method__name="retrieval", method__trains="lookup")) is None


@pytest.mark.slow
def test_another_text_is_another_run_and_one_of_one_token_is_refused_before_training(
    tmp_path: Path, micro_model: Path
) -> None:
    path = written(tmp_path / "book.txt", CONTENT)
    asked = [*TINY, f"model.path={micro_model}", "data=20k", "method=lora", "evaluate.text=text"]
    for content in (CONTENT, CONTENT + "。"):
        written(path, content)
        done = train(*asked, "evaluate.text_path=book.txt", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    runs = [record for run in find_runs(tmp_path / "outputs") if (record := run.read())]
    assert len({run.name for run in runs}) == len({run.identity for run in runs}) == 2
    assert all(re.search(r"__text=book-[0-9a-f]{6}(?:__|$)", run.name) for run in runs)
    # The same text elsewhere is the same run.
    (tmp_path / "other").mkdir()
    path.rename(tmp_path / "other" / "book.txt")
    done = train(*asked, "evaluate.text_path=other/book.txt", cwd=tmp_path)
    assert "done before" in done.stderr

    written(tmp_path / "one.txt", "a")
    done = train(*asked, "evaluate.text_path=one.txt", cwd=tmp_path)
    assert (done.returncode, "the test part is a single token" in done.stderr) == (2, True)
    assert not list((tmp_path / "outputs").glob("**/*text=one*/checkpoints/*"))


@pytest.mark.slow
def test_a_matrix_is_examined_and_its_summary_shows_it(tmp_path: Path, micro_model: Path) -> None:
    folder = three_files(tmp_path / "wikitext-2-raw")
    asked = [*TINY, f"model.path={micro_model}", "data=20k", "train.max_length=64", "evaluate.stride=32",
             "evaluate.text=wikitext2", f"evaluate.text_path={folder}"]  # fmt: skip
    done = train("-m", "method=none,retrieval,lora,qlora", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = {record.method: record for run in find_runs(tmp_path / "outputs") if (record := run.read())}
    # As `datasets` reads it: a line, or nothing where it is blank; joined as in transformers' guide.
    content = "\n\n".join(["Test , \n", "", " one . \n"])
    expected = perplexity_of_the_guide(micro_model, content, 64, stride=32)
    assert records["none"].zero_shot["wikitext2/perplexity"].value == pytest.approx(expected, rel=1e-6)
    assert records["retrieval"].zero_shot == {}
    found = {method: record.zero_shot["wikitext2/perplexity"].value for method, record in records.items()
             if method != "retrieval"}  # fmt: skip
    assert len(set(found.values())) == 3

    done = python("-m", "medqa_finetune.summarize", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wikitext2/perplexity" in done.stdout
    summary = tmp_path / "outputs" / "summary"
    for name in ("results_summary.csv", "results_by_cell.csv", "report.md", "report.html"):
        assert "wikitext2/perplexity" in (summary / name).read_text("utf-8-sig"), name


@pytest.mark.parametrize("sweep", [(), ("-m",)])
def test_a_text_that_is_not_known_is_refused_before_data_is_looked_at(sweep: tuple[str, ...], tmp_path: Path) -> None:
    done = train(*sweep, "profile=demo", "method=lora", "data=20k", "evaluate.text=wikitext", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: evaluate.text=wikitext: allowed are text, wikitext2.")
    assert not list(tmp_path.rglob("*.*"))
