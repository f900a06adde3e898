import io
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from medqa_finetune.config.command_line import aligned_table, parse_options, quoted, run_door, wants_help
from medqa_finetune.errors import ConfigError, RunError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Options:
    folder: str = "outputs"
    file: str | None = None
    count: int = 1
    share: float = 0.5
    items: bool = False
    names: list[str] = field(default_factory=lambda: ["a"])


def test_nothing_typed_gives_the_defaults() -> None:
    assert parse_options(Options, []) == Options()


def test_values_take_the_type_of_their_field() -> None:
    got = parse_options(Options, ["folder=a=b c", "file=x", "count=3", "share=2", "items=true", "names=[rouge,bleu]"])
    assert got == Options("a=b c", "x", 3, 2.0, True, ["rouge", "bleu"])
    assert isinstance(got.share, float)


@pytest.mark.parametrize("text", ["010", "NO", "12:30:00", "1e3", "[x]", "头痛", "a: b", ""])
def test_text_is_taken_as_typed(text: str) -> None:
    assert parse_options(Options, [f"folder={text}", f"file={text}"]).folder == text


def test_null_is_none_where_allowed() -> None:
    assert parse_options(Options, ["file=null", "folder=null"]) == Options(folder="null", file=None)


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("run", ["'run'", "key=value", "folder, file, count"]),
        ("foldr=x", ["'foldr=x'", "'foldr'", "did you mean folder", "folder, file, count"]),
        ("+folder=x", ["'+folder'", "did you mean folder"]),
        ("~folder", ["key=value"]),
        ("--folder=x", ["unknown key '--folder'"]),
        ("count=fast", ["count='fast'", "a whole number"]),
        ("count=1.5", ["count=1.5", "a whole number"]),
        ("count=", ["a whole number", "got nothing"]),
        ("count=null", ["a whole number", "got nothing"]),
        ("share=fast", ["share='fast'", "a number"]),
        ("items=maybe", ["items='maybe'", "true or false"]),
        ("names=rouge", ["names='rouge'", "a list such as [a,b]"]),
        ("names=[a", ["'names=[a'", "cannot be read"]),
        ("names=[[a]]", ["'names=[[a]]'", "without lists inside"]),
        ("folder=${nothing}", ["folder=", "${nothing}"]),
    ],
)
def test_faults_name_key_value_and_what_is_allowed(argument: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Options, [argument])
    for part in parts:
        assert part in str(caught.value)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="count is given twice"):
        parse_options(Options, ["count=1", "count=2"])


def test_help_is_seen_anywhere() -> None:
    assert wants_help(["a=b", "--help"])
    assert wants_help(["-h"])
    assert not wants_help(["a=--help"])


def interrupted(_: list[str]) -> int:
    raise KeyboardInterrupt


def failing(_: list[str]) -> int:
    raise RunError("the run stopped")


def misused(_: list[str]) -> int:
    raise ConfigError("key=1: a text is wanted")


@pytest.mark.parametrize(
    ("door", "code", "message"),
    [
        (lambda _: 0, 0, ""),
        (lambda _: 1, 1, ""),
        (failing, 1, "error: the run stopped\n"),
        (misused, 2, "error: key=1: a text is wanted\n"),
        (interrupted, 130, "interrupted\n"),
    ],
)
def test_doors_end_with_their_code(door: object, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_door(door, [])  # type: ignore[arg-type]
    assert caught.value.code == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("path", ["x" * 5000, "file/inside"])
def test_a_path_that_the_system_does_not_take_is_said(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    def listing(_: list[str]) -> int:
        return len(list(Path(path).iterdir()))

    with pytest.raises(SystemExit) as caught:
        run_door(listing, [])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {path[:100]}: ")


def test_an_error_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refusing(_: list[str]) -> int:
        raise ConfigError("\x1b[31m药\ud83d: first line\nsecond line")

    with pytest.raises(SystemExit):
        run_door(refusing, [])
    assert capsys.readouterr().err == "error: \\x1b[31m药\\ud83d: first line\nsecond line\n"


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
        raise ConfigError("nobody reads this")

    def write(_: str) -> int:
        raise OSError(5, "Input/output error")

    closed = io.StringIO()
    monkeypatch.setattr(closed, "write", write)
    monkeypatch.setattr(sys, "stderr", closed)
    with pytest.raises(SystemExit) as ended:
        run_door(fail, [])
    assert ended.value.code == 2
