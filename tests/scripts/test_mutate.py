"""Mutation testing finds what tests do not notice, and leaves the project alone."""

from pathlib import Path

import pytest

from medqa_finetune.errors import RunError
from scripts import mutate
from scripts.mutate import main, mutants
from tests.faulty import only_fault

SOURCE = '''"""Docstring 1."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    top: int = 3


def inside(value: int, limit: Limit) -> bool:
    logger.info("%d", value + 1)
    return value < limit.top and not value < 0
'''
# Never asks for a value at the limit, nor for one below 0.
TESTS = """from module import Limit, inside

def test_inside():
    assert inside(1, Limit()) is True
    assert inside(9, Limit()) is False
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "module.py").write_text(SOURCE.replace("    logger.info", "    # logger.info"))
    (tmp_path / "test_module.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_operators_numbers_and_returns_are_mutated() -> None:
    changes = {(mutant.line, mutant.before, mutant.after) for mutant in mutants(SOURCE, "module.py")}
    whole = "value < limit.top and (not value < 0)"
    assert changes == {
        (7, "3", "4"),
        (12, f"return {whole}", "return None"),
        (12, whole, "value < limit.top or not value < 0"),
        (12, "value < limit.top", "value <= limit.top"),
        (12, "value < limit.top", "value >= limit.top"),
        (12, "not value < 0", "not not value < 0"),
        (12, "value < 0", "value <= 0"),
        (12, "value < 0", "value >= 0"),
        (12, "0", "1"),
    }


def test_every_mutant_is_a_module_of_its_own() -> None:
    sources = [mutant.source for mutant in mutants(SOURCE, "module.py")]
    assert len({*sources, SOURCE}) == len(sources) + 1
    for source in sources:
        compile(source, "module.py", "exec")


def test_survivors_are_named_with_line_and_change(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in project.glob("*.py")}
    assert main(["module.py", "--tests", "test_module.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.removeprefix("module.py:") for line in lines[:-1]) == [
        "12: 0  →  1",
        "12: value < 0  →  value <= 0",
        "12: value < limit.top  →  value <= limit.top",
        "7: 3  →  4",
    ]
    assert lines[-1] == "module.py: 9 of 9 mutants: 5 killed, 0 timed out, 4 survived"
    assert {path: path.read_bytes() for path in project.glob("*.py")} == before


def test_the_seed_decides_the_draw(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate.Tests, "run", lambda *_: "passed")
    drawn = []
    for seed in ("0", "0", "1"):
        main(["module.py", "--tests", "test_module.py", "--limit", "2", "--seed", seed])
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    assert "2 of 9 mutants: 0 killed, 0 timed out, 2 survived" in drawn[0]


def test_tests_must_pass_without_a_mutation(project: Path) -> None:
    (project / "test_module.py").write_text("def test_nothing():\n    assert False\n")
    with pytest.raises(RunError) as caught:
        main(["module.py", "--tests", "test_module.py", "--limit", "1"])
    assert (only_fault(caught).code, only_fault(caught).key) == ("process-failed", "--tests")
