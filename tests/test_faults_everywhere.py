"""Errors carry faults and no code reads their words back; read from the sources of package and scripts, by `ast`."""

import ast
import re
from collections.abc import Iterator

import pytest

from medqa_finetune.languages.translate import Kind, catalogue
from scripts.fault_sources.rows import Row, fault_rows
from scripts.fault_sources.sources import Function, called, last_name
from tests.sources import ORDERLY, ROOT, offences

FOLDERS = ("medqa_finetune", "scripts")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(fault_rows(ROOT))


OURS = {"MedQAError", "ConfigError", "DataError", "ModelError", "RunError"}
# What catches or takes an error of ours among others.
MAY_BE_OURS = {*OURS, "Exception", "BaseException"}
KEBAB_CASE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
BANNED = re.compile(r"\b(wants?|wanted|doors?|beside|told|reckoned|gone on|goes on)\b", re.IGNORECASE)
# What looks for something in a text, or cuts it.
SEARCHES = {
    "startswith", "endswith", "partition", "rpartition", "split", "rsplit", "splitlines", "replace", "removeprefix",
    "removesuffix", "find", "index", "count",
}  # fmt: skip
# Attributes of faults and of records that hold a fault's words.
WORDS = {"message", "problem"}
# Functions that look into or shorten what another package's error says; one of ours does not come to them.
QUOTES_OTHERS = {
    "medqa_finetune/compat/failures.py": {"_says", "words_of"},
    "medqa_finetune/compat/hydra.py": {"words_of"},
    "medqa_finetune/config/groups.py": {"_fault"},
    "medqa_finetune/data/hub.py": {"_first_line"},
    # `Fault.line` itself, which ends a sentence once.
    "medqa_finetune/errors.py": {"line"},
    "medqa_finetune/evaluation/vllm_engine.py": {"faults_of"},
    "medqa_finetune/launch/cluster/ray/jobs.py": {"_words_of"},
    "medqa_finetune/run_state/claim.py": {"explain_failure"},
    "medqa_finetune/tracking/trackers.py": {"_stop"},
    "medqa_finetune/download.py": {"_fetch_model"},
}


# ---------------------------------------------------------------- how errors are made


def is_text(node: ast.expr) -> bool:
    """Say whether an expression is plainly a string."""
    return (
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        or (isinstance(node, ast.BinOp) and (is_text(node.left) or is_text(node.right)))
        or (isinstance(node, ast.Call) and called(node) in ("join", "format", "str", "line"))
    )


