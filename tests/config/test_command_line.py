import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import medqa_finetune
from medqa_finetune.config.command_line import aligned_table, quoted, run_command, wants_help
from medqa_finetune.errors import ConfigError, Fault, RunError, brief
from medqa_finetune.log import shown

ROOT = Path(__file__).parents[2]


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
    ("command", "code", "message"),
    [
        (lambda _: 0, 0, ""),
        (lambda _: 1, 1, ""),
        (failing, 1, f"error: {STOPPED.line()}\n"),
        (misused, 2, f"error: {WRONG.line()}\n{TOO.line()}\n"),
        (interrupted, 130, "interrupted\n"),
    ],
)
def test_commands_end_with_their_code(
    command: object, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(command, [])  # type: ignore[arg-type]
    assert caught.value.code == code
    assert capsys.readouterr() == ("", shown(message))


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(misused, ["a=b", "--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"medqa_finetune {medqa_finetune.__version__}\n"


def test_a_refusal_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(misused, ["corpus.format=json"])
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        run_command(misused, ["a=b", "format=json"])
    printed = capsys.readouterr().out
    assert printed.encode()
    assert "药" in printed
    assert json.loads(printed) == ConfigError(WRONG, TOO).as_json()


def test_a_refusal_is_written_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faults.json"
    monkeypatch.setenv("MEDQA_FAULTS_FILE", str(path))
    with pytest.raises(SystemExit):
        run_command(failing, [])
    assert json.loads(path.read_text(encoding="utf-8")) == RunError(STOPPED).as_json()
    with pytest.raises(SystemExit):
        run_command(misused, [])
    assert json.loads(path.read_text(encoding="utf-8")) == ConfigError(WRONG, TOO).as_json()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["no/such/folder", ".", "/"])
def test_an_unwritable_faults_file_changes_nothing(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDQA_FAULTS_FILE", path)
    with pytest.raises(SystemExit) as caught:
        run_command(failing, [])
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: {STOPPED.line()}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["x" * 5000, "file/inside"])
def test_an_impossible_path_is_refused(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    def listing(_: list[str]) -> int:
        return len(list(Path(path).iterdir()))

    with pytest.raises(SystemExit) as caught:
        run_command(listing, ["format=json"])
    assert caught.value.code == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert (fault["code"], fault["file"]) == ("bad-path", brief(path))


def test_an_error_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refusing(_: list[str]) -> int:
        raise ConfigError(Fault("odd", "one", file="\x1b[31m药\ud83d"), Fault("odd", "two"))

    with pytest.raises(SystemExit):
        run_command(refusing, [])
    assert capsys.readouterr().err == "error: \\x1b[31m药\\ud83d: one.\ntwo.\n"


def test_defects_keep_their_traceback() -> None:
    def broken(_: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(broken, [])


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "from medqa_finetune.config.command_line import run_command\n"
        "run_command(lambda _: [print('x' * 100) for _ in range(100000)] and 0, [])"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1; exit ${{PIPESTATUS[0]}}', code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "x" * 100 + "\n"
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_closed_output_keeps_the_exit_code() -> None:
    code = (
        "from medqa_finetune.config.command_line import run_command\n"
        "from medqa_finetune.errors import ConfigError, Fault\n"
        "def refuse(_): raise ConfigError(Fault('odd', 'is odd'))\n"
        "run_command(refuse, ['format=json'])"
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
        run_command(fail, [])
    assert ended.value.code == 2


def test_a_kernels_backend_for_pictures_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://of_a_kernel_that_is_elsewhere")
    seen: list[str] = []
    with pytest.raises(SystemExit):
        run_command(lambda _: seen.append(os.environ["MPLBACKEND"]) or 0, [])  # type: ignore[func-returns-value]
    assert seen == ["agg"]
