"""The commands as functions: typed results, the command line's own core and run folders, errors instead of exits."""

import dataclasses
import importlib.util
import inspect
import itertools
import json
import os
import re
import signal
import threading
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import medqa_finetune
from medqa_finetune import chat, evaluate, finetune
from medqa_finetune.api import Evaluated, Finetuned
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import NO_VALUE, ConfigError, DataError, Fault, MedQAError, ModelError
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import EvaluationRecord, Record, Score
from tests.chatting.runs import write_run
from tests.commands import ROOT, files_below, python, train
from tests.faulty import only_fault

PAIRS = [
    (f"{place}{kind}怎么办？", f"{place}要休息，多喝水。")
    for place, kind in itertools.product("头腹胸腰腿背", "痛痒麻酸")
]
# An experiment of seconds.
BRIEF: dict[str, Any] = {
    "train": {
        "max_steps": 3,
        "max_length": 128,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "gradient_checkpointing": False,
    },
    "evaluate": {"max_new_tokens": 8},
    "tracker": "none",
    "threads": 1,
}
NAME = "max_new_tokens=8"  # of its evaluation
IMPORTS = (
    "from medqa_finetune import evaluate, chat, finetune",
    "import medqa_finetune.evaluate",
    "import medqa_finetune.chat, medqa_finetune.train",
    "from medqa_finetune.evaluate import main, evaluate as command",
    "import importlib; module = importlib.import_module('medqa_finetune.evaluate')",
    "import medqa_finetune.api",
)


@pytest.mark.parametrize("order", list(itertools.permutations(IMPORTS, 2)), ids="; ".join)
def test_the_functions_are_what_is_imported_whatever_was_imported_before(order: tuple[str, str]) -> None:
    assert_functions("\n".join(order))


