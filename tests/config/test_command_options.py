import enum
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import pytest

from medqa_finetune.config.command_options import (
    Options,
    describe,
    from_flags,
    option,
    option_keys,
    parse_options,
    split_options,
)
from medqa_finetune.config.ranges import at_least
from medqa_finetune.errors import ConfigError, Fault
from tests.faulty import only_fault


class Kind(enum.Enum):
    SMALL = 1


@dataclass(frozen=True)
class Plain:
    folder: str = "outputs"
    file: str | None = None
    count: int = 1
    share: float = 0.5
    items: bool = False
    kind: Kind = Kind.SMALL
    names: list[str] = field(default_factory=lambda: ["a"])


KEYS = tuple(each.name for each in fields(Plain))


def test_nothing_typed_gives_the_defaults() -> None:
    assert parse_options(Plain, []) == Plain()


def test_values_take_the_type_of_their_field() -> None:
    got = parse_options(Plain, ["folder=a=b c", "file=x", "count=3", "share=2", "items=true", "names=[rouge,bleu]"])
    assert got == Plain("a=b c", "x", 3, 2.0, True, names=["rouge", "bleu"])
    assert isinstance(got.share, float)


@pytest.mark.parametrize("text", ["010", "NO", "12:30:00", "1e3", "[x]", "头痛", "a: b", ""])
def test_text_is_taken_as_typed(text: str) -> None:
    assert parse_options(Plain, [f"folder={text}", f"file={text}"]).folder == text


def test_null_is_none_where_allowed() -> None:
    assert parse_options(Plain, ["file=null", "folder=null"]) == Plain(folder="null", file=None)


@pytest.mark.parametrize(
    ("argument", "code", "key", "got"),
    [
        ("run", "not-key-value", None, "run"),
        ("~folder", "not-key-value", None, "~folder"),
        ("foldr=x", "unknown-key", "foldr", "x"),
        ("+folder=x", "unknown-key", "+folder", "x"),
        ("--folder=x", "unknown-key", "--folder", "x"),
        ("count=fast", "wrong-type", "count", "fast"),
        ("count=1.5", "wrong-type", "count", 1.5),
        ("count=", "wrong-type", "count", ""),
        ("count=null", "wrong-type", "count", None),
        ("share=fast", "wrong-type", "share", "fast"),
        ("items=maybe", "wrong-type", "items", "maybe"),
        ("names=rouge", "wrong-type", "names", "rouge"),
        ("names=[a", "not-yaml", "names", "[a"),
        ("names=[[a]]", "wrong-type", "names", [["a"]]),
        ("kind=LARGE", "not-allowed", "kind", "LARGE"),
        ("folder=${nothing}", "unresolved", "folder", "${nothing}"),
    ],
)
def test_a_fault_has_key_and_value(argument: str, code: str, key: str | None, got: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Plain, [argument])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    assert fault.allowed == {"not-key-value": KEYS, "unknown-key": KEYS, "not-allowed": ("SMALL",)}.get(code, ())
    assert ("folder?" in fault.hint) is (code == "unknown-key")


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Plain, ["count=1", "count=2"])
    assert (only_fault(caught).code, only_fault(caught).key, only_fault(caught).got) == ("given-twice", "count", "2")


@dataclass(frozen=True)
class Shared(Options):
    PREFIX = "own."

    count: int = option(1, "how many", check=partial(at_least, least=1))
    kinds: list[str] = option(["a"], "which kinds", allowed=("a", "b"))


@dataclass(frozen=True)
class Command(Shared):
    folder: str | None = option(None, "where from", value="DIR", bare=True, positional=True, heading="places")
    quick: bool = option(False, "skip the check " + "that takes long " * 9, bare=True)
    split_names: list[str] = option([], "parts", bare=True)

    def conflicts(self) -> Iterator[Fault]:
        if self.quick and self.folder is None:
            yield Fault("conflict", "needs a folder", key="quick", got=True)


def test_some_keys_have_a_prefix() -> None:
    got = parse_options(Command, ["own.count=3", "folder=x"])
    assert (got.count, got.folder) == (3, "x")
    assert option_keys(Command) == ("folder", "quick", "split_names", "own.count", "own.kinds")


@pytest.mark.parametrize(
    ("argument", "code", "key", "got"),
    [
        ("own.count=fast", "wrong-type", "own.count", "fast"),
        ("own.count=0", "out-of-range", "own.count", 0),
        ("own.kinds=[a,c]", "not-allowed", "own.kinds", "c"),
        ("own.kinds=[a", "not-yaml", "own.kinds", "[a"),
        ("folder=${nothing}", "unresolved", "folder", "${nothing}"),
        ("own.cuont=1", "unknown-key", "own.cuont", "1"),
        ("own.folder=x", "unknown-key", "own.folder", "x"),
        ("count=1", "unknown-key", "count", "1"),
        ("quick=true", "conflict", "quick", True),
    ],
)
def test_a_fault_has_the_typed_key(argument: str, code: str, key: str, got: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Command, [argument])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, key, got)
    allowed = {"unknown-key": option_keys(Command), "not-allowed": ("a", "b")}
    assert fault.allowed == allowed.get(code, ())


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Command(count=0, kinds=["c"], quick=True)
    assert [fault.key for fault in caught.value.faults] == ["own.count", "own.kinds", "quick"]


def test_own_options_are_split_from_the_rest() -> None:
    own, rest = split_options(Command, ["model=x", "own.anything=1", "folder=y", "own=2", "-m"])
    assert (own, rest) == (["own.anything=1", "folder=y"], ["model=x", "own=2", "-m"])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--folder", "a b"], ["folder=a b"]),
        (["--folder=x", "model=y"], ["folder=x", "model=y"]),
        (["--split-names", "x", "y", "--quick"], ["split_names=[x,y]", "quick=true"]),
        (["--split-names", "x", "model=y"], ["split_names=[x]", "model=y"]),
        (["here", "model=y"], ["folder=here", "model=y"]),
    ],
)
def test_flags_become_keys(typed: list[str], expected: list[str]) -> None:
    assert from_flags(Command, typed) == expected


@pytest.mark.parametrize(
    ("typed", "code", "key"),
    [
        (["--foldr", "x"], "unknown-key", "--foldr"),
        (["--folder"], "missing-value", "--folder"),
        (["--split-names", "--quick"], "missing-value", "--split-names"),
    ],
)
def test_impossible_flags_are_refused(typed: list[str], code: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags(Command, typed)
    assert (only_fault(caught).code, only_fault(caught).key) == (code, key)


def test_help_describes_every_option() -> None:
    lines = describe(Command).splitlines()
    assert lines[0] == "places:"
    assert lines[1] == "  folder=DIR                where from"
    assert lines[-2].split() == ["own.count=N", "how", "many", "(default", "1)"]
    assert lines[-1].endswith("(default [a])")
    assert max(map(len, lines)) <= 120
