"""Parses the sources of the package and its scripts once, for tests of rules that apply to all of them."""

import ast
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "medqa_finetune"
# Scripts that test the package: they may use internals of libraries and the words of errors.
DISTURBING = ("scripts/fake_cuda/", "scripts/trials/", "scripts/bad_input_cases/", "scripts/reader_checks.py")


class Source:
    """One Python file.

    Attributes:
        path: Absolute path.
        name: Path relative to the repository, with slashes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))


def _sources(*folders: str) -> list[Source]:
    return [Source(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


IN_PACKAGE = _sources(PACKAGE)
IN_SCRIPTS = _sources("scripts")
# Files that follow the rules of the package.
ORDERLY = [*IN_PACKAGE, *(each for each in IN_SCRIPTS if not each.name.startswith(DISTURBING))]


def offences(sources: Iterable[Source], rule: Callable[[Source], Iterable[object]]) -> list[str]:
    """Return what breaks a rule, each with its file, so that a failing test names all of it at once."""
    return [f"{source.name}: {found}" for source in sources for found in rule(source)]
