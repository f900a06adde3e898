"""Values in YAML files that YAML reads otherwise than they look are found, and nothing else is."""

from pathlib import Path

import pytest

from medqa_finetune.config.compose import check_chosen_files
from medqa_finetune.config.groups import conf_folder
from medqa_finetune.config.yaml_traps import trapped_values
from tests.config.builders import compose


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("value", "read"),
    [("NO", "false"), ("on", "true"), ("Yes", "true"), ("010", "8"), ("-0_17", "-15"), ("12:30:00", "45000"),
     ("1:30", "90"), ("1:30.5", "90.5")],
)  # fmt: skip
def test_a_trap_has_file_and_line(tmp_path: Path, value: str, read: str) -> None:
    path = written(tmp_path / "a.yaml", f"# mine\na: 1\nb:\n  - {{c: {value}}}\n")
    (fault,) = trapped_values([path])
    assert (fault.code, fault.file, fault.line_number, fault.got) == ("yaml-trap", str(path), 4, value)
    assert f"Write {read}" in fault.hint
    assert f"'{value}'" in fault.hint


@pytest.mark.parametrize(
    "text",
    ["", "a: 'NO'", 'a: "010"', "a: true", "a: False", "a: 0", "a: 0.5", "a: 1_000", "a: 0x10", "a: 1e-4", "a: null",
     "a: nowhere", "a: 12:30:00 h", "a: &x [*x]", "- 10", "08", "a: 019"],
)  # fmt: skip
def test_what_reads_as_it_looks_is_no_trap(tmp_path: Path, text: str) -> None:
    assert trapped_values([written(tmp_path / "a.yaml", text)]) == []


def test_several_are_told_in_their_order(tmp_path: Path) -> None:
    first = written(tmp_path / "a.yaml", "x: NO\ny: 010\n")
    second = written(tmp_path / "b.yaml", "- on\n")
    found = [(fault.file, fault.line_number) for fault in trapped_values([first, second])]
    assert found == [(str(first), 1), (str(first), 2), (str(second), 1)]


def test_none_of_ours_is_one() -> None:
    assert trapped_values(conf_folder().rglob("*.yaml")) == []


def test_compositions_without_files_are_accepted() -> None:
    check_chosen_files(compose("method=lora").hydra)