def assert_functions(code: str) -> None:
    """Run the imports in fresh namespaces of one fresh package; a process each would take a minute."""
    import sys

    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "medqa_finetune"}
    for name in kept:
        del sys.modules[name]
    try:
        namespace: dict[str, Any] = {}
        exec(code, namespace)  # noqa: S102 (the imports above)
        exec("from medqa_finetune import evaluate, chat, finetune", namespace)  # noqa: S102
        for name in ("evaluate", "chat", "finetune"):
            assert inspect.isfunction(namespace[name])
            assert namespace[name].__module__ == "medqa_finetune.api"
        if "command" in namespace:
            assert namespace["command"].__module__ == "medqa_finetune.evaluate"
        if "module" in namespace:
            assert "run=DIR" in namespace["module"].USAGE
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "medqa_finetune"]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "peft", "hydra", "pandas")
    code = (
        f"import sys, medqa_finetune\nfrom medqa_finetune import finetune\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert python("-c", code, cwd=tmp_path).stdout == "[]\n"


def test_the_package_knows_no_other_names() -> None:
    with pytest.raises(AttributeError, match="fine_tune"):
        _ = medqa_finetune.fine_tune
    assert {"chat", "evaluate", "finetune"} == set(medqa_finetune.__all__)
    assert (ROOT / "medqa_finetune" / "py.typed").is_file()


@pytest.fixture(scope="module")
def run(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    return finetune(micro_model, PAIRS, {"name": "lora", "rank": 8}, outputs=tmp_path_factory.mktemp("api"), **BRIEF)


def test_a_run_is_returned_with_its_scores(run: Finetuned) -> None:
    assert run.record.status == "done"
    assert {"rouge1", "rougeL", "bleu", "perplexity"} <= run.scores.keys()
    assert run.path.name.startswith("lora_all__model=")
    assert "method.rank=8" in run.path.name
    manifest = run.record.data_manifest
    assert manifest is not None
    assert (manifest.validation.n, manifest.test.n) == (2, 2)
    assert manifest.train.n + manifest.counts.get("training_pairs_near_held_out", 0) <= 20
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.path = Path()  # type: ignore[misc]


def test_the_same_call_again_touches_nothing(run: Finetuned, micro_model: Path) -> None:
    before = (run.path / "record.json").stat().st_mtime_ns
    again = finetune(micro_model, PAIRS, {"name": "lora", "rank": 8}, outputs=run.path.parent, **BRIEF)
    assert again == run
    assert (run.path / "record.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_command_line_finds_the_same_run_done(run: Finetuned, micro_model: Path, tmp_path: Path) -> None:
    pairs = next((run.path.parent / "cache").glob("pairs-*/pairs.jsonl"))
    done = train(
        "model=local", f"model.path={micro_model}", "corpus=jsonl", f"corpus.path={pairs}", "data=all",
        "data.validation_size=2", "data.test_size=2", "method=lora", "method.rank=8", "tracker=none", "threads=1",
        "train.max_steps=3", "train.max_length=128", "train.batch_size=8", "train.learning_rate=5e-3",
        "train.gradient_checkpointing=false", "evaluate.max_new_tokens=8", f"outputs={run.path.parent}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done before, nothing to do" in done.stderr
    assert str(run.path) in done.stderr


def test_a_run_answers(run: Finetuned) -> None:
    row = json.loads(predictions(run, NAME).splitlines()[0])
    talk = run.chat(temperature=0.0)
    assert talk.sampling.max_new_tokens == 8
    assert talk.ask(row["question"]) == chat(run.path).ask(row["question"])
    assert len(talk.turns) == 1
    model, tokenizer = run.load()
    assert not hasattr(model, "peft_config")  # merged, in fp32
    assert tokenizer.chat_template


def predictions(run: Finetuned, evaluation: str) -> str:
    return (run.path / "evaluations" / evaluation / "predictions.jsonl").read_text(encoding="utf-8")


def test_a_run_is_scored_again(run: Finetuned) -> None:
    for subject in (run, run.path, str(run.path)):
        scored = evaluate(subject)
        assert scored.scores == run.scores
        assert len(scored.answers) == scored.record.n == 2


def test_a_run_is_evaluated_again_in_another_way(run: Finetuned) -> None:
    record = (run.path / "record.json").read_bytes()
    few = evaluate(run, max_new_tokens=8, max_samples=1)
    assert (few.record.n, [answer.prediction for answer in few.answers]) == (
        1, [answer.prediction for answer in evaluate(run).answers if answer.id == few.answers[0].id],
    )  # fmt: skip
    long = evaluate(run.path, max_new_tokens=10, metrics=("rouge", "distinct"))
    assert long.scores.keys() == {"rouge1", "rouge2", "rougeL", "distinct2"}
    assert len(long.answers) == long.record.n == 2
    assert all(answer.prediction_tokens == 10 or not answer.hit_limit for answer in long.answers)
    names = (NAME, "max_new_tokens=10__metrics=distinct+rouge", "max_new_tokens=8__max_samples=1")
    assert run.evaluations == names
    # Nothing was trained, and the run's own scores are still those of its first evaluation.
    assert (run.path / "record.json").read_bytes() == record
    before = {name: predictions(run, name) for name in names}
    assert evaluate(run, max_samples=1, max_new_tokens=8) == few
    assert {name: predictions(run, name) for name in names} == before


def test_a_run_is_evaluated_on_a_text(run: Finetuned, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("感冒要多休息，多喝水。\n" * 30, encoding="utf-8")
    result = evaluate(run, text="text", text_path=tmp_path / "book.txt", max_new_tokens=8)
    ((name, score),) = result.exams.items()
    assert (name.startswith("book-"), name.endswith("/perplexity"), score.value > 1) == (True, True, True)
    assert name in repr(result)
    # The answers are those that were there.
    assert result.scores == run.scores


def test_a_run_answers_other_questions(run: Finetuned) -> None:
    result = evaluate(run, [("感冒怎么办？", "休息。"), {"question": "咳嗽怎么办？", "answer": "喝水。"}])
    assert isinstance(result, Evaluated)
    assert [answer.question for answer in result.answers] == ["感冒怎么办？", "咳嗽怎么办？"]
    assert result.answers[0].prediction == chat(run).ask("感冒怎么办？")
    assert result.scores["perplexity"].value > 1
    assert result.record.n == 2


def test_answers_from_elsewhere_are_scored(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "感冒怎么办？", "reference": "多休息。", "prediction": "多休息。"},
        {"question": "头痛？", "references": ["就医。"], "prediction": ""},
    ]
    assert evaluate(rows).scores["rougeL"].value == pytest.approx(50.0)
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(rows)), encoding="utf-8")
    assert evaluate(path).scores == evaluate(rows).scores
    assert "bleu" not in evaluate(rows, metrics=["rouge"]).scores


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "qlora", MethodConfig(name="small", rank=2)], ids=str)
def test_a_model_in_memory_is_trained_by_every_method_and_not_changed(
    method: Any, micro_model: Path, tmp_path: Path
) -> None:
    import torch

    model, tokenizer = load(micro_model)
    before = [parameter.clone() for parameter in model.parameters()]
    result = finetune(model, PAIRS, method, tokenizer=tokenizer, outputs=tmp_path, **BRIEF)
    assert result.record.status == "done"
    assert result.path.name.startswith("small_" if isinstance(method, MethodConfig) else f"{method}_")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not hasattr(model, "peft_config")
    assert result.chat().ask("头痛怎么办？") is not None


