"""The README's commands, files and claims about the layout exist; CI runs its two set-up lines as written."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.commands import python
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_set_up_commands_are_one_line_each(name: str) -> None:
    assert re.search(rf"<!-- {name} -->\n```bash\n[^\n]+\n```", README)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_linked_files_exist(link: str) -> None:
    assert (REPOSITORY / link).exists()


@pytest.mark.parametrize("extra", sorted(set(re.findall(r"(?:-e '\.|medqa_finetune)\[([\w-]+)\]", README))))
def test_named_extras_are_found_by_pip(extra: str) -> None:
    # Some versions of pip compare names as they stand, others after they were put into this form (PEP 685).
    assert (
        extra in tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    )
    assert extra == re.sub(r"[-_.]+", "-", extra).lower()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"scripts/\w+\.py", README))))
def test_named_scripts_exist(script: str) -> None:
    assert (REPOSITORY / script).is_file()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (medqa_finetune\.\w+)", README))))
def test_named_commands_exist(module: str) -> None:
    assert (REPOSITORY / (module.replace(".", "/") + ".py")).is_file()


@pytest.mark.parametrize("line", [line for line in LINES if "medqa_finetune.train" in line and "venv" not in line])
def test_training_commands_compose(line: str) -> None:
    """Every group and key that the README types exists; paths need not."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from medqa_finetune.config.compose import CONFIG_NAME, register_schema
    from medqa_finetune.config.groups import conf_folder
    from medqa_finetune.launch.launcher import register_plugins

    words = shlex.split(line, comments=True)[3:]
    register_schema()
    register_plugins()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for overrides in _product([word for word in words if word != "-m"]):
            compose(CONFIG_NAME, [word for word in overrides if "(" not in word])


def test_the_table_of_corpora_is_the_folder_of_corpora() -> None:
    table = README[README.index("| `corpus=` |") : README.index("From the shell")]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    assert sorted(named) == sorted(path.stem for path in (REPOSITORY / "conf" / "corpus").glob("*.yaml"))


def _product(words: list[str]) -> list[list[str]]:
    """Return one override list per combination of comma-separated values outside brackets."""
    lists: list[list[str]] = [[]]
    for word in words:
        key, _, value = word.partition("=")
        # A search space, as `interval(1e-5,1e-3)`, is no list of values.
        choices = [value] if value.startswith("[") or "(" in value else value.split(",")
        lists = [[*known, f"{key}={choice}"] for known in lists for choice in choices]
    return lists


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"<!-- python -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    done = python("-W", "error::SyntaxWarning", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *answers = done.stdout.splitlines()
    assert first.startswith("outputs/lora_all__")
    assert "trainable=" in first
    assert len([answer for answer in answers if answer.strip()]) >= 3
