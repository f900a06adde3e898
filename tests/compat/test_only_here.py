"""What dependencies do not promise is used in `compat/` and nowhere else; read from the sources, by `ast`."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.sources import ORDERLY, ROOT, Source, offences

SOURCES = [source for source in ORDERLY if not source.name.startswith("medqa_finetune/compat/")]

OURS = ("medqa_finetune", "scripts", "tests")
# Modules that a library documents; what lies deeper in it, or beside, is an affair of its own.
DOCUMENTED = {
    "transformers": {"transformers", "transformers.utils.logging", "transformers.integrations"},
    "peft": {"peft", "peft.optimizers"},
    "bitsandbytes": {"bitsandbytes"},
    "accelerate": {"accelerate"},
    "datasets": {"datasets"},
    "sacrebleu": {"sacrebleu", "sacrebleu.metrics"},
    "vllm": {"vllm"},
    "lm_eval": {"lm_eval"},
    "liger_kernel": set[str](),
    "huggingface_hub": {"huggingface_hub", "huggingface_hub.errors"},
}
# By these a library is asked what it is made of.
LOOKS = {"__dataclass_fields__", "__code__", "__signature__", "__mro__", "__bases__"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


def own_names(tree: ast.Module) -> set[str]:
    """What a file defines or sets on its own objects."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            names.add(node.attr)
    return names


def private_uses(tree: ast.Module) -> Iterator[str]:
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg and is_private(node.arg) and node.arg != "_target_":
            yield node.arg


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def test_the_reader_finds_what_it_looks_for() -> None:
    tree = ast.parse("class A:\n    def _f(self): self._x = 1\n\na._x\nb._y\nhasattr(c, '_z')\nf(_value=1)\nd.__doc__")
    assert list(private_uses(tree)) == ["b._y", "hasattr(c, '_z')", "_value"]


def test_no_private_name_of_a_dependency_is_used() -> None:
    assert offences(SOURCES, lambda source: private_uses(source.tree)) == []


def test_no_private_name_or_undocumented_module_is_imported() -> None:
    def rule(source: Source) -> Iterator[str]:
        for module, name in imported(source.tree):
            package = module.split(".")[0]
            private = any(is_private(part) for part in (*module.split("."), name))
            undocumented = package in DOCUMENTED and module not in DOCUMENTED[package]
            if package not in (*OURS, "__future__") and (private or undocumented):
                yield f"{module}.{name}"

    assert offences(SOURCES, rule) == []


def test_no_library_is_asked_what_it_is_made_of() -> None:
    def rule(source: Source) -> set[str]:
        names = {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
        names |= {node.id for node in source.nodes if isinstance(node, ast.Name)}
        names |= {str(node.value) for node in source.nodes if isinstance(node, ast.Constant)}
        return (names & LOOKS) | ({module for module, _ in imported(source.tree)} & {"inspect"})

    assert offences(SOURCES, rule) == []


def test_every_file_has_its_tests() -> None:
    files = {path.stem for path in (ROOT / "medqa_finetune" / "compat").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert files <= tests
