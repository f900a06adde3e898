"""Mutation testing: change a module in one place at a time, and report the changes that its tests do not notice.

Example: python scripts/mutate.py medqa_finetune/data/splits.py --tests tests/data/test_splits.py --limit 30
Mutated are comparisons, arithmetic, boolean operators, conditions, numbers and return values; not strings, annotations,
decorators and log messages. Each mutant is tested in a temporary copy of the project. A survivor is a missing test, or
a change that makes no difference; which of the two, a person decides. Without --limit, every mutant is tried.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.config.command_line import run_command  # noqa: E402
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, RunError  # noqa: E402

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".*_cache", "__pycache__", ".venv", "outputs", "data_cache", "*.egg-info", ".hypothesis"
)
# Installed pytest plugins take longer to load than most tests to run.
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
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
        line: Where it is, from 1.
        before: The expression or statement changed, as code on one line.
        after: What takes its place.
        source: The whole module, changed.
    """

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
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
                found.append(Mutant(line, _one_line(before), _one_line(after), ast.unparse(changed) + "\n"))
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


def run_tests(root: Path, tests: Sequence[str], timeout: float | None = None) -> str:
    """Run tests in a copy of the project.

    Returns:
        `passed`, `failed`, or `timed out`.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", **NO_PLUGINS}
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return "timed out"
    return "passed" if done.returncode == 0 else "failed"


def survivors(
    root: Path, module: str, tests: Sequence[str], chosen: Sequence[Mutant], report: Callable[[str], None]
) -> Counter[str]:
    """Test mutants one after another in a temporary copy of a project.

    Args:
        root: The project.
        module: Path of the mutated module below `root`.
        tests: Paths of test files, and other arguments of pytest.
        chosen: Mutants of that module.
        report: Called with one line for each survivor.

    Returns:
        How many mutants `survived`, were `killed`, or `timed out`.

    Raises:
        RunError: the tests fail without any mutation.
    """
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        place = Path(folder) / "project"
        shutil.copytree(root, place, ignore=NOT_COPIED, symlinks=True)
        began = time.monotonic()
        if run_tests(place, tests) != "passed":
            raise RunError(Fault("process-failed", "the tests fail without a mutation", key="--tests", got=list(tests)))
        timeout = max(LEAST_SECONDS, TIMES_AS_LONG * (time.monotonic() - began))
        for mutant in chosen:
            (place / module).write_text(mutant.source, encoding="utf-8")
            outcome = run_tests(place, tests, timeout)
            counts["survived" if outcome == "passed" else "killed" if outcome == "failed" else outcome] += 1
            if outcome == "passed":
                report(f"{module}:{mutant.line}: {mutant.before}  →  {mutant.after}")
    return counts


def main(arguments: list[str]) -> int:
    """Print the survivors of a module and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="file to mutate, below the working folder")
    parser.add_argument("--tests", nargs="+", required=True, metavar="FILE", help="test files that should notice")
    parser.add_argument("--limit", type=int, help="try so many mutants, drawn at random; all of them by default")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; %(default)s")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    missing = [name for name in (options.module, *options.tests) if not (root / name.partition("::")[0]).exists()]
    if missing:
        raise ConfigError(Fault("file-missing", "no such file", got=missing[0], file=str(root)))
    every = mutants((root / options.module).read_text(encoding="utf-8"))
    limit = len(every) if options.limit is None else min(options.limit, len(every))
    chosen = sorted(random.Random(options.seed).sample(every, limit), key=lambda mutant: mutant.line)  # noqa: S311
    counts = survivors(root, options.module, options.tests, chosen, lambda line: print(line, flush=True))
    outcomes = ", ".join(f"{counts[name]} {name}" for name in ("killed", "timed out", "survived"))
    print(f"{options.module}: {limit} of {len(every)} mutants: {outcomes}")
    return EXIT_DONE


if __name__ == "__main__":
    run_command(main)
