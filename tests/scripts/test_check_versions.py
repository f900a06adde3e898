"""`scripts/check_versions.py`, what of it needs no network: Pythons, causes, deprecations, cells, tables, arguments."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.versions import locks, pythons, results, watching
from scripts.versions.results import Cause, Deprecation, Suite, Warned
from scripts.versions.tables import report
from scripts.versions.watching import Asked, Watched
from tests.conftest import REPOSITORY

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="3" skipped="1" tests="6">
<testcase classname="tests.test_a" name="test_fine" time="0.1" />
<testcase classname="tests.test_a" name="test_left" time="0"><skipped message="no GPU" /></testcase>
<testcase classname="tests.test_a" name="test_one[x]"><failure message="TypeError: forward() got an unexpected keyword \
argument 'cache'&#10;more">E   TypeError: forward()</failure></testcase>
<testcase classname="tests.test_b" name="test_two"><failure message="TypeError: forward() got an unexpected keyword \
argument 'cache'">x</failure></testcase>
<testcase classname="tests.test_b" name="test_three"><failure message="assert 1 == 2&#10; +  where">x</failure>
</testcase>
<testcase classname="" name="tests.test_c"><error message="collection failure">tests/test_c.py:1: in &lt;module&gt;
E   ModuleNotFoundError: No module named 'datasets'</error></testcase>
</testsuite></testsuites>
"""
CODE = "/home/me/env/lib/python3.11/site-packages/peft/tuners/lora.py"
posix_only = pytest.mark.skipif(os.name == "nt", reason="made of shell scripts")


