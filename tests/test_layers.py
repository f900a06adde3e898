"""Who may import whom, and how large a file and a function may be; read from the sources, by `ast`."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.sources import IN_PACKAGE, IN_SCRIPTS, PACKAGE, ROOT, Source, offences

# Top to bottom. A file imports only from floors below its own, or from its own folder. On top are the commands and
# the Python API; `objectives` are the stages that differ between QA fine-tuning and causal language modelling;
# `run_state` decides who may work in a folder, and what is left to do there; `api_inputs` converts arguments of the
# Python API; `cell` is one training and one evaluation of it, checked and found on disk; `methods` are what
# can be done with a base model; `architecture` is a model as its files describe it; `compat` is what dependencies do
# not promise.
FLOORS = (
    ("__main__", "train", "evaluate", "summarize", "plan", "chat", "export", "download", "convert", "doctor", "api"),
    ("checkup",),
    ("planning",),
    ("experiment", "follow", "launch", "chatting", "variants"),
    ("objectives",),
    ("run_state", "preflight", "api_inputs"),
    ("cell",),
    ("report",),
    ("training", "evaluation"),
    ("model", "data", "tracking"),
    ("storage",),
    ("record",),
    ("config",),
    ("child_process",),
    ("methods",),
    ("architecture", "compat", "progress", "ranks"),
    ("errors", "log", "stopping", "runtime", "versions", "memory", "precision", "cores"),
    ("languages",),
)
FLOOR_OF = {room: height for height, rooms in enumerate(reversed(FLOORS)) for room in rooms}
# Rooms that start in a moment, since they load neither.
HEAVY = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets")
LIGHT_ROOMS = ("train", "plan", "summarize", "chat", "experiment", "objectives", "run_state", "preflight",
               "cell", "launch", "planning", "report", "record", "config", "architecture", "errors", "log", "stopping",
               "runtime", "versions", "memory", "cores", "progress", "ranks", "child_process", "languages")  # fmt: skip
HYDRA_ROOMS = {"train.py", "plan.py", "export.py", "config/compose.py", "compat/hydra.py"}
# Commands, and what they load before they have checked their input.
QUICK_TO_LOAD = [
    "train",
    "plan",
    "export",
    "doctor",
    "evaluate",
    "summarize",
    "chat",
    "api",
    "experiment",
    "preflight",
    "launch.launcher",
    "variants.request",
    "variants.build",
]
LINES_PER_FILE = 450
LINES_PER_FUNCTION = 60
# The one function in which a reader sees a whole experiment, every stage of it in order.
LONGER = {("experiment.py", "run_experiment"): 99}
POSITIONAL_ARGUMENTS = 5


@dataclass(frozen=True)
class Import:
    """`module` is what is imported; `typing_only` says that it stands below `if TYPE_CHECKING:`."""

    module: str
    typing_only: bool


def _imports(node: ast.AST, *, typing_only: bool = False) -> Iterator[Import]:
    """Yield every import, those in functions and under TYPE_CHECKING too."""
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


@cache
def imports_of(source: Source) -> tuple[Import, ...]:
    return tuple(_imports(source.tree))


def place_of(source: Source) -> str:
    """Return where a file lies in the package."""
    return source.name.removeprefix(f"{PACKAGE}/")


def room_of(source: Source) -> str:
    return place_of(source).partition("/")[0].removesuffix(".py")


def imported_room(module: str) -> str | None:
    """Return the room of this package that a module lies in, or None for other packages and the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def may_import(importer: str, imported: str) -> bool:
    return imported == importer or FLOOR_OF[imported] < FLOOR_OF[importer]


# `__init__.py` of the package itself imports nothing and is imported by all.
ROOMS = [source for source in IN_PACKAGE if room_of(source) != "__init__"]