def test_a_model_in_memory_is_talked_to_and_evaluated_as_it_is(micro_model: Path) -> None:
    model, tokenizer = load(micro_model)
    said = chat(model, tokenizer=tokenizer, max_new_tokens=8).ask("头痛怎么办？")
    assert said == chat(micro_model, max_new_tokens=8).ask("头痛怎么办？")
    asked = [("头痛怎么办？", "休息。")]
    assert evaluate(model, asked, tokenizer=tokenizer, max_new_tokens=8).answers[0].prediction == said
    assert evaluate(micro_model, asked, max_new_tokens=8).answers[0].prediction == said


def test_a_corpus_and_a_model_may_be_named(tmp_path: Path) -> None:
    from medqa_finetune.api_inputs import choose_corpus, choose_method, choose_model
    from medqa_finetune.launch.compose import compose_cell

    choices = {
        "model": choose_model("tiny", None, tmp_path),
        "corpus": choose_corpus("embedded_held_out", tmp_path),
        "method": choose_method("qlora"),
    }
    settings = {"outputs": str(tmp_path), "profile": "demo", "data": "20k", "seed": 3, "train": {"epochs": 1.0}}
    config = compose_cell(choices, settings).config
    assert (config.train_size, config.test_size, config.train.batch_size, config.train.epochs) == (200, 200, 8, 1.0)
    assert (config.method.quantization, config.seed) == ("nf4", 3)
    assert config.run_name == "qlora_n200__seed=3__train.epochs=1.0"


