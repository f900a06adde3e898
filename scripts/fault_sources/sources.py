"""Reads the sources of the package and its scripts with `ast`, and resolves the possible values of expressions."""

import ast
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

PACKAGE, SCRIPTS = "medqa_finetune", "scripts"
Function = ast.FunctionDef | ast.AsyncFunctionDef
# An expression with more possible values than this is shown by its name.
ALTERNATIVES = 8
# An expression in an f-string is shown as it is written up to this length, then by its last name.
PLACEHOLDER_CHARS = 24
# Calls that change the form, not the content, of a text or list.
UNWRAPPED = ("str", "tuple", "list", "sorted", "brief")
TEXT_METHODS = ("strip", "lstrip", "rstrip", "split", "splitlines", "partition", "rpartition", "removeprefix")


class Module:
    """One file.

    Attributes:
        room: Its path, within the package where it is there.
        name: As it is imported: `medqa_finetune.data.hub`.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.room = path.relative_to(root / PACKAGE if path.is_relative_to(root / PACKAGE) else root).as_posix()
        self.name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node around every node."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Top-level assignments by name."""
        pairs = (pair for node in self.tree.body for pair in assigned(node))
        return dict(pairs)

    @cached_property
    def imported(self) -> dict[str, str]:
        """The module that a name is imported from."""
        found = (node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom))
        return {alias.asname or alias.name: str(node.module) for node in found for alias in node.names}

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around a node, the nearest first."""
        while (above := self.parents.get(node)) is not None:
            yield above
            node = above

    def function_of(self, node: ast.AST) -> Function | None:
        """Return the function that a node stands in; None at the top."""
        return next((each for each in self.around(node) if isinstance(each, Function)), None)

    def calls(self, name: str) -> list[ast.Call]:
        """Return every call of a function or method of this name."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and called(node) == name]


class Sources:
    """All files, by the name they are imported by."""

    def __init__(self, root: Path) -> None:
        paths = (path for folder in (PACKAGE, SCRIPTS) for path in sorted((root / folder).rglob("*.py")))
        self.modules = {module.name: module for module in (Module(path, root) for path in paths)}

    def constant(self, module: Module, name: str) -> "tuple[ast.expr, Module] | None":
        """Return the top-level value of a name, defined in the file or imported."""
        if name in module.constants:
            return module.constants[name], module
        other = self.modules.get(module.imported.get(name, ""))
        return self.constant(other, name) if other is not None else None

    def callers(self, module: Module, function: Function) -> "Iterator[tuple[ast.Call, Module]]":
        """Yield the calls of a function, in its own file and in those that import it."""
        name = function.name
        for other in self.modules.values():
            if other is module or other.imported.get(name) == module.name:
                yield from ((call, other) for call in other.calls(name))


@dataclasses.dataclass(frozen=True)
class Scope:
    """Where an expression is read.

    Attributes:
        module: The file.
        at: The node before which assignments count.
        given: What the parameters of the function around stand for, each in a scope of its own.
    """

    module: Module
    at: ast.AST
    given: "Mapping[str, tuple[ast.expr, Scope]]" = dataclasses.field(default_factory=dict)

    @property
    def function(self) -> Function | None:
        """The function around."""
        return self.module.function_of(self.at)

    def moved_to(self, node: ast.AST) -> "Scope":
        """Return the scope of another expression of the same function."""
        return dataclasses.replace(self, at=node)


def called(call: ast.Call) -> str:
    """Return the last name of the called function, `c` for `a.b.c()`."""
    return last_name(call.func)


def last_name(node: ast.AST) -> str:
    """Return the name or attribute that an expression ends with; nothing for others."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def parameters(function: Function) -> list[str]:
    """Return the names of a function's parameters, `self` among them."""
    return [each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield every name that a statement itself assigns to, with what."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield last_name(node.target), node.value
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _pairs(target, node.value)
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple | ast.List):
        for value in node.iter.elts:
            yield from _pairs(node.target, value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, other)
    elif isinstance(target, ast.Name):
        yield target.id, value


@dataclasses.dataclass(frozen=True)
class Definition:
    """One value that a name may have, and the place that gives it: names set at one place belong together."""

    value: ast.expr
    place: tuple[int, int]


def definitions(scope: Scope, name: str) -> list[Definition]:
    """Return the possible values of a local name.

    An assignment in an earlier branch is one possibility, and the search continues upwards; an unconditional assignment
    ends it.
    """
    found: list[Definition] = []
    node = scope.at
    for above in scope.module.around(node):
        if isinstance(above, ast.For) and (values := _in_loop(above, name)):
            return [*found, *values]
        for statement in reversed(_before(above, node)):
            values = [Definition(value, (id(above), 0)) for key, value in assigned(statement) if key == name]
            if values and not isinstance(statement, ast.For):
                return [*found, values[-1]]
            found += _in_branches(scope.module, statement, name)
        if isinstance(above, Function):
            break
        node = above
    return found


def _in_loop(loop: ast.For, name: str) -> list[Definition]:
    values = (value for key, value in assigned(loop) if key == name)
    return [Definition(value, (id(loop), number)) for number, value in enumerate(values)]


def _in_branches(module: Module, statement: ast.stmt, name: str) -> list[Definition]:
    if isinstance(statement, Function):
        return []
    pairs = ((inner, value) for inner in ast.walk(statement) for key, value in assigned(inner) if key == name)
    return [Definition(value, _place(module, inner)) for inner, value in pairs]


def _place(module: Module, statement: ast.AST) -> tuple[int, int]:
    """Return what the statements of one block share."""
    above = module.parents[statement]
    blocks = [block for _, block in ast.iter_fields(above) if isinstance(block, list)]
    return id(above), next((number for number, block in enumerate(blocks) if statement in block), 0)


