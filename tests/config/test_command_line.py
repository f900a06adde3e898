import enum
import io
import json
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.command_line import aligned_table, parse_options, quoted, run_door, wants_help
from medqa_finetune.errors import ConfigError, Fault, RunError, brief
from medqa_finetune.log import shown
from tests.faulty import only_fault

ROOT = Path(__file__).parents[2]


class Kind(enum.Enum):
    SMALL = 1


@dataclass(frozen=True)
class Options:
    folder: str = "outputs"
    file: str | None = None
    count: int = 1
    share: float = 0.5
    items: bool = False
    kind: Kind = Kind.SMALL
    names: list[str] = field(default_factory=lambda: ["a"])


KEYS = tuple(each.name for each in fields(Options))


def test_nothing_typed_gives_the_defaults() -> None:
    assert parse_options(Options, []) == Options()


def test_values_take_the_type_of_their_field() -> None:
    got = parse_options(Options, ["folder=a=b c", "file=x", "count=3", "share=2", "items=true", "names=[rouge,bleu]"])
    assert got == Options("a=b c", "x", 3, 2.0, True, names=["rouge", "bleu"])
    assert isinstance(got.share, float)


@pytest.mark.parametrize("text", ["010", "NO", "12:30:00", "1e3", "[x]", "头痛", "a: b", ""])
def test_text_is_taken_as_typed(text: str) -> None:
    assert parse_options(Options, [f"folder={text}", f"file={text}"]).folder == text


def test_null_is_none_where_allowed() -> None:
    assert parse_options(Options, ["file=null", "folder=null"]) == Options(folder="null", file=None)


@pytest.mark.parametrize(
    ("argument", "code", "key", "got"),
    [
        ("run", "not-key-value", None, "run"),
        ("~folder", "not-key-value", None, "~folder"),
        ("foldr=x", "unknown-key", "foldr", "x"),
        ("+folder=x", "unknown-key", "+folder", "x"),
        ("--folder=x", "unknown-key", "--folder", "x"),
        ("count=fast", "wrong-type", "count", "fast"),
        ("count=1.5", "wrong-type", "count", 1.5),
        ("count=", "wrong-type", "count", ""),
        ("count=null", "wrong-type", "count", None),
        ("share=fast", "wrong-type", "share", "fast"),
        ("items=maybe", "wrong-type", "items", "maybe"),
        ("names=rouge", "wrong-type", "names", "rouge"),
        ("names=[a", "not-yaml", "names", "[a"),
        ("names=[[a]]", "wrong-type", "names", [["a"]]),
        ("kind=LARGE", "not-allowed", "kind", "LARGE"),
        ("folder=${nothing}", "unresolved", "folder", "${nothing}"),
    ],
)
def test_a_fault_has_key_and_value(argument: str, code: str, key: str | None, got: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Options, [argument])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert fault.allowed == {"not-key-value": KEYS, "unknown-key": KEYS, "not-allowed": ("SMALL",)}.get(code, ())
    assert ("folder?" in fault.hint) is (code == "unknown-key")


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Options, ["count=1", "count=2"])
    assert (only_fault(caught).code, only_fault(caught).key, only_fault(caught).got) == ("given-twice", "count", "2")


def test_keys_may_have_a_prefix_but_for_some() -> None:
    got = parse_options(Options, ["own.count=3", "folder=x"], prefix="own.", bare=["folder"])
    assert (got.count, got.folder) == (3, "x")


@pytest.mark.parametrize(
    ("argument", "code", "key", "got"),
    [
        ("own.count=fast", "wrong-type", "own.count", "fast"),
        ("own.names=[a", "not-yaml", "own.names", "[a"),
        ("own.file=${nothing}", "unresolved", "own.file", "${nothing}"),
        ("own.cuont=1", "unknown-key", "own.cuont", "1"),
        ("own.folder=x", "unknown-key", "own.folder", "x"),
        ("count=1", "unknown-key", "count", "1"),
    ],
)
def test_a_fault_has_the_key_with_its_prefix(argument: str, code: str, key: str, got: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Options, [argument], prefix="own.", bare=["folder"])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    allowed = tuple(name if name == "folder" else f"own.{name}" for name in KEYS)
    assert fault.allowed == (allowed if code == "unknown-key" else ())


def test_help_is_seen_anywhere() -> None:
    assert wants_help(["a=b", "--help"])
    assert wants_help(["-h"])
    assert not wants_help(["a=--help"])


STOPPED = Fault("stopped", "the run stopped")
WRONG = Fault("wrong-type", "must be text", key="key", got=1)
TOO = Fault("file-missing", "no such file", file="药\ud83d.csv")


def interrupted(_: list[str]) -> int:
    raise KeyboardInterrupt


def failing(_: list[str]) -> int:
    raise RunError(STOPPED)


def misused(_: list[str]) -> int:
    raise ConfigError(WRONG, TOO)


