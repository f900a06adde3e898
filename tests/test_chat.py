"""`chat` by its real command line; the conversation in a terminal is in `test_chat_terminal.py`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.chat import USAGE, ChatOptions, chat, find_sources
from medqa_finetune.errors import NO_VALUE, ConfigError, MedQAError
from medqa_finetune.evaluation.rescore import find_by_name
from medqa_finetune.record.run_dir import RunDir, find_runs
from tests.chatting.runs import change_record, write_run
from tests.commands import ROOT, TINY, python, timed, train
from tests.faulty import only_fault

TEXT = ("-m", "medqa_finetune.chat")


@pytest.fixture(scope="module")
def runs(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    place = tmp_path_factory.mktemp("outputs")
    return [write_run(place / name, micro_model, seed=seed) for seed, name in enumerate(("lora_20k", "lora_50k"))]


def test_help_answers_at_once_and_names_every_key(tmp_path: Path) -> None:
    done, seconds = timed(*TEXT, "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout[: len(USAGE)]) == (0, USAGE)
    assert seconds < 2
    keys = ChatOptions.__dataclass_fields__
    assert [key for key in keys if f"{key}=" not in USAGE] == []


@pytest.mark.parametrize(
    ("arguments", "code", "key", "got"),
    [
        ([], "missing-key", None, NO_VALUE),
        (["run=a", "runs=b"], "conflict", "runs", "b"),
        (["run=a", "adapter=b"], "conflict", "adapter", "b"),
        (["run=a", "load_in_4bit=true", "load_in_8bit=true"], "conflict", "load_in_8bit", True),
        (["run=a", "mode=talk"], "not-allowed", "mode", "talk"),
        (["run=a", "precision=fp8"], "not-allowed", "precision", "fp8"),
        (["run=a", "mode=demo", "format=xml"], "not-allowed", "format", "xml"),
        (["run=a", "mode=demo", "prompt=b"], "conflict", "prompt", "b"),
        (["run=a", "questions=b"], "conflict", "questions", "b"),
        (["run=a", "format=json"], "conflict", "format", "json"),
        (["run=a", "seed=-1"], "out-of-range", "seed", -1),
        (["run=a", "threads=0"], "out-of-range", "threads", 0),
        (["run=a", "port=80"], "out-of-range", "port", 80),
        (["run=[a,]"], "wrong-type", "run", "[a,]"),
        (["runs=nowhere/*"], "no-match", "runs", "nowhere/*"),
        (["run=nowhere"], "not-a-run", "run", "nowhere"),
        (["model=nowhere"], "model-missing", "model", "nowhere"),
        (["model=tiny", "adapter=nowhere"], "file-missing", "adapter", "nowhere"),
        (["run=[a,b]", "mode=interactive"], "not-a-run", "run", "a"),
    ],
)
def test_what_is_impossible_is_named(
    arguments: list[str], code: str, key: str | None, got: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedQAError) as caught:
        chat(arguments)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"mode": "talk"}, ("interactive", "demo", "text", "web")),
        ({"mode": "demo", "format": "xml"}, ("text", "json")),
        ({"precision": "fp8"}, ("auto", "bf16", "fp16", "fp32")),
    ],
)
def test_what_is_allowed_is_listed(options: dict[str, Any], allowed: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        ChatOptions(run="a", **options)
    assert only_fault(caught).allowed == allowed


@pytest.mark.parametrize("typed", ["promt=b", "temperature=-0.1", "temperature=.nan", "top_p=0", "max_new_tokens=0"])
def test_unknown_keys_and_impossible_sampling_are_refused(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chat(["run=a", typed])
    assert typed.partition("=")[0] in only_fault(caught).line()


def test_an_adapter_alone_names_no_model() -> None:
    with pytest.raises(ConfigError) as caught:
        ChatOptions(adapter="b")
    assert [(fault.code, fault.key) for fault in caught.value.faults] == [
        ("missing-key", None),
        ("conflict", "adapter"),
    ]


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ChatOptions(run="a", mode="b", format="c", port=1)
    assert [(fault.code, fault.key) for fault in caught.value.faults] == [
        ("not-allowed", "mode"), ("not-allowed", "format"), ("out-of-range", "port"),
    ]  # fmt: skip


def test_a_conversation_is_with_one(runs: list[RunDir]) -> None:
    with pytest.raises(ConfigError) as caught:
        chat([f"runs={runs[0].path.parent}/*", "mode=interactive"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("too-many", "mode", "interactive")
    assert "mode=demo" in fault.hint


def test_runs_are_found_by_pattern_or_list(runs: list[RunDir]) -> None:
    place = runs[0].path.parent
    (place / "summary").mkdir(exist_ok=True)
    by_pattern = find_sources(ChatOptions(runs=f"{place}/*"))
    by_list = find_sources(ChatOptions(run=f"[{place}/lora_20k, {place}/lora_50k]"))
    assert [source.name for source in by_pattern] == ["lora_20k", "lora_50k"]
    assert by_pattern == by_list


def test_runs_of_one_name_are_told_apart(runs: list[RunDir]) -> None:
    path = runs[0].path
    assert [source.name for source in find_sources(ChatOptions(run=f"[{path},{path}]"))] == [str(path)] * 2


def test_an_unfinished_run_is_refused_by_name(micro_model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, micro_model)
    change_record(RunDir(tmp_path / "two"), status="failed")
    with pytest.raises(MedQAError) as caught:
        find_sources(ChatOptions(run=f"[{tmp_path}/one,{tmp_path}/two]"))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("run-not-done", "run", f"{tmp_path}/two")
    assert "The command that started it" in fault.hint


def test_unusable_matches_are_reported_and_skipped(
    micro_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, micro_model)
    failure = {"kind": "RunError", "message": "the loss became nan", "final": True}
    change_record(RunDir(tmp_path / "two"), status="failed", failure=failure)
    options = ChatOptions(runs=f"{tmp_path}/*")
    assert [source.name for source in find_sources(options)] == ["one"]
    said = capsys.readouterr().err
    assert said.startswith(f"left out: run={tmp_path}/two: ")
    assert "the loss became nan" in said
    assert "The command that started it" not in said
    change_record(RunDir(tmp_path / "one"), status="interrupted")
    with pytest.raises(MedQAError) as caught:
        find_sources(options)
    assert [(fault.code, fault.got) for fault in caught.value.faults] == [
        ("run-not-done", f"{tmp_path}/one"), ("run-not-done", f"{tmp_path}/two"),
    ]  # fmt: skip


def test_broken_questions_are_refused_before_torch(runs: list[RunDir], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom medqa_finetune.chat import chat\n"
        "try: chat(sys.argv[1:])\n"
        "except Exception as error: print(error.faults[0].code, error.faults[0].got, 'torch' in sys.modules)"
    )
    arguments = (f"run={runs[0].path}", "mode=demo", "questions=none.txt")
    done = python("-c", code, *arguments, cwd=tmp_path)
    assert done.stdout == "not-readable none.txt False\n"


def test_without_gradio_the_web_says_what_to_install(runs: list[RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError) as caught:
        chat([f"run={runs[0].path}", "mode=web"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-installed", "mode", "web")
    assert "pip install 'medqa_finetune[web]'" in fault.hint


@pytest.mark.slow
@pytest.mark.parametrize("how", ["prompt", "dash", "pipe"])
def test_standard_output_is_the_answer_alone(how: str, runs: list[RunDir], tmp_path: Path) -> None:
    question = "感冒了怎么办？"
    typed = {"prompt": [f"prompt={question}"], "dash": ["prompt=-"], "pipe": []}[how]
    done = subprocess.run(
        [sys.executable, *TEXT, f"run={runs[0].path}", "threads=1", *typed],
        input=b"" if how == "prompt" else question.encode(), capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    from medqa_finetune import chat as talk_to

    assert done.stdout.decode() == talk_to(runs[0].path).ask(question) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize(("piped", "says"), [(b" \n", "prompt=TEXT"), (b"\xb8\xd0", "PYTHONIOENCODING")])
def test_a_pipe_that_holds_no_question_is_refused(piped: bytes, says: str, runs: list[RunDir]) -> None:
    done = subprocess.run(
        [sys.executable, *TEXT, f"run={runs[0].path}"], input=piped, capture_output=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr.decode()


@pytest.mark.slow
def test_an_insufficient_encoding_is_refused(runs: list[RunDir], tmp_path: Path) -> None:
    done = python(*TEXT, f"run={runs[0].path}", "prompt=头痛", cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "PYTHONIOENCODING=utf-8" in done.stderr


@pytest.mark.slow
def test_a_demo_asks_every_run_the_same(runs: list[RunDir], tmp_path: Path) -> None:
    (tmp_path / "问题.txt").write_text("头痛\n感冒怎么办？\n", encoding="utf-8")
    arguments = (*TEXT, f"runs={runs[0].path.parent}/*", "mode=demo", "questions=问题.txt", "threads=1")
    rows = [json.loads(line) for line in python(*arguments, "format=json", cwd=tmp_path).stdout.splitlines()]
    assert [row["question"] for row in rows] == ["头痛", "感冒怎么办？"]
    assert all(list(row["answers"]) == ["lora_20k", "lora_50k"] for row in rows)
    assert rows[0]["answers"]["lora_20k"] != rows[0]["answers"]["lora_50k"]
    table = python(*arguments, cwd=tmp_path, COLUMNS="120").stdout
    assert "不构成医疗建议" in table
    assert "lora_50k" in table


@pytest.mark.slow
def test_a_chat_repeats_a_runs_predictions(micro_model: Path, tmp_path: Path) -> None:
    done = train(
        *TINY, f"model.path={micro_model}", "method=lora", "data=20k", "evaluate.batch_size=1",
        "train.learning_rate=0.05", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    predicted = {row["question"]: row["prediction"] for row in find_by_name(run).read_predictions()}
    (tmp_path / "questions.jsonl").write_text(
        "".join(json.dumps({"question": question}) + "\n" for question in predicted), encoding="utf-8"
    )
    asked = python(*TEXT, f"run={run.path}", "mode=demo", "format=json", "questions=questions.jsonl", cwd=tmp_path)
    rows: list[dict[str, Any]] = [json.loads(line) for line in asked.stdout.splitlines()]
    assert {row["question"]: row["answers"][run.path.name] for row in rows} == predicted
    assert len(predicted) == 4