def made_of_text(tree: ast.Module) -> Iterator[int]:
    """Yield the lines where an error of ours is made of a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in OURS and any(map(is_text, node.args)):
            yield node.lineno


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("raise ConfigError('x')", [1]), ("raise errors.DataError(f'{x}')", [1]), ("RunError('\\n'.join(faults))", [1]),
        ("ModelError('a' + b)", [1]), ("ConfigError(*faults)", []), ("DataError(Fault('a', f'{b}'))", []),
        ("DataError(fault.but(file='x'))", []),
    ],
)  # fmt: skip
def test_the_reader_sees_errors_made_of_strings(code: str, lines: list[int]) -> None:
    assert list(made_of_text(ast.parse(code))) == lines


def test_errors_are_made_of_faults() -> None:
    assert offences(ORDERLY, lambda source: made_of_text(source.tree)) == []


# ---------------------------------------------------------------- who reads words back


def reads_words(function: ast.AST) -> Iterator[ast.expr]:
    """Yield what looks for something in the words of an error or a fault, or cuts them, in a function or module."""
    errors = set(_names_of_errors(function))
    words = set[str]()
    for node in _own_nodes(function):
        if isinstance(node, ast.Assign) and _has_words(node.value, errors, words):
            words |= {name for target in node.targets if (name := last_name(target))}
        if isinstance(node, ast.expr) and _searches(node, errors, words):
            yield node


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function in the order of the text, those of functions inside it left out."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, Function):
            yield child
            yield from _own_nodes(child)


def _names_of_errors(function: ast.AST) -> Iterator[str]:
    """Yield the names of errors that may be ours: of parameters, and of what is caught."""
    if isinstance(function, Function):
        for parameter in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
            if parameter.annotation is not None and _names(parameter.annotation) & MAY_BE_OURS:
                yield parameter.arg
    for node in _own_nodes(function):
        if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
            caught = _names(node.type)
            # A constant may stand for any classes.
            if caught & MAY_BE_OURS or any(name.isupper() for name in caught):
                yield node.name


def _names(node: ast.AST) -> set[str]:
    texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return {last_name(each) for each in ast.walk(node)} | texts


def _has_words(node: ast.expr, errors: set[str], words: set[str]) -> bool:
    """Say whether an expression is the words of an error or a fault, or made of them by a method or in an f-string."""
    inner: list[ast.expr] = []
    match node:
        case ast.Name(id=name):
            return name in words
        case ast.Attribute(attr=name):
            return name in WORDS
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[value]):
            inner = [value]
        case ast.JoinedStr(values=parts):
            inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
        case ast.Call(func=ast.Attribute(attr="line"), args=[]):
            return True
        case ast.Call(func=ast.Attribute(value=value)) | ast.Subscript(value=value) | ast.BoolOp(values=[value, *_]):
            return _has_words(value, errors, words)
    return any(last_name(each) in errors or _has_words(each, errors, words) for each in inner)


def _searches(node: ast.expr, errors: set[str], words: set[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re")), args=parts):
            return any(_has_words(part, errors, words) for part in parts)
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in SEARCHES:
            return _has_words(value, errors, words)
        case ast.Subscript(value=value):
            return _has_words(value, errors, words)
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[value]):
            return _has_words(value, errors, words)
    return False


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept ConfigError as error:\n    if 'x' in str(error): pass",
        "try: f()\nexcept Exception as error:\n    x = f'{error}'.partition(':')",
        "try: f()\nexcept (OSError, DataError) as error:\n    re.sub('a', 'b', str(error))",
        "try: f()\nexcept errors.MedQAError as error:\n    words = str(error)\n    words.startswith('a')",
        "def f(error: MedQAError): return str(error).strip().split()",
        "def f(error: BaseException | None): return str(error)[:100]",
        "def f(fault): return fault.problem.replace('a', 'b')",
        "def f(fault): return 'a' in fault.line()",
        "def f(failure): return ' '.join(failure.message.split())",
    ],
)
def test_the_reader_sees_who_reads_words(code: str) -> None:
    assert len(list(all_readers(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept OSError as error:\n    x = str(error).split()",
        "try: f()\nexcept ConfigError as error:\n    print(f'error: {error}')",
        "def f(error: ValueError): return str(error)[:100]",
        "def f(fault): return fault.but(problem=f'a file {fault.problem}')",
        "def f(fault): return 'a' in fault.allowed and fault.code == 'a'",
        "def f(line): return line.split()",
    ],
)
def test_the_reader_lets_others_through(code: str) -> None:
    assert list(all_readers(ast.parse(code))) == []


def all_readers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the function and the line of all that reads words back."""
    for function in (tree, *(node for node in ast.walk(tree) if isinstance(node, Function))):
        name = function.name if isinstance(function, Function) else ""
        yield from ((name, node.lineno) for node in reads_words(function))


def test_only_named_functions_read_words_of_errors() -> None:
    found = {source.name: {function for function, _ in all_readers(source.tree)} for source in ORDERLY}
    assert {name: functions for name, functions in found.items() if functions} == QUOTES_OTHERS


# ---------------------------------------------------------------- codes and words


def test_codes_are_kebab_case(rows: list[Row]) -> None:
    assert [row for row in rows if not KEBAB_CASE.fullmatch(row.code)] == []


def test_words_are_plain(rows: list[Row]) -> None:
    assert [row for row in rows if BANNED.search(f"{row.problem} {row.hint}")] == []


def test_nothing_says_what_is_wanted() -> None:
    texts = {
        path: path.read_text(encoding="utf-8", errors="replace")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".js", ".css", ".html", ".j2", ".yaml", ".md")
    }
    assert [path for path, text in texts.items() if re.search(r"\b(is|are) wanted", text)] == []


# ---------------------------------------------------------------- their Chinese

# Only falls: a new fault comes with its lines in languages/zh/faults/.
MOST_UNTRANSLATED = 4
# What differs from case to case; no JSON.
DIFFERS = re.compile(r'\{[^{}"]*\}')


def test_faults_have_a_chinese_form(rows: list[Row]) -> None:
    texts = {text for row in rows for text in row.texts if re.search("[A-Za-z]{2}", DIFFERS.sub("", text))}
    # `text`, since words are asked for in some places, and this one has a translation.
    lacking = sorted(text for text in texts if catalogue(Kind.FAULT).find(DIFFERS.sub("text", text)) is None)
    assert len(lacking) <= MOST_UNTRANSLATED, "\n".join(["no Chinese in languages/zh/faults/:", *lacking])