def make_python(path: Path, says: str, code: int = 0) -> Path:
    """Write a program that answers as a Python of a version would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\nexit {code}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Pythons on PATH, one of which starts nothing, and in the folders of pyenv and uv."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    monkeypatch.setattr(pythons, "ASKS", "")
    monkeypatch.setattr(sys, "executable", str(make_python(tmp_path / "own" / "python", "3.11.7")))
    make_python(tmp_path / "bin" / "python3.12", "pyenv: python3.12: command not found", 127)
    make_python(tmp_path / "bin" / "python3.13", "3.13.1")
    make_python(tmp_path / "bin" / "python3", "3.10.2")
    make_python(tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12.1")
    make_python(tmp_path / "pyenv" / "versions" / "3.12.10" / "bin" / "python", "3.12.10")
    make_python(tmp_path / "uv" / "cpython-3.14.2-linux-x86_64-gnu" / "bin" / "python", "3.14.2")
    return tmp_path


@posix_only
@pytest.mark.parametrize(
    ("asked", "version", "place"),
    [
        ("3.11", "3.11.7", "own/python"),
        ("3.12", "3.12.10", "pyenv/versions/3.12.10/bin/python"),
        ("3.12.1", "3.12.1", "pyenv/versions/3.12.1/bin/python"),
        ("3.13", "3.13.1", "bin/python3.13"),
        ("3.14", "3.14.2", "uv/cpython-3.14.2-linux-x86_64-gnu/bin/python"),
    ],
)
def test_a_python_is_found(machine: Path, asked: str, version: str, place: str) -> None:
    assert pythons.find_python(asked) == (version, machine / place)


@posix_only
def test_all_pythons_that_start(machine: Path) -> None:
    assert [version for version, _ in pythons.all_pythons()] == ["3.11.7", "3.12.1", "3.12.10", "3.13.1", "3.14.2"]
    with pytest.raises(pythons.NoSuchPythonError, match=r"3\.13\.9.*3\.11\.7.*3\.14\.2"):
        pythons.find_python("3.13.9")


@pytest.mark.parametrize("asked", ["3", "three", "2.7", "3.12.1.2", "-3.12", ""])
def test_what_is_no_version_is_refused(asked: str) -> None:
    with pytest.raises(pythons.NoSuchPythonError, match=r"3\.12"):
        pythons.find_python(asked)


def test_the_python_that_runs_this_is_the_usual_one() -> None:
    version, path = pythons.find_python(None)
    assert path == Path(sys.executable)
    assert pythons.version_of(path) == version


def test_tests_are_counted_and_failures_grouped(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT, encoding="utf-8")
    assert results.read_junit(path) == Suite(
        passed=1,
        skipped=1,
        failed=4,
        causes=(
            Cause("TypeError", "forward() got an unexpected keyword argument 'cache'", 2, "tests.test_a::test_one[x]"),
            Cause("AssertionError", "assert 1 == 2", 1, "tests.test_b::test_three"),
            Cause("ModuleNotFoundError", "No module named 'datasets'", 1, "tests.test_c"),
        ),
    )


@pytest.mark.parametrize(
    ("message", "text", "kind", "first"),
    [
        ("ValueError: two\nlines", "", "ValueError", "two"),
        ("medqa_finetune.errors.ModelError: no cache", "", "ModelError", "no cache"),
        ("AssertionError: the message\nassert False", "", "AssertionError", "the message"),
        ("Failed: DID NOT RAISE <class 'KeyError'>", "", "Failed", "DID NOT RAISE <class 'KeyError'>"),
        ('failed on setup with "OSError: full"', "", "OSError", 'full"'),
        ("KeyboardInterrupt", "", "KeyboardInterrupt", ""),
        ("collection failure", "E   first\nE   ImportError: cannot import name 'x'", "ImportError",
         "cannot import name 'x'"),
        ("the worker crashed", "", "unknown", "the worker crashed"),
        ("", "", "unknown", ""),
        ("OSError: /tmp/pytest-of-me/pytest-3/test_a0/model: no such folder", "", "OSError", "…/model: no such folder"),
        ("TypeError: <object at 0x7f3a5c00>", "", "TypeError", "<object at 0x…>"),
    ],
)  # fmt: skip
def test_the_cause_of_a_failure(message: str, text: str, kind: str, first: str) -> None:
    assert results.cause_of(message, text) == (kind, first)


def test_a_real_report_of_pytest_is_read(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_fine(): pass\n"
        "def test_plain(): assert 1 == 2\n"
        "def test_raises(): raise TypeError('forward() takes no cache')\n"
        "def test_skipped(): pytest.skip('not here')\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('full')\n"
        "def test_set_up(broken): pass\n",
        encoding="utf-8",
    )
    junit = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml", str(junit), str(tmp_path)]
    subprocess.run([*command, "--rootdir", str(tmp_path)], cwd=tmp_path, capture_output=True, check=False)
    suite = results.read_junit(junit)
    assert (suite.passed, suite.skipped, suite.failed) == (1, 1, 3)
    assert {cause.kind for cause in suite.causes} == {"AssertionError", "TypeError", "OSError"}


def test_a_long_message_is_cut() -> None:
    assert len(results.first_line("word " * 100)) == results.WIDTH


def test_deprecations_are_grouped_by_message_and_package(tmp_path: Path) -> None:
    path = tmp_path / "warnings.jsonl"
    rows = [
        ("FutureWarning", "`old` is deprecated\nUse `new`.", CODE, 7, "tests/test_a.py::test_one"),
        ("FutureWarning", "`old` is deprecated\nUse `new`.", CODE, 9, "tests/test_b.py::test_two"),
        ("DeprecationWarning", "gone in 3.16", "/usr/lib/python3.14/ast.py", 1, "tests/test_b.py::test_two"),
        ("UserWarning", "not of interest", CODE, 3, "tests/test_b.py::test_two"),
    ]
    keys = ("category", "message", "filename", "lineno", "test")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows), encoding="utf-8")
    assert results.group_deprecations(results.read_warnings(path)) == [
        Deprecation("FutureWarning", "`old` is deprecated", "peft", 2, "tests/test_a.py::test_one"),
        Deprecation("DeprecationWarning", "gone in 3.16", "python", 1, "tests/test_b.py::test_two"),
    ]
    assert results.read_warnings(tmp_path / "missing.jsonl") == []


def test_warnings_are_read_from_a_log() -> None:
    text = (
        f"2026-11-29 16:14:39,470 WARNING py.warnings: {CODE}:33: FutureWarning: `old` is deprecated.\n"
        "  warnings.warn(\n"
        f"{CODE}:40: UserWarning: something else\n"
        "2026-11-29 16:14:40,001 WARNING transformers.modeling_utils: `torch_dtype` is deprecated! Use `dtype`.\n"
        "2026-11-29 16:14:41,001 INFO medqa_finetune: nothing is deprecated\n"
    )
    found = list(results.warnings_in_log(text, "lora_n200"))
    assert found == [
        Warned("FutureWarning", "`old` is deprecated.", CODE, 33, "lora_n200"),
        Warned("UserWarning", "something else", CODE, 40, "lora_n200"),
        Warned("logged", "`torch_dtype` is deprecated! Use `dtype`.", "transformers.modeling_utils", 0, "lora_n200"),
    ]
    assert [each.package for each in results.group_deprecations(found)] == ["peft", "transformers"]


@pytest.mark.parametrize(
    ("filename", "package"),
    [
        (CODE, "peft"),
        (r"C:\env\Lib\site-packages\six.py", "six"),
        (str(REPOSITORY / "medqa_finetune" / "model" / "probe.py"), "medqa_finetune"),
        ("/usr/lib/python3.14/ast.py", "python"),
        ("<string>", "python"),
    ],
)
def test_the_package_of_a_file(filename: str, package: str) -> None:
    assert results.package_of(filename) == package


def test_the_state_of_cells_is_read_from_their_records(tmp_path: Path) -> None:
    record = tmp_path / "outputs" / "demo" / "lora_n200" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"status": "failed"}', encoding="utf-8")
    assert watching.read_cells(tmp_path) == {"lora_n200": "failed", "qlora_n200": "no record"}


def watched(**changes: Any) -> Watched:
    """Return a set without a fault, but for what is changed."""
    usual: dict[str, Any] = {
        "name": "newest", "python": "3.12.1", "versions": {"torch": "2.13.0+cpu"}, "suite": Suite(900, 3, 0, ()),
        "cells": {"lora_n200": "done", "qlora_n200": "done"}, "seconds": 90,
    }  # fmt: skip
    return Watched(**{**usual, **changes})


OLD = Deprecation("FutureWarning", "`old` is deprecated", "peft", 2, "tests/test_a.py::test_one")
KNOWN = Deprecation("FutureWarning", "`older` is deprecated", "peft", 2, "lora_n200", known="peft's matter")
FAILING = Suite(899, 3, 1, (Cause("TypeError", "no cache", 1, "tests.test_a::test_one"),))


@pytest.mark.parametrize(
    ("changes", "fine", "fine_with_warnings"),
    [
        ({}, True, True),
        ({"deprecations": [KNOWN]}, True, True),
        ({"deprecations": [OLD]}, False, True),
        ({"suite": FAILING}, False, False),
        ({"suite": None}, False, False),
        ({"cells": {"lora_n200": "done", "qlora_n200": "failed"}}, False, False),
        ({"cells": {}}, True, True),
        ({"faults": ["pip check: a lacks b"]}, False, False),
    ],
)
def test_what_fails_a_set(changes: dict[str, Any], fine: bool, fine_with_warnings: bool) -> None:
    found = watched(**changes)
    assert found.fine(allow_warnings=False) is fine
    assert found.fine(allow_warnings=True) is fine_with_warnings


def test_the_table_has_a_row_for_each_set() -> None:
    bad = watched(
        name="lowest", suite=FAILING, deprecations=[OLD, KNOWN], cells={"lora_n200": "failed", "qlora_n200": "done"},
        above_floors={"numpy": ("2.1", "2.3.2")},
    )  # fmt: skip
    heading, rule, *rows, empty, name = report([watched(), bad]).splitlines()[:6]
    assert [len(line) for line in rows] == [len(heading)] * 2 == [len(rule)] * 2
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0][:3] == ["newest", "3.12.1", "2.13.0+cpu"]
    assert cells[0][-6:] == ["900", "0", "3", "2 of 2", "0", "1.5"]
    assert cells[1][-6:] == ["899", "1", "3", "1 of 2", "1 and 1 known", "1.5"]
    assert (empty, name) == ("", "lowest, Python 3.12.1")
    below = report([watched(), bad]).split("lowest, Python 3.12.1\n")[1]
    assert "1 failed: TypeError: no cache\n  e.g. tests.test_a::test_one" in below
    assert "lora_n200: failed" in below
    assert "deprecated, peft, 2 x: FutureWarning: `older` is deprecated (known: peft's matter)" in below
    assert "no wheel at its floor: numpy 2.1, tested with 2.3.2" in below


def test_versions_above_their_floors_are_told() -> None:
    text = "# header\nnumpy==2.3.2\ntorch==2.10.0\npyyaml==6.0.2 ; sys_platform == 'linux'\nother==1\n"
    floors = {"numpy": "2.1", "torch": "2.10", "pyyaml": "6.0.2", "unlocked": "1"}
    assert locks.above_floors(text, floors) == {"numpy": ("2.1", "2.3.2")}


def test_floors_are_those_of_pyproject() -> None:
    found = locks.floors(("web",))
    assert found["jieba"] == "0.42.1"
    assert {"torch", "pyyaml", "gradio"} <= found.keys()
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in found.values())
    assert "gradio" not in locks.floors()


@pytest.mark.parametrize("name", [watching.LOCKED, watching.VLLM])
def test_a_set_is_installed_and_tried(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is started is written down in place of being started."""
    commands: list[list[str]] = []

    def logged(command: list[str], log: Path, folder: Path, **settings: str) -> tuple[int, str]:
        commands.append(list(command))
        if "pytest" in command:
            Path(command[command.index("--junit-xml") + 1]).write_text(JUNIT, encoding="utf-8")
        if "medqa_finetune.train" in command:
            assert settings == {"PYTHONWARNINGS": "default"}
            assert folder.is_relative_to(tmp_path)
            return 1, "the last words"
        return 0, ""

    monkeypatch.setattr(watching, "_logged", logged)
    versions = json.dumps({"torch": "2.13.0"})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=versions))
    found = watching.watch(name, ("3.12.1", Path("python3.12")), tmp_path, Asked(extras=("web",), tests=("tests/a",)))
    environment, installed, checked, tested, trained = commands
    assert environment[:3] == ["python3.12", "-m", "venv"]
    lock = {"locked": "constraints.txt", "vllm": "constraints-vllm.txt"}[name]
    assert installed[1:] == ["-m", "pip", "install", "-q", "-e", ".[dev,web]", "-c", lock]
    assert checked[1:] == ["-m", "pip", "check"]
    assert tested[-1] == "tests/a"
    assert trained[1:-1] == list(watching.DEMO)
    assert found.suite is not None
    assert found.suite.failed == 4
    assert found.cells == dict.fromkeys(watching.CELLS, "no record")
    assert found.faults == ["the demo ended with exit code 1:\n  the last words"]
    assert not found.fine(allow_warnings=True)


