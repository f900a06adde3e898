"""What is imported is declared, what is declared is locked, and the lock files hold for every machine."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.versions.locks import HEADERS, LOCK, VLLM_LOCK, is_portable, locked_extras, normalized, pins
from tests.conftest import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()
}  # fmt: skip
LOCKS = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in (LOCK, VLLM_LOCK)}
# What is imported under another name than the distribution's, also where that is not installed.
DISTRIBUTIONS = {
    "hydra": "hydra-core", "yaml": "PyYAML", "lm_eval": "lm-eval", "liger_kernel": "liger-kernel",
    "rouge_score": "rouge-score", "huggingface_hub": "huggingface-hub", "pynvml": "nvidia-ml-py",
}  # fmt: skip
# What a distribution brings with it in one exact version, and documents.
PARTS = {"pydantic_core": "pydantic"}
# Of the extra `dev`: `scripts/mutate.py` runs the tests.
OF_DEVELOPERS = {"pytest"}
# Peers that `scripts/benchmark.py` measures, each in an environment of its own.
PEERS = {"trl", "llamafactory"}
OURS = {"medqa_finetune", "scripts", "tests"}
# Used without an import of ours: transformers trains by accelerate and writes TensorBoard's files.
UNIMPORTED = {"accelerate", "tensorboard"}


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the top-level package and the file of every import below a folder."""
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                yield name.partition(".")[0], str(path.relative_to(REPOSITORY))


@cache
def imported() -> dict[str, str]:
    """Return the packages of others that ours import, each with a file that does."""
    return {
        package: path
        for folder in ("scripts", "medqa_finetune")
        for package, path in imports(folder)
        if package not in sys.stdlib_module_names and package not in OURS | PEERS | OF_DEVELOPERS
    }


def test_what_is_imported_is_declared() -> None:
    runtime = [*BASE, *(each for name, lines in EXTRAS.items() if name != "dev" for each in lines)]
    declared = {normalized(each.name) for each in runtime}
    names = {package: normalized((DISTRIBUTIONS | PARTS).get(package, package)) for package in imported()}
    assert {package: path for package, path in imported().items() if names[package] not in declared} == {}


def test_what_is_declared_is_imported() -> None:
    used = {normalized(DISTRIBUTIONS.get(package, package)) for package in imported()}
    names = {each.name for each in BASE}
    assert {name for name in names if normalized(name) not in used} <= UNIMPORTED


def test_names_of_distributions_are_right() -> None:
    installed = packages_distributions()
    for package, distribution in DISTRIBUTIONS.items():
        found = installed.get(package)
        assert found is None or normalized(distribution) in map(normalized, found), package


def _declared(name: str) -> list[Requirement]:
    """Return what a lock file has to pin: the base and its extras."""
    return [*BASE, *(each for extra in locked_extras(name) for each in EXTRAS[extra])]


@pytest.mark.parametrize("name", LOCKS)
def test_all_that_is_declared_is_locked_within_its_range(name: str) -> None:
    locked = pins(LOCKS[name])
    for requirement in _declared(name):
        versions = locked.get(normalized(requirement.name), [])
        assert versions, f"{name} lacks {requirement.name}: python scripts/check_versions.py lock"
        wrong = [version for version in versions if not requirement.specifier.contains(version)]
        assert not wrong, f"{name}: {requirement}, not {wrong}: python scripts/check_versions.py lock"


def test_every_dependency_has_a_floor() -> None:
    for requirement in [*BASE, *(each for lines in EXTRAS.values() for each in lines)]:
        assert any(each.operator in (">=", "==") for each in requirement.specifier), str(requirement)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_holds_for_every_machine(name: str) -> None:
    assert LOCKS[name].startswith(HEADERS[name])
    lines = LOCKS[name].removeprefix(HEADERS[name]).splitlines()
    assert [line for line in lines if not is_portable(line)] == []
    # pip reads them so, markers and all.
    assert all(Requirement(line).specifier for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "line",
    ["torch==2.13.0+cpu", "torch @ https://host/torch.whl", "--index-url https://host/simple", "-e .", "torch>=2",
     "jieba @ file:///home/me/jieba.tar.gz", "./jieba-0.42.1.tar.gz"],
)  # fmt: skip
def test_what_holds_on_one_machine_only_is_found(line: str) -> None:
    assert not is_portable(line)


def test_one_torch_for_all_devices() -> None:
    constraint = f"torch=={pins(LOCKS[LOCK])['torch'][0]}"
    assert constraint in PYPROJECT["tool"]["uv"]["constraint-dependencies"]
    assert pins(LOCKS[LOCK])["torch"] == pins(LOCKS[VLLM_LOCK])["torch"]
    assert Version(pins(LOCKS[LOCK])["torch"][0]).local is None


def test_the_package_carries_the_lock_files() -> None:
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {name: f"medqa_finetune/{name}" for name in LOCKS}.items() <= included.items()


def test_commands_of_the_readme_install_what_is_locked() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python3 -m venv .*pip install .*$", readme, flags=re.MULTILINE)
    assert lines
    assert [line for line in lines if "-c constraints.txt" not in line] == []


def test_the_newest_python_of_the_classifiers_is_locked_for() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert "to 3.14" in HEADERS[LOCK]
    assert named[-1] == "3.14"
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")
    assert Path(REPOSITORY / LOCK).is_file()