def test_imports_in_functions_and_for_types_are_seen() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from medqa_finetune import data\n"
    )
    assert set(_imports(tree)) == {
        Import("typing", False),
        Import("torch", True),
        Import("medqa_finetune.data", False),
    }


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("data", "data", True), ("data", "record", True), ("launch", "run_state", True), ("train", "errors", True),
        ("data", "model", False), ("training", "evaluation", False), ("config", "record", False),
        ("record", "config", True), ("evaluation", "cell", False), ("run_state", "cell", True),
        ("experiment", "launch", False), ("config", "data", False), ("evaluate", "train", False),
    ],
)  # fmt: skip
def test_rooms_import_from_floors_below(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def test_every_room_has_its_floor() -> None:
    assert {room_of(source) for source in ROOMS} == FLOOR_OF.keys()


def test_a_file_imports_from_floors_below_or_its_own_folder() -> None:
    def rule(source: Source) -> list[str]:
        rooms = {room for each in imports_of(source) if (room := imported_room(each.module))}
        return [room for room in sorted(rooms) if not may_import(room_of(source), room)]

    assert offences(ROOMS, rule) == []


def test_light_rooms_import_nothing_heavy() -> None:
    def rule(source: Source) -> list[str]:
        heavy = modules_of(source, HEAVY)
        return [each.module for each in imports_of(source) if each.module in heavy and not each.typing_only]

    assert offences([source for source in ROOMS if room_of(source) in LIGHT_ROOMS], rule) == []


def modules_of(source: Source, packages: Iterable[str]) -> list[str]:
    """Return what a file imports of these packages."""
    return [each.module for each in imports_of(source) if each.module.split(".")[0] in packages]


def test_data_knows_tokenizers_as_a_type_alone() -> None:
    def rule(source: Source) -> list[str]:
        heavy = modules_of(source, ("torch", "transformers", "peft"))
        return [each.module for each in imports_of(source) if each.module in heavy and not each.typing_only]

    assert offences([source for source in ROOMS if room_of(source) == "data"], rule) == []


def test_hydra_is_known_to_commands_launch_and_composition_alone() -> None:
    others = [source for source in ROOMS if place_of(source) not in HYDRA_ROOMS and room_of(source) != "launch"]
    assert offences(others, lambda source: modules_of(source, ("hydra",))) == []


def test_nothing_builds_objects_that_a_configuration_names() -> None:
    def rule(source: Source) -> list[str]:
        names = {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
        names |= {node.id for node in source.nodes if isinstance(node, ast.Name)}
        builders = names & {"instantiate", "get_class", "get_method", "get_object"}
        return [*builders, *(each.module for each in imports_of(source) if each.module.startswith("hydra.utils"))]

    assert offences(ROOMS, rule) == []


def test_commands_load_nothing_slow_at_start() -> None:
    # One process for all: each is imported in a fork of it, which begins without the modules of the others.
    code = (
        "import importlib, json, os, sys\n"
        f"slow = {[*HEAVY, 'pandas']}\n"
        f"for module in {QUICK_TO_LOAD}:\n"
        "    if os.fork() == 0:\n"
        f"        importlib.import_module('{PACKAGE}.' + module)\n"
        "        print(json.dumps([module, [name for name in slow if name in sys.modules]]), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[module, []] for module in QUICK_TO_LOAD]


def test_a_file_is_read_in_one_sitting() -> None:
    def rule(source: Source) -> list[int]:
        lines = len(source.text.splitlines())
        return [lines] if lines > LINES_PER_FILE else []

    assert offences(IN_PACKAGE, rule) == []


def functions(source: Source) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in source.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = ast.get_docstring(function) is not None
    lines = (first.end_lineno or first.lineno) - first.lineno + 1 if docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - lines


def test_a_function_fits_on_a_screen() -> None:
    def rule(source: Source) -> Iterator[str]:
        for function in functions(source):
            lines = lines_without_docstring(function)
            if lines > LONGER.get((place_of(source), function.name), LINES_PER_FUNCTION):
                yield f"{function.name}, {lines} lines"

    assert offences(IN_PACKAGE, rule) == []


def test_a_function_takes_few_arguments_by_position() -> None:
    def rule(source: Source) -> Iterator[str]:
        for function in functions(source):
            arguments = (*function.args.posonlyargs, *function.args.args)
            count = len([each for each in arguments if each.arg not in ("self", "cls")])
            if count > POSITIONAL_ARGUMENTS:
                yield f"{function.name}, {count} arguments"

    assert offences(IN_PACKAGE, rule) == []


def test_scripts_do_not_import_tests() -> None:
    assert offences(IN_SCRIPTS, lambda source: modules_of(source, ("tests",))) == []
