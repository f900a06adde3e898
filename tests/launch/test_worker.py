"""A cell's process: what it is given, what is kept of what it prints, and that nothing of it is left."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from medqa_finetune.child_process import FAULTS_VARIABLE
from medqa_finetune.errors import ConfigError, Fault, RunError
from medqa_finetune.launch.worker import CellProcess, cell_command
from medqa_finetune.stopping import LAUNCHER_VARIABLE
from tests.launch.children import ROOT, gone, wait_for


def run(code: str, **environment: str) -> tuple[int, list[str]]:
    """Run a child to its end; return its exit code and its last lines."""
    process = CellProcess([sys.executable, "-c", f"import os, signal, sys\n{code}"], environment)
    while process.exit_code() is None:
        time.sleep(0.02)
    return process.end()


@pytest.mark.parametrize(
    ("code", "expected"), [("", 0), ("sys.exit(3)", 3), ("os._exit(2)", 2), ("os.kill(os.getpid(), 9)", -9)]
)
def test_the_exit_code_is_known(code: str, expected: int) -> None:
    assert run(code) == (expected, [])


def test_last_lines_of_both_outputs_are_kept() -> None:
    code = "for n in range(50): print(f'word {n}  \\n', flush=True); print(f'error {n}', file=sys.stderr, flush=True)"
    _, lines = run(code)
    assert lines == [text for n in range(20, 50) for text in (f"word {n}", f"error {n}")]


def test_text_of_another_encoding_is_kept_readable() -> None:
    _, lines = run("sys.stderr.buffer.write(b'\\xff\\xfe' + '完'.encode())")
    assert lines == ["\ufffd\ufffd完"]


def test_much_output_does_not_block_a_cell() -> None:
    code, lines = run("print('x' * 10**6); print('y' * 10**6, file=sys.stderr); print('last')")
    assert (code, lines[-1]) == (0, "last")


def test_a_crash_of_the_interpreter_says_where() -> None:
    code, lines = run("os.kill(os.getpid(), signal.SIGSEGV)")
    assert code == -11
    assert any("Segmentation fault" in line for line in lines)


def test_cell_knows_its_launcher_and_its_gpus() -> None:
    _, lines = run(f"print(os.environ['{LAUNCHER_VARIABLE}'], os.environ['CUDA_VISIBLE_DEVICES'])",
                   CUDA_VISIBLE_DEVICES="GPU-1,GPU-2")  # fmt: skip
    assert lines == [f"{os.getpid()} GPU-1,GPU-2"]


FAULTS = [
    Fault("out-of-range", "must be an integer ≥ 1", key="train.max_steps", got=0, hint="Give more."),
    Fault("not-json", "not JSON", file="问答.jsonl", line_number=3),
]
# A command of ours that raises an error.
REFUSED = f"""
sys.path.insert(0, {str(ROOT)!r})
from medqa_finetune.config.command_line import run_command
from medqa_finetune.errors import *
def command(arguments):
    raise ERROR
run_command(command, [])
"""


def ended(code: str) -> CellProcess:
    """Run a child to its end."""
    process = CellProcess([sys.executable, "-c", f"import os, signal, sys\n{code}"], {})
    while process.exit_code() is None:
        time.sleep(0.02)
    process.end()
    return process


@pytest.mark.parametrize("error", [ConfigError(*FAULTS), RunError(*FAULTS)], ids=["bad input", "failed"])
def test_faults_of_a_refused_cell_are_read(error: ConfigError | RunError) -> None:
    said = REFUSED.replace("ERROR", f"{type(error).__name__}(*{FAULTS!r})")
    process = ended(said)
    assert process.end()[0] == error.exit_code
    assert process.faults == FAULTS


def test_faults_file_is_removed_after_each_attempt() -> None:
    paths = [ended(f"print(os.environ[{FAULTS_VARIABLE!r}])").end()[1][0] for _ in range(2)]
    assert len(set(paths)) == 2
    assert not any(Path(path).parent.exists() for path in paths)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '{"faults": 1}', '{"faults": [{}]}', '{"faults": [{"code": "x"}]}',
        '{"faults": [{"code": "x", "problem": "y", "key": null, "allowed": 3, "hint": 1, "file": null, "line": 1}]}',
    ],
)  # fmt: skip
def test_file_that_holds_no_faults_is_no_error(content: str) -> None:
    process = ended(f"open(os.environ[{FAULTS_VARIABLE!r}], 'w').write({content!r})")
    assert process.faults == []


def test_a_cell_that_ends_well_has_no_faults() -> None:
    assert ended("").faults == []


def test_cell_asked_to_stop_handles_it_itself(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        f"Path({str(tmp_path / 'ready')!r}).write_text('x')\nsignal.pause()"
    )
    process = CellProcess([sys.executable, "-c", f"import signal, sys\n{code}"], {})
    wait_for(tmp_path / "ready")
    process.ask_to_stop()
    while process.exit_code() is None:
        time.sleep(0.02)
    assert process.end() == (5, [])


def test_running_cell_is_killed_at_the_end() -> None:
    process = CellProcess([sys.executable, "-c", "import time; time.sleep(60)"], {})
    assert process.end() == (-9, [])
    assert process.end() == (-9, [])


def test_what_cell_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess\nleft = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(left.pid, flush=True)\nos._exit(0)"
    )
    _, (left,) = run(code)
    assert gone(int(left))


LAUNCHER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from medqa_finetune.launch.worker import CellProcess
folder = Path(sys.argv[1])
cells = [CellProcess([sys.executable, str(folder / "cell.py"), str(folder / name)], {{}}) for name in "ab"]
time.sleep(60)
"""
CELL = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from medqa_finetune.stopping import Interrupted, stop_with_parent, stoppable
stop_with_parent()
place = Path(sys.argv[1])
try:
    with stoppable():
        place.write_text("running")
        time.sleep(60)
except Interrupted as stop:
    print("there is nobody left to read this", flush=True)
    place.write_text(f"stopped by signal {{stop.number}}")
"""


def test_cells_stop_when_their_launcher_is_killed(tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text(CELL, encoding="utf-8")
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)]) as launcher:
        for name in "ab":
            wait_for(tmp_path / name)
        launcher.kill()
    for _ in range(200):
        # Of both: no cell keeps the other's pipe open.
        if all((tmp_path / name).read_text(encoding="utf-8") == "stopped by signal 15" for name in "ab"):
            return
        time.sleep(0.05)
    pytest.fail("a cell went on without its launcher")


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["-m", "data=20k,50k"], []),
        (["-m", "--config-dir", "my conf", "data=20k"], ["--config-dir", "my conf"]),
        (["--config-dir=mine", "-m"], ["--config-dir=mine"]),
        (["-cd", "a", "-cn", "b", "-m"], ["-cd", "a", "-cn", "b"]),
    ],
)
def test_cell_looks_for_configuration_where_launcher_did(
    typed: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *typed])
    command = cell_command(["data=20k"])
    assert command[0] == sys.executable
    assert command[-1 - len(passed) :] == [*passed, "data=20k"]


def test_cell_is_run_by_program_that_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    started_as_module = SimpleNamespace(name="medqa_finetune.train")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", started_as_module)
    assert cell_command(["a=1"]) == [sys.executable, "-m", "medqa_finetune.train", "a=1"]


def test_a_script_is_run_again_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "medqa-train"), "-m"])
    assert cell_command(["a=1"]) == [sys.executable, str(tmp_path / "medqa-train"), "a=1"]