@pytest.mark.parametrize(
    ("options", "error", "key", "got"),
    [
        ({"model": "nowhere"}, ModelError, "model.path", "nowhere"),
        ({"model": "nowhere", "pairs": PAIRS[:2]}, ModelError, "model.path", "nowhere"),
        ({"pairs": None}, DataError, "pairs", None),
        ({"outputs": __file__}, ConfigError, "outputs", __file__),
        ({"outputs": "/proc/none"}, MedQAError, "outputs", "/proc/none"),
        ({"model": 7}, ModelError, "model", "int"),
        ({"pairs": "nowhere.jsonl"}, DataError, "corpus.path", "nowhere.jsonl"),
        ({"pairs": []}, DataError, "pairs", NO_VALUE),
        ({"pairs": PAIRS[:2]}, DataError, "pairs", NO_VALUE),
        ({"method": "lara"}, ConfigError, "method", "lara"),
        ({"method": {"ranks": 8}}, ConfigError, "method.ranks", NO_VALUE),
        ({"method": {"rank": 0}}, ConfigError, "method.rank", 0),
        ({"method": {"rank": "eight"}}, ConfigError, "method.rank", "eight"),
        ({"train": {"epoch": 1}}, ConfigError, "train.epoch", NO_VALUE),
        ({"sed": 1}, ConfigError, "sed", NO_VALUE),
        ({"data": "21k"}, ConfigError, "data", "21k"),
        ({"precision": "fp8"}, ConfigError, "precision", "fp8"),
        ({"data": {"train_size": 5000}}, DataError, "data.train_size", 5000),
        ({"model": "nowhere", "tokenizer": 7}, ModelError, "tokenizer", NO_VALUE),
    ],
)
def test_what_cannot_be_used_raises_and_leaves_no_run(
    options: dict[str, Any], error: type[MedQAError], key: str, got: Any, micro_model: Path, tmp_path: Path
) -> None:
    call: dict[str, Any] = {"model": micro_model, "pairs": PAIRS, "outputs": tmp_path, "tracker": "none"} | options
    with pytest.raises(error) as caught:
        finetune(**call)
    fault = only_fault(caught)
    assert (fault.key, fault.got) == (key, got)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("call", "error", "code", "key"),
    [
        (lambda base: chat("nowhere"), ModelError, "model-missing", "model"),
        (lambda base: chat(base, load_in_4bit=True, load_in_8bit=True), ConfigError, "conflict", None),
        (lambda base: chat(base, temperature=-1), ConfigError, "out-of-range", "temperature"),
        (lambda base: chat(base, max_new_tokens=0), ConfigError, "out-of-range", "max_new_tokens"),
        (lambda base: chat(base, adapter="nowhere"), ModelError, "file-missing", "adapter"),
        (lambda base: chat(object()), ModelError, "wrong-type", "model"),  # type: ignore[arg-type]
        (evaluate, DataError, "missing-key", "pairs"),
        (lambda base: evaluate("nowhere.jsonl"), DataError, "file-missing", None),
        (lambda base: evaluate([{"prediction": "a"}]), DataError, "missing-key", "reference"),
        (lambda base: evaluate(base, PAIRS, max_tokens=3), ConfigError, "unknown-key", "max_tokens"),
        (lambda base: evaluate(base, max_tokens=3), ConfigError, "unknown-key", "max_tokens"),
        (lambda base: evaluate(base, PAIRS, backend="vllm"), ConfigError, "not-allowed", "backend"),
        (lambda base: evaluate(base, PAIRS, max_new_tokens=0), ConfigError, "out-of-range", "evaluate.max_new_tokens"),
        (lambda base: evaluate(base, PAIRS, metrics=["rogue"]), ConfigError, "not-allowed", "evaluate.metrics"),
        (lambda base: evaluate(object()), DataError, "missing-key", "pairs"),  # type: ignore[arg-type]
        # Settings of an evaluation are those of a run, or of questions.
        (lambda base: evaluate(base, max_samples=1), DataError, "missing-key", "pairs"),
        (lambda base: evaluate([{"prediction": "a"}], max_samples=1), ConfigError, "conflict", "max_samples"),
        (lambda base: evaluate("nowhere", max_samples=1), DataError, "not-a-run", "run"),
    ],
)
def test_what_cannot_be_talked_to_or_scored_raises(
    call: Any, error: type[MedQAError], code: str, key: str | None, micro_model: Path
) -> None:
    with pytest.raises(error) as caught:
        call(micro_model)
    assert (only_fault(caught).code, only_fault(caught).key) == (code, key)


def test_a_run_has_its_own_adapter(micro_model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", micro_model)
    for call in (lambda: chat(run.path, adapter=tmp_path), lambda: evaluate(run.path, adapter=tmp_path, max_samples=1)):
        with pytest.raises(ConfigError) as caught:
            call()
        assert (only_fault(caught).code, only_fault(caught).key) == ("conflict", "adapter")


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"max_samples": 0}, "evaluate.max_samples"), ({"max_samples": "few"}, "evaluate.max_samples"),
     ({"metrics": ["rogue"]}, "evaluate.metrics"), ({"text": "rogue"}, "evaluate.text"),
     ({"stride": 8}, "evaluate.stride"), ({"precision": "fp16", "max_samples": 1}, "precision")],
    ids=str,
)  # fmt: skip
def test_an_evaluation_of_a_run_that_cannot_be_is_refused(run: Finetuned, settings: dict[str, Any], key: str) -> None:
    before = files_below(run.path)
    with pytest.raises(ConfigError) as caught:
        evaluate(run, **({"max_new_tokens": 9} | settings))
    assert only_fault(caught).key == key
    assert files_below(run.path) == before


# What a prompt and a notebook show.


