"""`scripts/fault_table.py`: docs/faults.md is what the sources show; helpers are followed to where they are called."""

from pathlib import Path

import pytest

from scripts import fault_table
from scripts.fault_sources.rows import Row, fault_rows

CODE = """\
from medqa_finetune.errors import ConfigError, DataError, Fault
from medqa_finetune.names import RECORD

AGAIN = "Fetch it again."


def check(path, size, mode):
    if not path.exists():
        problem = f"has no {RECORD} of {size:,} bytes"
        raise DataError(Fault("file-missing", problem, key="path", got=str(path), hint=AGAIN))
    code, problem = "not-a-file", "not a file"
    if path.is_dir():
        code, problem = "is-a-folder", "a folder"
    if size:
        raise DataError(Fault(code, problem, file=str(path)))
    yield from (refused(mode) for _ in range(2))


def _refused(code, problem, hint=""):
    return ConfigError(Fault(code, problem, key="mode", allowed=("a", "b"), hint=hint))


def refused(mode):
    raise _refused("not-allowed", "unknown mode" if mode else "no mode", hint="Give mode=a.")


def listed(names, fault):
    for key in ("names", "others"):
        raise ConfigError(Fault("empty", f"{', '.join(names)}: nothing", key=key, allowed=tuple(names)))
    raise ConfigError(fault.but(code="other", problem=f"{fault.problem} again"))
"""
# As they are written for the code above.
ROWS = [
    Row("empty", "thing.py", "names / others", "{names}: nothing", "{names}", ""),
    Row("file-missing", "thing.py", "path", "has no record.json of {size} bytes", "", "Fetch it again."),
    Row("is-a-folder", "thing.py", "", "a folder", "", ""),
    Row("not-a-file", "thing.py", "", "not a file", "", ""),
    Row("not-allowed", "thing.py", "mode", "unknown mode / no mode", "a, b", "Give mode=a."),
    Row("other", "thing.py", "", "{fault.problem} again", "", ""),
]


def test_rows_are_what_the_sources_show(tmp_path: Path) -> None:
    (tmp_path / "medqa_finetune").mkdir()
    (tmp_path / "medqa_finetune" / "thing.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "medqa_finetune" / "names.py").write_text('RECORD = "record.json"\n', encoding="utf-8")
    assert fault_rows(tmp_path) == ROWS


def test_the_page_has_a_table_for_every_code() -> None:
    lines = fault_table.page(
        [*ROWS, Row("empty", "z.py", "k", "a | b", "", ""), Row("empty", "y.py", "k", "a | b", "", "")]
    )
    assert [line for line in lines.splitlines() if line.startswith("## ")] == [f"## {row.code}" for row in ROWS]
    assert "| k | a \\| b |  |  | y.py, z.py |" in lines


def test_the_page_is_up_to_date() -> None:
    assert fault_table.main(["--check"]) == 0


def test_a_page_that_is_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fault_table, "PAGE", tmp_path / "docs" / "faults.md")
    monkeypatch.setattr(fault_table, "fault_rows", lambda root: ROWS)
    assert fault_table.main(["--check"]) == 1
    assert "python scripts/fault_table.py" in capsys.readouterr().err
    assert fault_table.main([]) == 0
    assert fault_table.main(["--check"]) == 0
    fault_table.PAGE.write_text("other", encoding="utf-8")
    assert fault_table.main(["--check"]) == 1