@pytest.mark.parametrize(
    ("door", "code", "message"),
    [
        (lambda _: 0, 0, ""),
        (lambda _: 1, 1, ""),
        (failing, 1, f"error: {STOPPED.line()}\n"),
        (misused, 2, f"error: {WRONG.line()}\n{TOO.line()}\n"),
        (interrupted, 130, "interrupted\n"),
    ],
)
def test_doors_end_with_their_code(door: object, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_door(door, [])  # type: ignore[arg-type]
    assert caught.value.code == code
    assert capsys.readouterr() == ("", shown(message))


def test_a_refusal_is_one_json_object_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_door(misused, ["corpus.format=json"])
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        run_door(misused, ["a=b", "format=json"])
    printed = capsys.readouterr().out
    assert printed.encode()
    assert "药" in printed
    assert json.loads(printed) == ConfigError(WRONG, TOO).as_json()


def test_a_refusal_is_kept_where_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faults.json"
    monkeypatch.setenv("MEDQA_FAULTS_FILE", str(path))
    with pytest.raises(SystemExit):
        run_door(failing, [])
    assert json.loads(path.read_text(encoding="utf-8")) == RunError(STOPPED).as_json()
    with pytest.raises(SystemExit):
        run_door(misused, [])
    assert json.loads(path.read_text(encoding="utf-8")) == ConfigError(WRONG, TOO).as_json()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["no/such/folder", ".", "/"])
def test_a_file_of_faults_that_cannot_be_written_changes_nothing(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDQA_FAULTS_FILE", path)
    with pytest.raises(SystemExit) as caught:
        run_door(failing, [])
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: {STOPPED.line()}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["x" * 5000, "file/inside"])
def test_a_path_that_the_system_does_not_take_is_said(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    def listing(_: list[str]) -> int:
        return len(list(Path(path).iterdir()))

    with pytest.raises(SystemExit) as caught:
        run_door(listing, ["format=json"])
    assert caught.value.code == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert (fault["code"], fault["file"]) == ("bad-path", brief(path))


def test_an_error_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refusing(_: list[str]) -> int:
        raise ConfigError(Fault("odd", "one", file="\x1b[31m药\ud83d"), Fault("odd", "two"))

    with pytest.raises(SystemExit):
        run_door(refusing, [])
    assert capsys.readouterr().err == "error: \\x1b[31m药\\ud83d: one.\ntwo.\n"


def test_defects_keep_their_traceback() -> None:
    def broken(_: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_door(broken, [])


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "from medqa_finetune.config.command_line import run_door\n"
        "run_door(lambda _: [print('x' * 100) for _ in range(100000)] and 0, [])"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1; exit ${{PIPESTATUS[0]}}', code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "x" * 100 + "\n"
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_that_takes_no_json_leaves_the_exit_code() -> None:
    code = (
        "from medqa_finetune.config.command_line import run_door\n"
        "from medqa_finetune.errors import ConfigError, Fault\n"
        "def refuse(_): raise ConfigError(Fault('odd', 'is odd'))\n"
        "run_door(refuse, ['format=json'])"
    )
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "error: is odd.\n")


def test_table_is_aligned_and_shows_escape_codes() -> None:
    table = aligned_table(["name", "n"], [["a\x1b[31m", "1"], ["b", "20"]], left=["name"])
    assert "\x1b" not in table
    assert {len(line) for line in table.splitlines()} == {len("a\\x1b[31m") + 4}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("method=lora,qlora", "method=lora,qlora"),
        ("train.learning_rate=2e-4", "train.learning_rate=2e-4"),
        ("corpus.path=../shared/data/x.jsonl.zst", "corpus.path=../shared/data/x.jsonl.zst"),
        ("corpus.path=/数据/问答 (新)=1.jsonl", "corpus.path='/数据/问答 (新)=1.jsonl'"),
        ("corpus.path=甲.csv,b.csv", "corpus.path='甲.csv',b.csv"),
        ("corpus.question=[标题,ask]", "corpus.question=['标题',ask]"),
        ("outputs='/tmp/输出'", "outputs='/tmp/输出'"),
        ("seed=range(1,4)", "seed=range(1,4)"),
        ("outputs=${oc.env:HOME}/输出", "outputs=${oc.env:HOME}/输出"),
        ("--config-dir=我的", "--config-dir=我的"),
        ("-m", "-m"),
    ],
)
def test_values_are_quoted_where_hydra_wants_it(typed: str, read: str) -> None:
    assert quoted(typed) == read


def test_an_exit_code_survives_a_closed_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> int:
        raise ConfigError(WRONG)

    def write(_: str) -> int:
        raise OSError(5, "Input/output error")

    closed = io.StringIO()
    monkeypatch.setattr(closed, "write", write)
    monkeypatch.setattr(sys, "stderr", closed)
    with pytest.raises(SystemExit) as ended:
        run_door(fail, [])
    assert ended.value.code == 2