def test_an_installation_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_logged", lambda *_, **__: (1, "ERROR: no matching distribution"))
    found = watching.watch(watching.NEWEST, ("3.12.1", Path("python3.12")), tmp_path, Asked())
    assert "no matching distribution" in found.faults[0]
    assert not found.fine(allow_warnings=True)
    assert "no matching distribution" in report([found])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: SET"),
        (["oldest"], "invalid choice: 'oldest'"),
        (["lock", "newest"], "lock and pythons stand alone"),
        (["newest", "--extras", "jax"], "--extras jax: pyproject.toml has modelscope"),
        (["newest", "--tests", "tests/missing"], "--tests tests/missing: no such file or folder"),
        (["newest", "--python", "3.12.99"], "--python 3.12.99: not found"),
        (["newest", "--json", "no/such/folder/x.json"], "--json no/such/folder/x.json: no such folder"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_bad_arguments_end_with_2(run_script: Callable[..., Any], arguments: list[str], said: str) -> None:
    outcome = run_script("check_versions", *arguments)
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.slow
def test_pythons_are_listed(run_script: Callable[..., Any]) -> None:
    """One path a line and nothing else: `.ci/run` reads it."""
    outcome = run_script("check_versions", "pythons")
    assert outcome.code == 0
    paths = outcome.out.splitlines()
    assert paths == [str(path) for _, path in pythons.all_pythons()]
    assert sys.executable in paths


def test_a_python_without_a_lock_is_refused() -> None:
    with pytest.raises(pythons.NoSuchPythonError, match=r"3\.10\b.*3\.11.*3\.14"):
        pythons.find_python("3.10")
