"""The commands as functions: typed results, the command line's own core and run folders, errors instead of exits."""

import dataclasses
import inspect
import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import medqa_finetune
from medqa_finetune import chat, evaluate, finetune
from medqa_finetune.api import Evaluated, Finetuned
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ConfigError, DataError, MedQAError, ModelError
from medqa_finetune.record.run_dir import RunDir
from tests.chatting.runs import write_run
from tests.commands import ROOT, python, train

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
IMPORTS = (
    "from medqa_finetune import evaluate, chat, finetune",
    "import medqa_finetune.evaluate",
    "import medqa_finetune.chat, medqa_finetune.train",
    "from medqa_finetune.evaluate import main, evaluate as door",
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
        if "door" in namespace:
            assert namespace["door"].__module__ == "medqa_finetune.evaluate"
        if "module" in namespace:
            assert namespace["module"].USAGE.startswith("Score answers")
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
    with pytest.raises(AttributeError, match="has no attribute 'fine_tune'"):
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
    row = json.loads((run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    talk = run.chat(temperature=0.0)
    assert talk.manner.max_new_tokens == 8
    assert talk.ask(row["question"]) == chat(run.path).ask(row["question"])
    assert len(talk.turns) == 1
    model, tokenizer = run.load()
    assert not hasattr(model, "peft_config")  # merged, in fp32
    assert tokenizer.chat_template


def test_a_run_is_scored_again(run: Finetuned) -> None:
    for subject in (run, run.path, str(run.path)):
        scored = evaluate(subject)
        assert scored.scores == run.scores
        assert len(scored.answers) == scored.record.n == 2


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


def test_a_model_in_memory_is_talked_to_and_examined_as_it_is(micro_model: Path) -> None:
    model, tokenizer = load(micro_model)
    said = chat(model, tokenizer=tokenizer, max_new_tokens=8).ask("头痛怎么办？")
    assert said == chat(micro_model, max_new_tokens=8).ask("头痛怎么办？")
    asked = [("头痛怎么办？", "休息。")]
    assert evaluate(model, asked, tokenizer=tokenizer, max_new_tokens=8).answers[0].prediction == said
    assert evaluate(micro_model, asked, max_new_tokens=8).answers[0].prediction == said


def test_a_corpus_and_a_model_may_be_named(tmp_path: Path) -> None:
    from medqa_finetune.inputs import choose_corpus, choose_method, choose_model
    from medqa_finetune.matrix.calling import compose_cell

    choices = {
        "model": choose_model("tiny", None, tmp_path),
        "corpus": choose_corpus("embedded", tmp_path),
        "method": choose_method("qlora"),
    }
    settings = {"outputs": str(tmp_path), "profile": "demo", "data": "20k", "seed": 3, "train": {"epochs": 1.0}}
    config = compose_cell(choices, settings).config
    assert (config.train_size, config.test_size, config.train.batch_size, config.train.epochs) == (200, 100, 8, 1.0)
    assert (config.method.quantization, config.seed) == ("nf4", 3)
    assert config.run_name == "qlora_20k__seed=3__train.epochs=1.0"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"model": "nowhere"}, ModelError, "model.path=nowhere: no such folder"),
        ({"model": "nowhere", "pairs": PAIRS[:2]}, ModelError, "model.path=nowhere: no such folder"),
        ({"pairs": None}, DataError, "got None"),
        ({"outputs": __file__}, ConfigError, "is not a folder"),
        ({"outputs": "/proc/none"}, MedQAError, "/proc/none"),
        ({"model": 7}, ModelError, "a name, a folder or a model of transformers is wanted, got int"),
        ({"pairs": "nowhere.jsonl"}, DataError, "corpus.path=nowhere.jsonl: no such file"),
        ({"pairs": []}, DataError, "pairs: there are none"),
        ({"pairs": PAIRS[:2]}, DataError, "3 are wanted"),
        ({"method": "lara"}, ConfigError, "method=lara: allowed are"),
        ({"method": {"ranks": 8}}, ConfigError, "ranks"),
        ({"method": {"rank": 0}}, ConfigError, "method.rank=0"),
        ({"method": {"rank": "eight"}}, ConfigError, "method.rank"),
        ({"train": {"epoch": 1}}, ConfigError, "train.epoch"),
        ({"sed": 1}, ConfigError, "sed"),
        ({"data": "21k"}, ConfigError, "data=21k: allowed are"),
        ({"precision": "fp8"}, ConfigError, "precision=fp8"),
        ({"data": {"train_size": 5000}}, DataError, "data.train_size=5,000"),
        ({"model": "nowhere", "tokenizer": 7}, ModelError, "tokenizer= is for a model in memory"),
    ],
)
def test_what_cannot_be_used_raises_and_leaves_no_run(
    options: dict[str, Any], error: type[MedQAError], says: str, micro_model: Path, tmp_path: Path
) -> None:
    call: dict[str, Any] = {"model": micro_model, "pairs": PAIRS, "outputs": tmp_path, "tracker": "none"} | options
    with pytest.raises(error, match=says):
        finetune(**call)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda base: chat("nowhere"), ModelError, "no such folder"),
        (lambda base: chat(base, load_in_4bit=True, load_in_8bit=True), ConfigError, "one of them"),
        (lambda base: chat(base, temperature=-1), ConfigError, "temperature=-1"),
        (lambda base: chat(base, max_new_tokens=0), ConfigError, "max_new_tokens=0"),
        (lambda base: chat(base, adapter="nowhere"), ModelError, "adapter=nowhere"),
        (lambda base: chat(object()), ModelError, "got object"),  # type: ignore[arg-type]
        (evaluate, DataError, "pairs= is missing: a model wants questions"),
        (lambda base: evaluate("nowhere.jsonl"), DataError, "no such file"),
        (lambda base: evaluate([{"prediction": "a"}]), DataError, "answers:1"),
        (lambda base: evaluate(base, PAIRS, max_tokens=3), ConfigError, "max_tokens"),
        (lambda base: evaluate(base, PAIRS, backend="vllm"), ConfigError, "backend=vllm: it answers for runs alone"),
        (lambda base: evaluate(base, PAIRS, max_new_tokens=0), ConfigError, "evaluate.max_new_tokens=0"),
        (lambda base: evaluate(base, PAIRS, metrics=["rogue"]), ConfigError, "evaluate.metrics=rogue"),
        (lambda base: evaluate(object()), DataError, "pairs= is missing"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_talked_to_or_scored_raises(
    call: Any, error: type[MedQAError], says: str, micro_model: Path
) -> None:
    with pytest.raises(error, match=says):
        call(micro_model)


def test_a_run_has_its_own_adapter(micro_model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", micro_model)
    with pytest.raises(ConfigError, match="a run has its own"):
        chat(run.path, adapter=tmp_path)


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
