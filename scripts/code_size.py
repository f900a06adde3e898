"""Measure the sources of package, tests and scripts, as one Markdown table.

python scripts/code_size.py                     this working tree
python scripts/code_size.py --root DIR          another one, such as `git worktree add DIR COMMIT`

A function's length leaves its docstring out. Functions and classes outside of functions are public unless their names
begin with an underscore. A private function is called once where its file has its name once more, in addition to the
definition. Comments are counted without directives (`fmt`, `noqa`, `type`), per 100 lines of code, which are neither
empty nor comments or docstrings.
"""

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("medqa_finetune", "tests", "scripts")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
DIRECTIVES = ("# fmt:", "# noqa", "# type:")


@dataclass
class Counts:
    """What is counted in the files of a folder.

    Attributes:
        files: Lines of each file.
        functions: Lines of each function, without its docstring.
        public: Public functions, methods and classes; of these, `documented` have a docstring.
        code: Lines of code.
        comments: Comments without directives; of the directives, `skips` are `fmt: skip`.
        docstrings: Of functions; of these, `returning` begin with "Return".
        private: Private functions; of these, `once` are called once.
        inner_imports: Imports inside functions.
    """

    files: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    public: int = 0
    documented: int = 0
    code: int = 0
    comments: int = 0
    skips: int = 0
    docstrings: int = 0
    returning: int = 0
    private: int = 0
    once: int = 0
    dataclasses: int = 0
    any: int = 0
    inner_imports: int = 0


def count(folder: Path) -> Counts:
    """Read every Python file below a folder."""
    counts = Counts()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        counts.files.append(len(text.splitlines()))
        tree = ast.parse(text)
        names = _count_tokens(counts, text)
        _count_nodes(counts, tree, names)
        counts.code -= sum(_docstring_lines(node) for node in ast.walk(tree) if isinstance(node, Documented))
    return counts


def _count_tokens(counts: Counts, text: str) -> Counter[str]:
    """Count comments and lines of code, docstrings among them; return how often each name stands in the file."""
    names, code = Counter[str](), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            counts.comments += not token.string.startswith(DIRECTIVES)
            counts.skips += "fmt: skip" in token.string
        elif token.string.strip():
            code |= set(range(token.start[0], token.end[0] + 1))
        if token.type == tokenize.NAME:
            names[token.string] += 1
    counts.code += len(code)
    counts.any += names["Any"]
    return names


def _count_nodes(counts: Counts, tree: ast.Module, names: Counter[str]) -> None:
    for node, inside in _walk(tree, inside=False):
        if isinstance(node, Function):
            docstring = ast.get_docstring(node) or ""
            counts.functions.append((node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node))
            counts.docstrings += bool(docstring)
            counts.returning += docstring.startswith("Return")
            if node.name.startswith("_") and not node.name.startswith("__"):
                counts.private += 1
                counts.once += names[node.name] == 2
        if isinstance(node, Function | ast.ClassDef) and not inside and not node.name.startswith("_"):
            counts.public += 1
            counts.documented += ast.get_docstring(node) is not None
        if isinstance(node, ast.ClassDef):
            counts.dataclasses += any("dataclass" in ast.unparse(each) for each in node.decorator_list)
        counts.inner_imports += inside and isinstance(node, ast.Import | ast.ImportFrom)


def _walk(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node, and whether it stands in a function."""
    for child in ast.iter_child_nodes(node):
        yield child, inside
        yield from _walk(child, inside=inside or isinstance(child, Function))


def _docstring_lines(node: Documented) -> int:
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def rows(counts: Counts) -> dict[str, str]:
    """Return the lines of the table: what is measured, and its value."""
    lines = sum(counts.files)
    return {
        "files": f"{len(counts.files):,}",
        "lines": f"{lines:,}",
        "lines of a file, median / 90 % / longest": _spread(counts.files),
        "lines of a function, median / 90 % / longest": _spread(counts.functions),
        "docstrings on public names": f"{counts.documented / max(1, counts.public):.0%}",
        "comments per 100 lines of code": f"{100 * counts.comments / max(1, counts.code):.1f}",
        "function docstrings; beginning with `Return`": f"{counts.docstrings:,}; {counts.returning:,}",
        "private functions; called once": f"{counts.private:,}; {counts.once:,}",
        "dataclasses": f"{counts.dataclasses:,}",
        "`Any`": f"{counts.any:,}",
        "`# fmt: skip`": f"{counts.skips:,}",
        "imports inside functions": f"{counts.inner_imports:,}",
    }


def _spread(values: Sequence[int]) -> str:
    if len(values) < 2:
        return " / ".join(map(str, values))
    ninety = statistics.quantiles(values, n=10, method="inclusive")[-1]
    return f"{statistics.median(values):.0f} / {ninety:.0f} / {max(values)}"


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="working tree (default: this one)")
    root = parser.parse_args(arguments).root
    columns = {name: rows(count(root / name)) for name in FOLDERS if (root / name).is_dir()}
    print(f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for what in next(iter(columns.values())):
        print(f"| {what} | {' | '.join(column[what] for column in columns.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
