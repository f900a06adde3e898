"""What `scripts/code_size.py` counts in a file whose counts are known."""

from pathlib import Path

import pytest

from scripts import code_size

CODE = '''\
"""A module
of two lines."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Public:
    x: Any  # of a unit

    def method(self) -> int:
        """Return one."""
        import math

        return _once(math.e)


def _once(value: float) -> int:
    # Rounded down.
    return int(value)  # noqa: RUF046


TABLE = (1, 2)  # fmt: skip
'''


@pytest.fixture
def counts(tmp_path: Path) -> code_size.Counts:
    (tmp_path / "a.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "empty.py").touch()
    return code_size.count(tmp_path)


def test_files_and_functions_are_measured(counts: code_size.Counts) -> None:
    assert sorted(counts.files) == [0, 24]
    assert sorted(counts.functions) == [3, 4]  # without the docstring, with the comment


def test_comments_are_counted_without_directives(counts: code_size.Counts) -> None:
    assert (counts.code, counts.comments, counts.skips) == (11, 2, 1)


def test_docstrings_are_counted_on_public_names(counts: code_size.Counts) -> None:
    assert (counts.public, counts.documented) == (2, 1)
    assert (counts.docstrings, counts.returning) == (1, 1)


def test_uses_are_counted(counts: code_size.Counts) -> None:
    assert (counts.private, counts.once, counts.dataclasses) == (1, 1, 1)
    assert (counts.any, counts.inner_imports) == (2, 1)


def test_a_table_of_another_tree_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").write_text(CODE, encoding="utf-8")
    assert code_size.main(["--root", str(tmp_path)]) == 0
    assert "| lines | 24 |" in capsys.readouterr().out
