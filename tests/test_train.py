"""The door `train` by its real command line: help, and bad input of every kind."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medqa_finetune.config.options import conf_folder, option_names
from tests.commands import ROOT, TINY, train

GROUPS = sorted(path.name for path in conf_folder().iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = train("--help", cwd=tmp_path_factory.mktemp("help"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


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


BAD_INPUT: list[tuple[list[str], list[str]]] = [
    (["train.epohcs=1"], ["train.epohcs", "Did you mean train.epochs"]),
    (["+train.foo=1"], ["train.foo", "no such key"]),
    (["train.learning_rate=fast"], ["train.learning_rate=fast", "a number"]),
    (["train.learning_rate=nan"], ["train.learning_rate=nan", "above 0"]),
    (["train.max_steps=0", "method.rank=0"], ["train.max_steps=0", "method.rank=0"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["method=qlor"], ["method=qlor", "full, lora, none, qlora, qlora_8bit"]),
    (["train=null"], ["train=null", "allowed are default"]),
    (["method=lora,qlora"], ["method=lora,qlora", "--multirun"]),
    (["study=../elsewhere"], ["study='../elsewhere'", "folder name"]),
    (["method.name=a/b"], ["method.name='a/b'", "folder name"]),
    (["corpus=jsonl"], ["corpus.path is missing"]),
    (["corpus=jsonl", "corpus.path=nowhere.jsonl"], ["corpus.path=nowhere.jsonl", "no such file"]),
    (["corpus=jsonl", "corpus.path=${oc.env:MEDQA_NOT_SET}"], ["corpus.path", "MEDQA_NOT_SET"]),
    (["model.path=nowhere"], ["model.path=nowhere", "no such folder"]),
    (["model.path=."], ["config.json is missing"]),
    (["evaluate.metrics=[rouge,blue]"], ["evaluate.metrics=blue", "bleu, char_bleu"]),
    (["just_a_word"], ["just_a_word"]),
    (["run_name=mine"], ["run_name=mine", "Leave run_name out; study=NAME"]),
    (["outputs=file"], ["outputs=file", "is not a folder"]),
    (["outputs="], ["outputs=''", "folder"]),
    (["-m", "data=20k,30k"], ["data=30k", "20k, 50k"]),
    (["-m", "train.epochs=1,-1"], ["train.epochs=-1.0"]),
    (["-m", "seed=0,1", "+foo=1"], ["foo", "no such key"]),
    (["-m", "method=null,lora"], ["method=null", "full, lora, none, qlora, qlora_8bit"]),
    (["-m", "outputs=file", "seed=0,1"], ["outputs=file", "is not a folder"]),
    (["-m", "corpus=jsonl", "corpus.path=nowhere.jsonl"], ["corpus.path=nowhere.jsonl", "no such file"]),
    (["-m", "method.rank=0,-1"], ["method.rank=0", "method.rank=-1"]),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD_INPUT, ids=[" ".join(arguments) for arguments, _ in BAD_INPUT])
def test_bad_input_is_refused_in_a_few_lines_and_nothing_is_written(
    arguments: list[str], parts: list[str], tmp_path: Path, micro_model: Path
) -> None:
    (tmp_path / "file").touch()
    done = train(*TINY, f"model.path={micro_model}", "method=lora", "data=20k", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_the_weights_the_default_command_says_at_once_what_to_do(tmp_path: Path) -> None:
    started = time.monotonic()
    done = train(cwd=tmp_path)
    assert done.returncode == 2
    assert time.monotonic() - started < 5
    assert "python scripts/download_model.py --source modelscope --model qwen2.5-3b" in done.stderr
    assert "profile=demo" in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def test_the_advice_names_a_script_that_exists() -> None:
    assert (ROOT / "scripts" / "download_model.py").is_file()


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: 'unclosed\n", "bad.yaml"),
        (b"- 1\n", "data/bad.yaml: "),
        (b"42\n", "no mapping of keys to values"),
        (b"name: \xff\n", "not UTF-8"),
        (b"[" * 5000, "nested too deeply"),
        (b"name: &a [*a]\n", "contains itself"),
    ],
)
def test_a_broken_yaml_of_the_user_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "bad.yaml").write_bytes(content)
    done = train("--config-dir", "mine", "profile=demo", "data=bad", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert train("--config-dir", "mine", "--help", cwd=tmp_path).returncode == 0


def test_help_lists_the_users_own_groups_and_every_key(tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "30k.yaml").write_text("# Thirty thousand\nname: 30k\n", encoding="utf-8")
    text = train("--config-dir", "mine", "--help", cwd=tmp_path).stdout
    assert re.search(r"30k +Thirty thousand", text)
    assert {"seed=0", "train.epochs=1.0", "data.train_size=???", "train.max_steps=null"} <= set(text.split())


def test_a_matrix_whose_last_cell_asks_for_too_many_pairs_never_starts(tmp_path: Path, micro_model: Path) -> None:
    done = train(
        "-m", *TINY, f"model.path={micro_model}", "method=lora", "data=20k", "data.train_size=20000,90000000",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "90,000" in done.stderr
    assert not list(tmp_path.rglob("record.json"))
