"""Finds every fault that the sources can raise: a row per `Fault(…)`, and per call of a helper that makes one."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from scripts.fault_sources.sources import Function, Module, Reader, Scope, Sources, called, definitions, parameters

FIELDS = ("code", "problem", "key", "allowed", "hint")
POSITIONAL = ("code", "problem")
# What a helper of a helper of a helper is called with is shown by the helper's own names.
DEPTH = 3
Fields = dict[str, ast.expr]


@dataclasses.dataclass(frozen=True, order=True)
class Row:
    """One fault in the sources; variable parts are in braces.

    Attributes:
        code: Of the fault.
        room: File that raises it, within the package.
        key: Setting or field at fault; empty for none.
        problem: What is wrong.
        allowed: The values that are allowed; empty where none are listed.
        hint: What to do.
        texts: The problems and hints one by one, which `problem` and `hint` have in a row.
    """

    code: str
    room: str
    key: str
    problem: str
    allowed: str
    hint: str
    texts: tuple[str, ...] = dataclasses.field(default=(), compare=False)


def fault_rows(root: Path) -> list[Row]:
    """Return the rows of all sources below a repository's root, sorted."""
    sources = Sources(root)
    finder = _Finder(sources)
    return sorted({row for module in sources.modules.values() for row in finder.rows(module)})


class _Finder:
    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.reader = Reader(sources)

    def rows(self, module: Module) -> Iterator[Row]:
        """Yield the rows of one file; rows of a helper belong to its callers."""
        for call in module.calls("Fault"):
            yield from self._of_call(_given(call), Scope(module, call))
        for call in module.calls("but"):
            scope = Scope(module, call)
            fields = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            bases = self._bases(call, scope) or ([{}] if "code" in fields else [])
            for base in bases if fields.keys() & {"code", "problem", "hint", "key"} else []:
                yield from self._of_call({**base, **fields}, scope)

    def _bases(self, call: ast.Call, scope: Scope) -> list[Fields]:
        """Return the fields of the faults that `.but(…)` changes, where they are made in the same function."""
        changed = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(changed, ast.Name):
            made = [each.value for each in definitions(scope, changed.id)]
        else:
            made = [] if changed is None else [changed]
        return [_given(each) for each in made if isinstance(each, ast.Call) and called(each) == "Fault"]

    def _of_call(self, fields: Fields, scope: Scope) -> Iterator[Row]:
        for outer in self._calls_of_helper(fields, scope, DEPTH):
            for each in _branches(fields, outer):
                texts = {name: self.reader.texts(fields.get(name), each) for name in FIELDS}
                words = tuple(filter(None, [*texts["problem"], *texts["hint"]]))
                for code in texts["code"]:
                    others = {name: " / ".join(filter(None, texts[name])) for name in FIELDS[1:]}
                    yield Row(code=code, room=_room(outer), texts=words, **others)

    def _calls_of_helper(self, fields: Fields, scope: Scope, depth: int) -> Iterator[Scope]:
        """Yield the scope with its parameters given, for each call of the helper around; itself where it is none."""
        function = scope.function
        calls: list[tuple[ast.Call, Module]] = []
        if function is not None and depth and _is_helper(function, fields):
            calls = list(self.sources.callers(scope.module, function))
        if function is None or not calls:
            yield scope
            return
        for call, module in calls:
            arguments = _arguments(function, call)
            for outside in self._calls_of_helper(arguments, Scope(module, call), depth - 1):
                given = {name: (value, outside) for name, value in arguments.items()}
                yield dataclasses.replace(scope, given=given)


def _given(call: ast.Call) -> Fields:
    """Return the argument expressions of a `Fault(…)` by field."""
    positional = dict(zip(POSITIONAL, call.args, strict=False))
    return positional | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def _arguments(function: Function, call: ast.Call) -> Fields:
    """Return the argument expression of each parameter in a call of a function."""
    own = [name for name in parameters(function) if name not in ("self", "cls")]
    defaults = dict(zip(reversed(parameters(function)), reversed(function.args.defaults), strict=False))
    typed = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return {**defaults, **dict(zip(own, call.args, strict=False)), **typed}


def _is_helper(function: Function, fields: Fields) -> bool:
    """Return whether a function makes a fault from its arguments.

    Of one that others import, such as a check of ranges, the words are its own, unless it is given the code.
    """
    own = parameters(function)
    passed = {name for name, value in fields.items() if isinstance(value, ast.Name) and value.id in own}
    return bool(passed) if function.name.startswith("_") else "code" in passed


def _branches(fields: Fields, scope: Scope) -> Iterator[Scope]:
    """Yield the scope once for every place that sets several names of the fields together: a code and its problem."""
    names = {node.id for value in fields.values() for node in ast.walk(value) if isinstance(node, ast.Name)}
    found = {name: definitions(scope, name) for name in sorted(names - scope.given.keys())}
    several = {name: values for name, values in found.items() if len(values) > 1}
    places = {tuple(each.place for each in values) for values in several.values()}
    if len(several) < 2 or len(places) > 1:
        yield scope
        return
    for values in zip(*several.values(), strict=True):
        chosen = {name: (each.value, scope.moved_to(each.value)) for name, each in zip(several, values, strict=True)}
        yield dataclasses.replace(scope, given={**scope.given, **chosen})


def _room(scope: Scope) -> str:
    """Return the file that a fault comes from: the one that calls the helper."""
    for _, outside in scope.given.values():
        return _room(outside)
    return scope.module.room
