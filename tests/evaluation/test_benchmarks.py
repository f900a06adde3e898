"""Benchmarks: the perplexity of a text, against transformers' own guide, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from medqa_finetune.config.schema import Config
from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation import benchmarks
from medqa_finetune.evaluation.benchmarks import (
    TextBenchmark,
    check_benchmarks,
    prepare_text,
    run_benchmarks,
    text_corpus,
    text_perplexity,
    text_sha256,
)
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import find_runs
from medqa_finetune.record.schema import Evaluation, Score
from tests.commands import TINY, files_below, python, train
from tests.config.builders import VALID, changed
from tests.data.files import written
from tests.data.test_text import three_files
from tests.faulty import only_fault
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


def measured(folder: Path, config: Config) -> Score:
    """The score of a text by the model in a folder."""
    model, tokenizer = loaded(folder)
    text = prepare_text(tokenizer, config)
    assert text is not None
    return text_perplexity(model, text, config.evaluate)


@pytest.mark.parametrize("stride", [None, 8])
def test_it_is_the_perplexity_of_transformers_guide(text: Path, micro_model: Path, stride: int | None) -> None:
    score = measured(micro_model, asking(text, stride=stride))
    expected = perplexity_of_the_guide(micro_model, CONTENT, LENGTH, stride=stride)
    assert score.value == pytest.approx(expected, rel=1e-6)
    start = rf"perplexity|text:blocks|length:{LENGTH}|stride:{stride or LENGTH}|joined:'\n\n'|mean:token|text_sha256:"
    assert score.signature.startswith(start)


def test_as_many_blocks_are_read_as_there_are_samples(text: Path, micro_model: Path) -> None:
    score = measured(micro_model, asking(text, max_samples=2))
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    first = str(tokenizer.decode(tokenizer(CONTENT)["input_ids"][: 2 * LENGTH]))
    assert score.value == pytest.approx(perplexity_of_the_guide(micro_model, first, LENGTH), rel=1e-6)
    assert score.signature.endswith("|n:2")


def test_another_text_has_another_signature(text: Path, micro_model: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.txt", CONTENT + "。")
    signatures = {measured(micro_model, asking(path)).signature for path in (text, other)}
    assert len(signatures) == 2


def test_a_text_of_one_token_is_refused(tmp_path: Path, micro_model: Path) -> None:
    with pytest.raises(DataError) as caught:
        measured(micro_model, asking(written(tmp_path / "a.txt", "a")))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("text-too-short", "evaluate.text", "text")


def test_what_is_in_the_record_is_not_measured_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = EvaluationDir(tmp_path / "default"), list[str]()
    folder.write(Evaluation("default", "1", "running", {"zero_shot": ["our_task"], "text": "text"}))
    task, perplexity = Score(0.5, "lm-eval"), Score(9.0, "perplexity|text_sha256:0|n:1")

    def tasks(*_: Any) -> dict[str, Score]:
        asked.append("tasks")
        return {"our_task/acc": task}

    def of_text(*_: Any) -> Score:
        asked.append("text")
        return perplexity

    monkeypatch.setattr(benchmarks, "zero_shot_scores", tasks)
    monkeypatch.setattr(benchmarks, "text_perplexity", of_text)
    benchmark, settings = TextBenchmark("text", [], "perplexity"), asking(text, zero_shot=["our_task"]).evaluate
    for _ in range(2):
        run_benchmarks(None, None, benchmark, settings, folder)
    assert asked == ["tasks", "text"]
    evaluation = folder.read()
    assert evaluation is not None
    assert evaluation.exams == {"our_task/acc": task, "text/perplexity": perplexity}
    # Stopped after the text, with the tasks still to come.
    folder.update(exams={"text/perplexity": perplexity})
    run_benchmarks(None, None, benchmark, settings, folder)
    assert asked == ["tasks", "text", "tasks"]


@pytest.mark.parametrize(
    ("values", "code", "key"),
    [
        ({"text": "huatuo26m_lite"}, "not-allowed", "evaluate.text"),
        ({"text": "wikitext"}, "not-allowed", "evaluate.text"),
        ({"text_path": None}, "missing-key", "evaluate.text_path"),
        ({"text_path": "none.txt"}, "file-missing", "evaluate.text_path"),
        # A hub's data set would be fetched into it.
        ({"text": "wikitext2", "text_path": "none"}, "file-missing", "evaluate.text_path"),
    ],
)
def test_a_text_that_is_not_known_is_refused(text: Path, values: dict[str, Any], code: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_benchmarks(asking(text, **values))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == (code, key)
    if code == "not-allowed":
        assert (fault.got, fault.allowed) == (values["text"], ("text", "wikitext2"))
        assert "evaluate.text_path=FILE" in fault.hint
    elif code == "file-missing":
        assert fault.got == values["text_path"]


def test_what_is_wrong_with_a_text_is_said_by_its_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "gb.txt"
    path.write_bytes("感冒要多休息，多喝水。".encode("gb18030"))
    with pytest.raises(DataError) as caught:
        check_benchmarks(asking(path))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.file) == ("wrong-encoding", "evaluate.text_path", str(path))
    assert "iconv -f gb18030" in fault.hint
    other = written(tmp_path / "rows.jsonl", '{"content": "text"}\n')
    with pytest.raises(DataError) as caught:
        check_benchmarks(asking(other))
    fault = only_fault(caught)
    assert (fault.code, fault.key) == ("column-missing", "evaluate.text_path")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        check_benchmarks(asking(tmp_path / "empty"))
    assert only_fault(caught).key == "evaluate.text_path"


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
    # A baseline that loads no model is not evaluated, and shares the evaluation of its matrix all the same.
    lookup = changed(asking(text), method__name="retrieval", method__trains="lookup")
    assert text_sha256(lookup) == text_sha256(asking(text))
    check_benchmarks(lookup)


@pytest.mark.slow
def test_another_text_is_another_evaluation_and_one_of_one_token_is_refused(tmp_path: Path, micro_model: Path) -> None:
    path = written(tmp_path / "book.txt", CONTENT)
    asked = [*TINY, f"model.path={micro_model}", "data=20k", "method=lora", "evaluate.text=text"]
    for content in (CONTENT, CONTENT + "。"):
        written(path, content)
        done = train(*asked, "evaluate.text_path=book.txt", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    assert "book" not in run.path.name
    record = run.read()
    assert record is not None
    found = [evaluation for folder in evaluation_dirs(run, record) if (evaluation := folder.read())]
    assert len({each.name for each in found}) == len({each.identity for each in found}) == 2
    assert all(re.search(r"(?:^|__)text=book-[0-9a-f]{6}(?:__|$)", each.name) for each in found)
    scores = [(name, score) for each in found for name, score in each.exams.items()]
    assert len(set(scores)) == 2
    # The same text elsewhere is the same evaluation.
    (tmp_path / "other").mkdir()
    path.rename(tmp_path / "other" / "book.txt")
    done = train(*asked, "evaluate.text_path=other/book.txt", cwd=tmp_path)
    assert "done before" in done.stderr

    before = files_below(run.adapter_path)
    written(tmp_path / "one.txt", "a")
    done = train(*asked, "evaluate.text_path=one.txt", cwd=tmp_path)
    assert (done.returncode, "evaluate.text" in done.stderr) == (2, True)
    (refused,) = run.evaluations_path.glob("max*text=one*")
    evaluation = EvaluationDir(refused).read()
    assert evaluation is not None
    assert (evaluation.status, evaluation.exams) == ("failed", {})
    assert files_below(run.adapter_path) == before
    assert run.read() == record


@pytest.mark.slow
def test_a_text_of_one_token_is_refused_before_anything_is_trained(tmp_path: Path, micro_model: Path) -> None:
    written(tmp_path / "one.txt", "a")
    asked = [*TINY, f"model.path={micro_model}", "data=20k", "method=lora", "evaluate.text=text"]
    done = train(*asked, "evaluate.text_path=one.txt", cwd=tmp_path)
    assert (done.returncode, "evaluate.text" in done.stderr) == (2, True)
    assert not list((tmp_path / "outputs").glob("**/checkpoints/*"))
    assert not list((tmp_path / "outputs").glob("**/adapter"))


@pytest.mark.slow
def test_a_matrix_is_evaluated_and_its_summary_shows_it(tmp_path: Path, micro_model: Path) -> None:
    folder = three_files(tmp_path / "wikitext-2-raw")
    asked = [*TINY, f"model.path={micro_model}", "data=20k", "train.max_length=64", "evaluate.stride=32",
             "evaluate.text=wikitext2", f"evaluate.text_path={folder}"]  # fmt: skip
    done = train("-m", "method=none,retrieval,lora,qlora", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = {record.method: record for run in find_runs(tmp_path / "outputs") if (record := run.read())}
    # As `datasets` reads it: a line, or nothing where it is blank; joined as in transformers' guide.
    content = "\n\n".join(["Test , \n", "", " one . \n"])
    expected = perplexity_of_the_guide(micro_model, content, 64, stride=32)
    (benchmark,) = records["none"].zero_shot
    assert re.fullmatch(r"wikitext-2-raw-[0-9a-f]{6}/perplexity", benchmark)  # of files of one's own
    assert records["none"].zero_shot[benchmark].value == pytest.approx(expected, rel=1e-6)
    assert records["retrieval"].zero_shot == {}
    found = {method: record.zero_shot[benchmark].value for method, record in records.items() if method != "retrieval"}
    assert len(set(found.values())) == 3

    done = python("-m", "medqa_finetune.summarize", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert benchmark in done.stdout
    summary = tmp_path / "outputs" / "summary"
    for name in ("results_summary.csv", "results_by_cell.csv", "report.md", "report.html"):
        assert benchmark in (summary / name).read_text("utf-8-sig"), name


@pytest.mark.parametrize("sweep", [(), ("-m",)])
def test_a_text_that_is_not_known_is_refused_before_data_is_looked_at(sweep: tuple[str, ...], tmp_path: Path) -> None:
    done = train(*sweep, "profile=demo", "method=lora", "data=20k", "evaluate.text=wikitext", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: evaluate.text=wikitext: ")
    assert not list(tmp_path.rglob("*.*"))
