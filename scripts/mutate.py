"""Mutation testing: change a module in one place at a time, and report the changes that its tests do not notice.

Example: python scripts/mutate.py medqa_finetune/data/splits.py --tests tests/data/test_splits.py --limit 30
A folder stands for its modules, and for its files test_*.py.
Mutated are comparisons, arithmetic, boolean operators, conditions, numbers and return values; not strings, annotations,
decorators and log messages. Each mutant is tested in a temporary copy of the project. A survivor is a missing test, or
a change that makes no difference; which of the two, a person decides. Without --limit, every mutant is tried.
"""

import argparse
import ast
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.config.command_line import run_command  # noqa: E402
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, RunError  # noqa: E402

NOT_COPIED = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", ".venv", "*.egg-info", ".hypothesis")
# What runs leave there; packages may have folders of these names.
NOT_COPIED_FROM_ROOT = {"outputs", "data_cache"}
FORKS = ROOT / "scripts/mutation/forks.py"
# Installed pytest plugins take longer to load than most tests to run, and threads of torch wait for each other.
VARIABLES = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
OUTCOMES = {"failed": "killed", "timed out": "timed out", "passed": "survived"}
# A mutant may loop for ever.
TIMES_AS_LONG, LEAST_SECONDS = 4, 30.0

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.USub: (ast.UAdd,),
    ast.Invert: (ast.UAdd,),
}


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes:
        module: Path of the module.
        line: Where it is, from 1.
        before: The expression or statement changed, as code on one line.
        after: What takes its place.
        source: The whole module, changed.
    """

    module: str
    line: int
    before: str
    after: str
    source: str


def mutants(source: str, module: str) -> list[Mutant]:
    """Return every mutant of a module, given as text and by its path, in the order of its lines."""
    tree = ast.parse(source)
    found = []
    for number, node in enumerate(ast.walk(tree)):
        node.place_in_walk = number  # type: ignore[attr-defined]
    for node in _mutable(tree):
        for change in _changes(node):
            changed = copy.deepcopy(tree)
            # The copy of this node, in which `change` is made in place.
            twin = next(other for other in ast.walk(changed) if other.place_in_walk == node.place_in_walk)  # type: ignore[attr-defined]
            change(twin)
            before, after = ast.unparse(node), ast.unparse(twin)
            if before != after:
                line = int(getattr(node, "lineno", 0))
                found.append(Mutant(module, line, _one_line(before), _one_line(after), f"{ast.unparse(changed)}\n"))
    return sorted(found, key=lambda mutant: mutant.line)


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one whose mutation could change what the module does."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield child
                yield from _mutable(child)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return node.func.value.id in ("log", "logger")
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _changes(node: ast.AST) -> Iterator[Callable[[ast.AST], None]]:
    """Yield functions that each mutate a node of this kind in place."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            yield from (_setter("ops", swap(), place) for swap in SWAPS.get(type(operator), ()))
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign | ast.UnaryOp) and type(node.op) in SWAPS:
        yield from (_setter("op", swap()) for swap in SWAPS[type(node.op)])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        # `not not x`, so that the value stays a truth value.
        yield _setter("operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _setter("value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield _setter("value", node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield _setter("value", ast.Constant(None))
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and isinstance(
        node.test, ast.Name | ast.Call | ast.Attribute
    ):
        yield _setter("test", ast.UnaryOp(ast.Not(), node.test))


def _setter(field: str, value: object, place: int | None = None) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        if place is None:
            setattr(node, field, value)
        else:
            getattr(node, field)[place] = value

    return change


def _one_line(code: str) -> str:
    return " ".join(code.split())[:90]


class Tests:
    """Runs tests in a copy of the project, each time in a fork of one process that has imported the libraries.

    Args:
        root: The copy.
    """

    def __init__(self, root: Path) -> None:
        self._forks = subprocess.Popen(
            [sys.executable, "-P", str(FORKS)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **VARIABLES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._requests, self._answers = cast("IO[str]", self._forks.stdin), cast("IO[str]", self._forks.stdout)

    def run(self, tests: Sequence[str], timeout: float | None = None) -> str:
        """Run test files, in this order, until one test fails.

        Returns:
            `passed`, `failed`, or `timed out`.
        """
        self._requests.write(json.dumps([["-q", "-x", "-p", "no:cacheprovider", *tests], timeout]) + "\n")
        self._requests.flush()
        return self._answers.readline().strip()

    def close(self) -> None:
        """End the process."""
        with self._forks:
            self._requests.close()


def survivors(
    root: Path, chosen: Sequence[Mutant], tests: Sequence[str], report: Callable[[str], None]
) -> dict[str, Counter[str]]:
    """Test mutants one after another in a temporary copy of a project.

    Args:
        root: The project.
        chosen: The mutants, those of a module one after another.
        tests: Paths of test files below `root`; for MODULE.py, `test_MODULE.py` runs first.
        report: Called with one line for each survivor.

    Returns:
        By module, how many mutants `survived`, were `killed`, or `timed out`.

    Raises:
        RunError: the tests fail without any mutation.
    """
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        place = Path(folder).resolve() / "project"
        shutil.copytree(root, place, ignore=_not_copied(root), symlinks=True)
        with closing(Tests(place)) as runner:
            # The first run finds the libraries to import; the second shows how long one takes that has them.
            for _ in range(2):
                began = time.monotonic()
                if runner.run(tests) != "passed":
                    problem = "the tests fail without a mutation"
                    raise RunError(Fault("process-failed", problem, key="--tests", got=list(tests)))
            timeout = max(LEAST_SECONDS, TIMES_AS_LONG * (time.monotonic() - began))
            for module, group in groupby(chosen, key=lambda mutant: mutant.module):
                counts[module] = Counter()
                ordered = sorted(tests, key=lambda test: Path(test).name != f"test_{Path(module).name}")
                unchanged = (place / module).read_text(encoding="utf-8")
                for mutant in group:
                    _write(place / module, mutant.source)
                    outcome = runner.run(ordered, timeout)
                    counts[module][OUTCOMES[outcome]] += 1
                    if outcome == "passed":
                        report(f"{module}:{mutant.line}: {mutant.before}  →  {mutant.after}")
                _write(place / module, unchanged)
    return counts


def _not_copied(root: Path) -> Callable[[str, list[str]], set[str]]:
    def among(folder: str, names: list[str]) -> set[str]:
        left_by_runs = NOT_COPIED_FROM_ROOT if Path(folder) == root else set()
        return {*NOT_COPIED(folder, names), *left_by_runs}

    return among


def _write(module: Path, source: str) -> None:
    module.write_text(source, encoding="utf-8")
    # Python takes compiled code whose source had the same size within the same second.
    for compiled in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
        compiled.unlink()


def _files(root: Path, names: Sequence[str], pattern: str) -> list[str]:
    """Return files, and those that a pattern finds in folders, as paths below `root`, each once."""
    found: dict[str, None] = {}
    for name in names:
        if not (root / name).exists():
            raise ConfigError(Fault("file-missing", "no such file", got=name, file=str(root)))
        inside = sorted((root / name).rglob(pattern)) if (root / name).is_dir() else [root / name]
        found |= {path.relative_to(root).as_posix(): None for path in inside}
    return list(found)


def main(arguments: list[str]) -> int:
    """Print the survivors of modules and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="files and folders to mutate")
    parser.add_argument("--tests", nargs="+", required=True, metavar="FILE", help="test files and folders")
    parser.add_argument("--limit", type=int, help="try so many mutants, drawn at random; all of them by default")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; %(default)s")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    modules = _files(root, options.modules, "*.py")
    every = [mutant for module in modules for mutant in mutants((root / module).read_text(encoding="utf-8"), module)]
    limit = len(every) if options.limit is None else min(options.limit, len(every))
    chosen = sorted(random.Random(options.seed).sample(range(len(every)), limit))  # noqa: S311
    counts = survivors(
        root,
        [every[place] for place in chosen],
        _files(root, options.tests, "test_*.py"),
        lambda line: print(line, flush=True),
    )
    whole = Counter(mutant.module for mutant in every)
    for module, counted in counts.items():
        print(_summary(module, counted, whole[module]))
    if len(counts) > 1:
        print(_summary("all", sum(counts.values(), Counter()), len(every)))
    return EXIT_DONE


def _summary(name: str, counted: Counter[str], mutants: int) -> str:
    outcomes = ", ".join(f"{counted[outcome]} {outcome}" for outcome in OUTCOMES.values())
    return f"{name}: {counted.total()} of {mutants} mutants: {outcomes}"


if __name__ == "__main__":
    run_command(main)