def _before(above: ast.AST, node: ast.AST) -> list[ast.stmt]:
    """Return the statements of the same block that stand before a node."""
    for _, block in ast.iter_fields(above):
        if isinstance(block, list) and node in block:
            return [each for each in block[: block.index(node)] if isinstance(each, ast.stmt)]
    return []


class Reader:
    """Evaluates the possible texts of an expression, as far as the sources show them."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def texts(self, node: ast.expr | None, scope: Scope) -> list[str]:
        """Return the possible texts of an expression, with unknown parts in braces."""
        if node is None:
            return [""]
        found = list(dict.fromkeys(self._texts(node, scope)))
        return found if 0 < len(found) <= ALTERNATIVES else [placeholder(node)]

    def _texts(self, node: ast.expr, scope: Scope) -> Iterator[str]:
        match node:
            case ast.Constant(value=value):
                yield "" if value is None else str(value)
            case ast.JoinedStr(values=parts):
                yield from self._in_a_row(parts, scope)
            case ast.FormattedValue(value=value):
                yield from [text for text in self.texts(value, scope) if text] or [placeholder(value)]
            case ast.BinOp(left=left, op=ast.Add(), right=right) if _is_text(left) or _is_text(right):
                yield from self._in_a_row([left, right], scope)
            case ast.BinOp(left=ast.Constant(value=str(ending)), op=ast.Mult()):
                yield f"({ending})"
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                yield ", ".join(" / ".join(filter(None, self.texts(part, scope))) for part in parts)
            case ast.Name(id=name):
                yield from self._of_name(node, name, scope)
            case _:
                choices = self._choices(node, scope)
                yield from (text for each in choices for text in self.texts(each, scope))
                if not choices:
                    yield placeholder(node)

    def _in_a_row(self, parts: Sequence[ast.expr], scope: Scope) -> Iterator[str]:
        return map("".join, itertools.product(*(self.texts(part, scope) for part in parts)))

    def _choices(self, node: ast.expr, scope: Scope) -> list[ast.expr]:
        """Return the alternatives of a conditional or similar expression; none for other expressions."""
        found: list[ast.expr] = []
        match node:
            case ast.IfExp(test=test, body=body, orelse=orelse):
                known = self._given(test, scope)
                found = [body, orelse] if known is None else [body if known.value else orelse]
            case ast.Starred(value=value):
                found = [value]
            case ast.Call(args=[value]) if called(node) in UNWRAPPED and not isinstance(value, ast.GeneratorExp):
                found = [value]
            case ast.Call(func=ast.Attribute(value=ast.Dict(values=values), attr="get"), args=[_, *default]):
                found = [*values, *default]
            case ast.Subscript(value=ast.Dict(values=values)):
                found = values
            case ast.Subscript(value=ast.Name(id=name)):
                table = self.sources.constant(scope.module, name)
                found = table[0].values if table is not None and isinstance(table[0], ast.Dict) else []
        return found

    def _given(self, test: ast.expr, scope: Scope) -> ast.Constant | None:
        """Return the constant that a helper is called with for a name; None for others."""
        value = scope.given[test.id][0] if isinstance(test, ast.Name) and test.id in scope.given else None
        return value if isinstance(value, ast.Constant) else None

    def _of_name(self, node: ast.expr, name: str, scope: Scope) -> Iterator[str]:
        if name in scope.given:
            value, outside = scope.given[name]
            yield from self._named(node, value, outside)
            return
        values = definitions(scope, name)
        for each in values:
            yield from self._named(node, each.value, scope.moved_to(each.value))
        if values:
            return
        function = scope.function
        own = function is not None and name in parameters(function)
        constant = None if own else self.sources.constant(scope.module, name)
        if constant is None:
            yield placeholder(node)
        else:
            yield from self._named(node, constant[0], Scope(constant[1], constant[0]))

    def _named(self, name: ast.expr, value: ast.expr, scope: Scope) -> list[str]:
        """Return the possible texts of a name; a computed value is shown by the name."""
        texts = self.texts(value, scope)
        return [placeholder(name)] if texts == [placeholder(value)] else texts


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def placeholder(node: ast.expr) -> str:
    """Return a short form of an expression in braces."""
    node = _core(node)
    text = ast.unparse(node)
    if len(text) > PLACEHOLDER_CHARS or any(mark in text for mark in "'\"{}\n"):
        names = [name for each in ast.walk(node) if (name := last_name(each))]
        text = names[0] if names else "…"
    return f"{{{text}}}"


def _core(node: ast.expr) -> ast.expr:
    """Return an expression without what only shortens, joins or sorts it."""
    inner: ast.expr | None = None
    match node:
        case ast.Starred(value=value) | ast.FormattedValue(value=value) | ast.BoolOp(op=ast.Or(), values=[value, *_]):
            inner = value
        case ast.Subscript(value=value, slice=ast.Slice()):
            inner = value
        case ast.Subscript(value=ast.Call() as value) if called(value) in TEXT_METHODS:
            inner = value
        case ast.Call(args=[_, value]) if called(node) == "map":
            inner = value
        case ast.Call(args=[value]) if called(node) in (*UNWRAPPED, "join", "visible"):
            inner = value
        case ast.Call(func=ast.Attribute(value=value)) if called(node) in TEXT_METHODS:
            inner = value
        case ast.GeneratorExp(generators=[first, *_]) | ast.ListComp(generators=[first, *_]):
            inner = first.iter
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            return ast.Attribute(_core(value), key, ast.Load())
    return node if inner is None else _core(inner)
