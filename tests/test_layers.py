"""Who may import whom, and how large a file and a function may be; read from the sources, by `ast`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "medqa_finetune"
# Top to bottom. A file imports only from floors below its own, or from its own folder. On top are the commands and
# the Python API; `objectives` are the stages that differ between QA fine-tuning and causal language modelling;
# `run_state` decides who may work in a folder, and what is left to do there; `api_inputs` converts arguments of the
# Python API; `cell` is one training and one evaluation of it, checked and found on disk; `methods` are what
# can be done with a base model; `architecture` is a model as its files describe it; `compat` is what dependencies do
# not promise.
FLOORS = (
    ("train", "evaluate", "summarize", "plan", "chat", "export", "api"),
    ("planning",),
    ("experiment", "launch", "chatting", "variants"),
    ("objectives",),
    ("run_state", "preflight", "extras", "api_inputs"),
    ("cell",),
    ("report",),
    ("training", "evaluation"),
    ("model", "data"),
    ("record",),
    ("config",),
    ("child_process",),
    ("methods",),
    ("architecture", "compat"),
    ("errors", "log", "stopping", "runtime", "versions", "memory", "precision"),
)
FLOOR_OF = {room: height for height, rooms in enumerate(reversed(FLOORS)) for room in rooms}
# Rooms that start in a moment, since they load neither.
HEAVY = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets")
LIGHT_ROOMS = ("train", "plan", "summarize", "chat", "experiment", "objectives", "run_state", "preflight", "extras",
               "cell", "launch", "planning", "report", "record", "config", "architecture", "errors", "log", "stopping",
               "runtime", "versions", "memory", "child_process")  # fmt: skip
HYDRA_ROOMS = {"train.py", "plan.py", "export.py", "config/compose.py", "compat/hydra.py"}
LINES_PER_FILE = 450
LINES_PER_FUNCTION = 60
# The one function in which a reader sees a whole experiment, every stage of it in order.
LONGER = {("experiment.py", "run_experiment"): 85}
POSITIONAL_ARGUMENTS = 5


@dataclass(frozen=True)
class Import:
    """`module` is what is imported; `typing_only` says that it stands below `if TYPE_CHECKING:`."""

    module: str
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """One module of the package."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT / PACKAGE).as_posix()

    @property
    def room(self) -> str:
        return self.name.partition("/")[0].removesuffix(".py")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self) -> list[Import]:
        """Return every import, those in functions and under TYPE_CHECKING too."""
        return list(_imports(self.tree, typing_only=False))


def _imports(node: ast.AST, *, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, typing_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            # `from package import room` imports the room.
            yield from (
                Import(f"{child.module}.{alias.name}" if child.module == PACKAGE else str(child.module), typing_only)
                for alias in child.names
            )
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(child, typing_only=True)
        else:
            yield from _imports(child, typing_only=typing_only)


def room_of(module: str) -> str | None:
    """Return the room of this package that a module lies in, or None for other packages and the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def may_import(importer: str, imported: str) -> bool:
    return imported == importer or FLOOR_OF[imported] < FLOOR_OF[importer]


SOURCES = [Source(path) for path in sorted((ROOT / PACKAGE).rglob("*.py")) if path.parent != ROOT / PACKAGE / "conf"]
# The door of the package itself imports nothing and is imported by all.
ROOMS = [source for source in SOURCES if source.room != "__init__"]
every_module = pytest.mark.parametrize("source", ROOMS, ids=[source.name for source in ROOMS])


def test_the_reader_sees_imports_in_functions_and_under_type_checking() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from medqa_finetune import data\n"
    )
    assert set(_imports(tree, typing_only=False)) == {
        Import("typing", False), Import("torch", True), Import("medqa_finetune.data", False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("data", "data", True), ("data", "record", True), ("launch", "run_state", True), ("train", "errors", True),
        ("data", "model", False), ("training", "evaluation", False), ("config", "record", False),
        ("record", "config", True), ("evaluation", "cell", False), ("run_state", "cell", True),
        ("experiment", "launch", False), ("config", "data", False), ("evaluate", "train", False),
    ],
)  # fmt: skip
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


@every_module
def test_every_room_has_its_floor(source: Source) -> None:
    assert source.room in FLOOR_OF


@every_module
def test_a_file_imports_from_floors_below_or_its_own_folder(source: Source) -> None:
    rooms = {room for imported in source.imports() if (room := room_of(imported.module))}
    assert [room for room in sorted(rooms) if not may_import(source.room, room)] == []


@pytest.mark.parametrize("source", [source for source in ROOMS if source.room in LIGHT_ROOMS], ids=lambda s: s.name)
def test_light_rooms_import_nothing_heavy(source: Source) -> None:
    assert [each.module for each in source.imports() if each.module.split(".")[0] in HEAVY] == []


@pytest.mark.parametrize("source", [source for source in ROOMS if source.room == "data"], ids=lambda s: s.name)
def test_data_knows_tokenizers_as_a_type_alone(source: Source) -> None:
    heavy = [each for each in source.imports() if each.module.split(".")[0] in ("torch", "transformers", "peft")]
    assert all(each.typing_only for each in heavy)


@every_module
def test_hydra_stops_at_the_doors_the_matrix_and_composition(source: Source) -> None:
    if source.name in HYDRA_ROOMS or source.room == "launch":
        return
    assert [each.module for each in source.imports() if each.module.split(".")[0] == "hydra"] == []


@every_module
def test_nothing_builds_objects_that_a_configuration_names(source: Source) -> None:
    names = {node.attr for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
    assert not names & {"instantiate", "get_class", "get_method", "get_object"}
    assert not [each.module for each in source.imports() if each.module.startswith("hydra.utils")]


@pytest.mark.parametrize(
    "door",
    [
        "train",
        "plan",
        "export",
        "evaluate",
        "summarize",
        "chat",
        "api",
        "experiment",
        "preflight",
        "launch.launcher",
        "variants.request",
        "variants.build",
    ],
)
def test_a_door_opens_without_what_is_slow_to_load(door: str) -> None:
    code = f"import sys, {PACKAGE}.{door}; print([m for m in {[*HEAVY, 'pandas']} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_file_is_read_in_one_sitting(source: Source) -> None:
    assert len(source.path.read_text(encoding="utf-8").splitlines()) <= LINES_PER_FILE


def functions(source: Source) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = ast.get_docstring(function) is not None
    lines = (first.end_lineno or first.lineno) - first.lineno + 1 if docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - lines


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_function_fits_on_a_screen(source: Source) -> None:
    long = [
        f.name
        for f in functions(source)
        if lines_without_docstring(f) > LONGER.get((source.name, f.name), LINES_PER_FUNCTION)
    ]
    assert long == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_function_takes_few_arguments_by_position(source: Source) -> None:
    counted = {
        f.name: len([a for a in (*f.args.posonlyargs, *f.args.args) if a.arg not in ("self", "cls")])
        for f in functions(source)
    }
    assert {name: count for name, count in counted.items() if count > POSITIONAL_ARGUMENTS} == {}
