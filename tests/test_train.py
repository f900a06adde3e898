"""`train` by its real command line: help, and bad input of every kind."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medqa_finetune.child_process import faults_file, read_faults
from medqa_finetune.config.groups import conf_folder, option_names
from medqa_finetune.errors import NO_VALUE, Fault
from tests.commands import ROOT, TINY, python, timed, train

GROUPS = sorted({path.parent.relative_to(conf_folder()).as_posix() for path in conf_folder().glob("*/**/*.yaml")})


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = train("--help", cwd=tmp_path_factory.mktemp("help"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("matrix", [(), ("-m",)])
@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_setting_in_vain_is_said_before_a_missing_model(
    command: str, matrix: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = (*matrix, "method=full", "method.rank=8", "model.path=nowhere")
    done = python("-m", f"medqa_finetune.{command}", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "method.rank" in done.stderr
    assert "model.path" not in done.stderr


def test_help_is_printed_without_loading_what_is_slow() -> None:
    code = (
        "import sys; from medqa_finetune.train import train; train(['--help'])\n"
        "print([m for m in ('torch', 'transformers', 'hydra', 'pandas', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("group", GROUPS)
def test_help_lists_every_choice_of_every_group(group: str, help_text: str) -> None:
    listed = help_text.split(f"\n  {group}=\n")[1].partition("\n\n")[0]
    assert [line.split()[0].lstrip("*") for line in listed.splitlines()] == option_names(group)
    assert all(len(line.split()) > 1 for line in listed.splitlines())


@pytest.mark.parametrize("choice", ["lora", "20k", "qwen2.5-3b", "huatuo26m_lite", "tensorboard"])
def test_help_marks_the_defaults(choice: str, help_text: str) -> None:
    assert f"*{choice} " in help_text


@pytest.mark.parametrize("arguments", [["-h"], ["-m", "--help"], ["data=20k", "-h"]])
def test_help_is_given_wherever_it_is_asked_for(arguments: list[str], help_text: str, tmp_path: Path) -> None:
    assert train(*arguments, cwd=tmp_path).stdout == help_text


class Refused(NamedTuple):
    """A fault: its code, its key, the value got, and what is allowed or advised."""

    code: str
    key: str | None
    got: Any = NO_VALUE
    says: str = ""


def train_with_faults(*arguments: str, cwd: Path) -> "tuple[subprocess.CompletedProcess[str], list[Fault]]":
    """Run the command, and return how it ended with the faults that it left for whoever started it."""
    with faults_file() as left:
        done = python("-m", "medqa_finetune.train", *arguments, cwd=cwd, MEDQA_FAULTS_FILE=str(left))
        return done, read_faults(left)


METHODS = "full lora none qlora qlora_8bit"
# Misspelt keys, values out of range, and missing files, models and variables are in `scripts/bad_input_cases/`.
BAD_INPUT: list[tuple[list[str], list[Refused]]] = [
    (["study=../elsewhere", "method.name=a/b", "evaluate.metrics=[rouge,blue]", "evaluate.max_samples=0"],
     [Refused("bad-name", "method.name", "a/b"),
      Refused("bad-name", "study", "../elsewhere"),
      Refused("out-of-range", "evaluate.max_samples", 0),
      Refused("not-allowed", "evaluate.metrics", "blue", "bleu char_bleu")]),
    (["train=null"], [Refused("not-allowed", "train", None, "default")]),
    (["method=lora,qlora"], [Refused("several-values", "method", "lora,qlora", "--multirun")]),
    (["model.path=."], [Refused("file-missing", None)]),
    (["run_name=mine"], [Refused("name-given", "run_name", "mine", "study=NAME")]),
    (["evaluation_name=mine"], [Refused("name-given", "evaluation_name", "mine")]),
    (["outputs="], [Refused("bad-path", "outputs", "")]),
    (["-m", "data=20k,30k"], [Refused("not-allowed", "data", "30k", "20k 50k")]),
    (["-m", "train.epochs=1,-1", "evaluate.max_samples=1,0"],
     [Refused("out-of-range", "evaluate.max_samples", 0), Refused("out-of-range", "train.epochs", -1.0)]),
    (["-m", "seed=0,1", "+foo=1"], [Refused("unknown-key", "foo")]),
    (["-m", "method=null,lora"], [Refused("not-allowed", "method", None, METHODS)]),
    (["-m", "outputs=file", "seed=0,1"], [Refused("not-a-folder", "outputs", "file")]),
    (["-m", "corpus=jsonl", "corpus.path=nowhere.jsonl"],
     [Refused("file-missing", "corpus.path", "nowhere.jsonl")]),
    (["-m", "method.rank=0,-1"],
     [Refused("out-of-range", "method.rank", 0), Refused("out-of-range", "method.rank", -1)]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "refused"), BAD_INPUT, ids=[" ".join(arguments) for arguments, _ in BAD_INPUT])
def test_bad_input_is_refused_briefly_and_nothing_is_written(
    arguments: list[str], refused: list[Refused], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    micro_model: Path,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    typed = (*TINY, f"model.path={micro_model}", "method=lora", "data=20k", *arguments)
    done, faults = train_with_faults(*typed, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2 + len(refused)
    assert "Traceback" not in done.stderr
    assert [(each.code, each.key, each.got) for each in faults] == [(each.code, each.key, each.got) for each in refused]
    for fault, each in zip(faults, refused, strict=True):
        assert fault.line() in done.stderr
        assert all(word in fault.allowed or word in fault.hint for word in each.says.split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_default_command_without_weights_says_what_to_do(tmp_path: Path) -> None:
    done, seconds = timed("-m", "medqa_finetune.train", cwd=tmp_path)
    assert done.returncode == 2
    assert seconds < 5
    assert "`medqa-download model=qwen2.5-3b`" in done.stderr
    assert "profile=demo" in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def test_chinese_paths_columns_and_outputs_need_no_quotes(tmp_path: Path, micro_model: Path) -> None:
    corpus = tmp_path / "问答 数据.jsonl"
    rows = [
        {"标题": f"第{number}个问题：孩子发烧{number}天怎么办？", "答案": f"休息{number}天。"} for number in range(60)
    ]
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    done = train(
        *TINY, f"model.path={micro_model}", "method=lora", "corpus=jsonl", f"corpus.path={corpus}",
        "corpus.question=[标题]", "corpus.answer=答案", "corpus.id=null", "outputs=输出", "data=20k",
        "data.near_duplicate_threshold=1.0", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "输出").rglob("record.json"))) == 1
    assert len(list((tmp_path / "输出").rglob("evaluation.json"))) == 1


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"name: 'unclosed\n", "not-yaml", 2),
        (b"- 1\n", "wrong-type", None),
        (b"42\n", "not-a-mapping", None),
        (b"name: \xff\n", "not-utf8", None),
        (b"[" * 5000, "too-deep", None),
        (b"name: &a [*a]\n", "too-deep", None),
    ],
)
def test_a_broken_yaml_of_the_user_is_refused(content: bytes, code: str, line: int | None, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "data" / "bad.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    done, faults = train_with_faults("--config-dir", "mine", "profile=demo", "data=bad", cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = faults
    assert (fault.code, fault.line_number) == (code, line)
    # Which of several files is too deep, the reader does not say.
    assert code == "too-deep" or (tmp_path / str(fault.file)).samefile(path)
    assert "Traceback" not in done.stderr
    assert train("--config-dir", "mine", "--help", cwd=tmp_path).returncode == 0


def test_help_lists_users_own_groups_and_every_key(tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "30k.yaml").write_text("# Thirty thousand\nname: 30k\n", encoding="utf-8")
    text = train("--config-dir", "mine", "--help", cwd=tmp_path).stdout
    assert re.search(r"30k +Thirty thousand", text)
    assert {"seed=0", "train.epochs=1.0", "data.train_size=???", "train.max_steps=null"} <= set(text.split())


def test_too_many_examples_stop_the_whole_matrix(tmp_path: Path, micro_model: Path) -> None:
    done, faults = train_with_faults(
        "-m", *TINY, f"model.path={micro_model}", "method=lora", "data=20k", "data.train_size=20000,90000000",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert [(fault.key, fault.got) for fault in faults] == [("data.train_size", 90_000)]
    assert not list(tmp_path.rglob("record.json"))
