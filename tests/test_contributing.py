"""CONTRIBUTING.md: its map is whole, and its examples work when they are followed to the letter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import PACKAGE, ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?\n)```", PAGE, flags=re.DOTALL))
BUILT_IN, LINE = "BUILT_IN: tuple[ChartKind, ...] = (", "answering_speed.charts,"
CORPORA = "| `corpus=` | data set |\n|---|---|\n"


def test_the_map_names_every_file_and_folder_of_the_package() -> None:
    named = set(re.findall(r"`(\w+)(?:/|\.py)`", PAGE))
    found = {path.stem for path in (ROOT / PACKAGE).iterdir() if path.is_dir() or path.suffix == ".py"}
    assert found - {"__init__", "__pycache__", "conf"} - named == set()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", PAGE))))
def test_linked_files_exist(link: str) -> None:
    assert (ROOT / link).exists()


def test_named_files_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|yaml))`", PAGE)) - EXAMPLES.keys()
    assert [name for name in named if not any((ROOT / place / name).exists() for place in ("", PACKAGE))] == []


@pytest.mark.slow
def test_examples_work_when_followed(tmp_path: Path) -> None:
    for folder in (PACKAGE, "conf", "scripts", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "constraints-vllm.txt", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in EXAMPLES.items():
        assert not (ROOT / name).exists()
        (tmp_path / name).write_text(text, encoding="utf-8")
    registry = tmp_path / PACKAGE / "report" / "figures" / "registry.py"
    text = registry.read_text(encoding="utf-8")
    for old, new in (("import by_group,", "import answering_speed, by_group,"), (BUILT_IN, f"{BUILT_IN}\n    {LINE}")):
        assert old in text
        text = text.replace(old, new)
    registry.write_text(text, encoding="utf-8")
    # The corpus has its row in the README's table.
    readme = tmp_path / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace(CORPORA, f"{CORPORA}| `my_clinic` | questions to our clinic |\n"), encoding="utf-8")
    tests = [name for name in EXAMPLES if name.startswith("tests/")]
    assert len(tests) == 3
    tests += ["tests/test_conf.py", "tests/config/test_yaml_traps.py"]
    tests += ["tests/test_readme.py::test_the_table_of_corpora_is_the_folder_of_corpora"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