def test_a_run_fits_a_screen(run: Finetuned) -> None:
    lines = repr(run).splitlines()
    assert (len(lines) <= 10, max(map(len, lines)) <= 100) == (True, True)
    text = repr(run)
    for part in ("[done]", "lora_all", f"rougeL {run.scores['rougeL'].value:.2f}", "n 2", NAME, "folder:"):
        assert part in text
    evaluated = evaluate(run)
    assert repr(evaluated).splitlines() == [repr(evaluated)]
    assert f"bleu {run.scores['bleu'].value:.2f}" in repr(evaluated)


def made_up(tmp_path: Path, **changes: Any) -> Finetuned:
    scores = {"<b>rouge</b>": Score(1.0, "a|\"b\"|'\\n'"), "\x1b[31m": Score(2.0, "<script>")}
    fields: dict[str, Any] = {
        "name": "lora_20k__" + "药" * 300, "identity": "i", "status": "done", "method": "lora", "data": "20k",
        "model": "m", "seed": 0, "config": {}, "evaluation": EvaluationRecord(n=2, scores=scores),
    }  # fmt: skip
    return Finetuned(Record(**fields | changes), tmp_path / ("f" * 200))


def test_whatever_is_in_a_record_a_run_fits_a_screen_and_is_safe_to_show(tmp_path: Path) -> None:
    for run in (made_up(tmp_path), made_up(tmp_path, evaluation=None), made_up(tmp_path, status="failed")):
        lines = repr(run).splitlines()
        assert (len(lines) <= 10, max(map(len, lines)) <= 100) == (True, True)
        html = run._repr_html_()
        for text in (repr(run), html):
            assert "\x1b" not in text
        assert "<b>" not in html
        assert "<script>" not in html
        assert html.count("<") == html.count(">")
    assert made_up(tmp_path).evaluations == ()


def test_a_notebook_shows_every_score_with_its_signature(run: Finetuned) -> None:
    for shown in (run, evaluate(run)):
        html = shown._repr_html_()
        assert html.startswith("<table>")
        rows = dict(re.findall(r'<tr title="[^"]*"><td>([^<]*)</td><td>([^<]*)</td></tr>', html))
        assert rows == {name: f"{score.value:.2f}" for name, score in shown.scores.items()}
        titles = re.findall(r'<tr title="([^"]*)">', html)
        assert sorted(map(unescape, titles)) == sorted(score.signature for score in shown.scores.values())


def test_an_error_in_a_notebook_is_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError(Fault("a", "first", key="k", got=1), Fault("b", "second"))
    assert error._render_traceback_() == ["ConfigError: k=1: first.\nsecond."]
    if importlib.util.find_spec("IPython") is None:
        pytest.skip("IPython is not installed")
    InteractiveShell = importlib.import_module("IPython.core.interactiveshell").InteractiveShell  # noqa: N806
    shell = InteractiveShell.instance()
    try:
        done = shell.run_cell("from medqa_finetune import evaluate; evaluate('nowhere.jsonl')")
    finally:
        InteractiveShell.clear_instance()
    assert isinstance(done.error_in_exec, DataError)
    shown = capsys.readouterr().out
    assert "nowhere.jsonl" in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) <= 3


@pytest.mark.slow
def test_ctrl_c_is_one_of_pythons_own_and_the_call_goes_on_later(micro_model: Path, tmp_path: Path) -> None:
    brief = BRIEF | {"train": {**BRIEF["train"], "max_steps": 200, "epochs": 100.0, "logging_steps": 1}}

    def press() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.rglob("metrics.jsonl")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        finetune(micro_model, PAIRS, outputs=tmp_path, **brief)
    (path,) = (path.parent for path in tmp_path.rglob("record.json"))
    record = RunDir(path).read()
    assert record is not None
    assert record.status == "interrupted"
    result = finetune(micro_model, PAIRS, outputs=tmp_path, **brief)
    assert result.path == path
    assert result.record.resumed_from


@pytest.mark.slow
def test_it_works_inside_a_program_of_hydra(micro_model: Path, tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("a: 1\n", encoding="utf-8")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        finetune(micro_model, PAIRS, outputs=tmp_path / "outputs", **BRIEF)
        assert GlobalHydra.instance().is_initialized()
        assert compose("mine").a == 1
