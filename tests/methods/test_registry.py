"""Methods are found, those of other packages too, and nothing outside asks which method it is."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest

from medqa_finetune.config.schema import Config, MethodConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.methods import registry
from medqa_finetune.methods.base import ModelMethod
from medqa_finetune.methods.lora import Lora
from medqa_finetune.methods.registry import described, method_names, method_of, own_methods
from tests.config.builders import VALID, changed
from tests.conftest import REPOSITORY
from tests.faulty import only_fault

PACKAGE = REPOSITORY / "medqa_finetune"
OUTSIDE = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "methods" not in path.parents]


def asks(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that ask which method it is: by `.trains`, by a key that ends in it, or by the value itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.Subscript | ast.Match):
            parts = list(ast.walk(node))
            values = {part.value for part in parts if isinstance(part, ast.Constant)} & {*own_methods()}
            attributes = {part.attr for part in parts if isinstance(part, ast.Attribute)}
            if "trains" in attributes or (isinstance(node, ast.Compare) and values):
                yield node.lineno


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_nothing_outside_asks_which_method_it_is(path: Path) -> None:
    assert list(asks(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "if config.method.trains == 'x': pass",
        "TABLE[method.trains]",
        "record.setting('method', 'trains') != 'nothing'",
        "kind in ('adapter', 'all')",
        "match method.trains:\n    case 'lookup': pass",
    ],
)
def test_the_reader_sees_who_asks(code: str) -> None:
    assert list(asks(ast.parse(code)))


def test_every_file_of_the_folder_is_a_method_that_is_found() -> None:
    files = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__", "base", "registry", "settings"}
    assert {each.__module__.rpartition(".")[2] for each in own_methods().values()} == files
    assert all(method_of(MethodConfig(name="x", trains=kind)).kind == kind for kind in own_methods())


class Prompts(Lora):
    kind = "prompts"


class Shadow(Lora):
    kind = "adapter"


@pytest.fixture
def another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds methods; one of its modules cannot be imported."""
    module = ModuleType("another_package")
    vars(module).update(Prompts=Prompts, Shadow=Shadow, Config=Config, ModelMethod=ModelMethod)
    monkeypatch.setitem(sys.modules, "another_package", module)
    names = {"prompts": "another_package:Prompts", "adapter": "another_package:Shadow", "gone": "no_such_module:X",
             "class": "another_package:Config", "other": "another_package:Prompts"}  # fmt: skip
    added = EntryPoints(EntryPoint(name, value, registry.GROUP) for name, value in names.items())
    monkeypatch.setattr(registry, "entry_points", lambda group: added.select(group=group))


@pytest.mark.usefixtures("another_package")
def test_a_method_of_another_package_is_used_like_ours() -> None:
    config = changed(VALID, method__trains="prompts")
    assert type(method_of(config.method)) is Prompts
    assert "prompts" in method_names()


@pytest.mark.usefixtures("another_package")
def test_our_methods_are_not_replaced_by_those_of_others() -> None:
    assert described("adapter") is Lora
    assert list(method_names()).count("adapter") == 1


@pytest.mark.usefixtures("another_package")
@pytest.mark.parametrize(
    ("kind", "code"), [("gone", "not-importable"), ("class", "not-a-method"), ("other", "not-a-method")]
)
def test_a_package_that_adds_no_method_is_named_with_the_settings(kind: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, method__trains=kind)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "method.trains", kind)
    # What a record says of it is still read.
    assert described(kind) is ModelMethod


def test_a_method_that_is_not_installed_is_described_as_most_are() -> None:
    assert (described("of another package"), described(None)) == (ModelMethod, ModelMethod)
