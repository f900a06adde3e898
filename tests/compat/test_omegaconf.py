"""Which fields of its errors OmegaConf sets, and how it refuses a file that is no mapping."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigTypeError,
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    KeyValidationError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from medqa_finetune.compat.omegaconf import Kind, Refusal, is_no_mapping, refusal_of, words_of


@dataclass
class Inner:
    rate: float = 1.0
    count: int | None = None
    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    name: str = "a"
    inner: Inner = field(default_factory=Inner)


def refusal(**values: Any) -> Refusal:
    """Return what merging values into the schema is refused with."""
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.merge(OmegaConf.structured(Outer), values)
    return refusal_of(caught.value)


def unresolved(text: str) -> tuple[OmegaConfBaseException, Refusal]:
    """Return what looking up an interpolation is refused with."""
    node = OmegaConf.structured(Outer)
    node.name = text
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_object(node)
    return caught.value, refusal_of(caught.value)


def test_validation_error_has_full_key_value_and_object_type() -> None:
    found = refusal(inner={"rate": "fast"})
    assert (found.kind, found.key, found.value, found.hint) == (Kind.WRONG_VALUE, "inner.rate", "fast", float)


def test_validation_error_of_a_list_holds_a_plain_value() -> None:
    found = refusal(inner={"count": [1]})
    assert (found.key, found.value, found.hint) == ("inner.count", [1], int | None)
    assert type(found.value) is list


def test_validation_error_of_null_holds_none() -> None:
    assert refusal(inner={"rate": None}) == Refusal(Kind.WRONG_VALUE, "inner.rate", None, float, 1.0)


def test_config_type_error_of_a_list_has_full_key() -> None:
    with pytest.raises(ConfigTypeError) as caught:
        OmegaConf.update(OmegaConf.structured(Outer), "inner.names", {"a": 1})
    found = refusal_of(caught.value)
    assert (found.kind, found.key) == (Kind.WRONG_VALUE, "inner.names")


def test_validation_error_of_a_section_names_no_key() -> None:
    found = refusal(inner=3)
    assert (found.kind, found.key) == (Kind.WRONG_VALUE, "")


def test_config_key_error_has_full_key() -> None:
    found = refusal(inner={"rat": 1})
    assert (found.kind, found.key) == (Kind.UNKNOWN_KEY, "inner.rat")


def test_config_attribute_error_has_full_key() -> None:
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.update(OmegaConf.structured(Outer), "inner.rat", 1)
    assert refusal_of(caught.value).kind is Kind.UNKNOWN_KEY
    assert refusal_of(caught.value).key == "inner.rat"


def test_missing_mandatory_value_has_full_key() -> None:
    node = OmegaConf.structured(Outer)
    node.inner.rate = "???"
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_object(node)
    assert (refusal_of(caught.value).kind, refusal_of(caught.value).key) == (Kind.MISSING, "inner.rate")
    with pytest.raises(OmegaConfBaseException) as caught:
        print(node.inner.rate)
    assert (refusal_of(caught.value).kind, refusal_of(caught.value).key) == (Kind.MISSING, "inner.rate")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("${no}", InterpolationKeyError), ("${no:1}", UnsupportedInterpolationType),
        ("${oc.env:MEDQA_NOT_SET}", InterpolationResolutionError),
        ("${inner.missing}", InterpolationResolutionError), ("${name}", InterpolationResolutionError),
    ],
)  # fmt: skip
def test_interpolation_error_has_full_key_and_node(text: str, kind: type[Exception]) -> None:
    error, found = unresolved(text)
    assert isinstance(error, kind)
    assert (found.kind, found.key, found.written) == (Kind.UNRESOLVED, "name", text)


def test_interpolation_to_a_missing_value_is_an_interpolation_error() -> None:
    node = OmegaConf.create({"a": "${b}", "b": "???"})
    with pytest.raises(InterpolationToMissingValueError) as caught:
        print(node.a)
    assert refusal_of(caught.value).kind is Kind.UNRESOLVED


def test_interpolation_in_a_list_has_its_place() -> None:
    node = OmegaConf.create({"a": ["${no}"]})
    with pytest.raises(InterpolationKeyError) as caught:
        OmegaConf.to_container(node, resolve=True)
    assert (refusal_of(caught.value).key, refusal_of(caught.value).written) == ("a[0]", "${no}")


def test_interpolation_validation_error_has_the_value_it_led_to() -> None:
    node = OmegaConf.structured(Outer)
    node.inner.rate = "${name}"
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_object(node)
    found = refusal_of(caught.value)
    assert (found.kind, found.key, found.value, found.hint) == (Kind.WRONG_VALUE, "inner.rate", "a", float)


@pytest.mark.parametrize(("values", "kind"), [("a: ${", GrammarParseError), ("null: 1", KeyValidationError)])
def test_errors_of_load_are_errors_of_omegaconf(values: str, kind: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(values, encoding="utf-8")
    with pytest.raises(kind) as caught:
        OmegaConf.load(tmp_path / "a.yaml")
    assert isinstance(caught.value, OmegaConfBaseException)
    assert refusal_of(caught.value).kind is Kind.OTHER


def test_an_error_without_fields_says_less_and_nothing_wrong() -> None:
    error = OmegaConfBaseException("some words")
    for name in ("key", "full_key", "value", "object_type", "parent_node"):
        vars(error).pop(name, None)
    assert refusal_of(error) == Refusal(Kind.OTHER, "")


def test_words_are_those_before_the_fields() -> None:
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.update(OmegaConf.structured(Outer), "inner.rate", "fast")
    assert "\n" not in words_of(caught.value)
    assert "full_key" not in words_of(caught.value)
    assert words_of(OmegaConfBaseException()) == "OmegaConfBaseException"


def test_load_refuses_a_number_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "number.yaml").write_text("42\n", encoding="utf-8")
    with pytest.raises(OSError) as caught:  # noqa: PT011 (it has nothing but words)
        OmegaConf.load(tmp_path / "number.yaml")
    assert is_no_mapping(caught.value)
    with pytest.raises(FileNotFoundError) as absent:
        OmegaConf.load(tmp_path / "none.yaml")
    assert not is_no_mapping(absent.value)


def test_load_takes_a_text_for_a_key_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "text.yaml").write_text("text\n", encoding="utf-8")
    assert OmegaConf.load(tmp_path / "text.yaml") == {"text": None}


def test_to_container_keeps_interpolations_and_what_is_missing_as_written() -> None:
    node = OmegaConf.create({"a": "${b}", "b": "???", "c": {"d": ["${a}"], "e": None}})
    assert isinstance(node, DictConfig)
    assert OmegaConf.to_container(node, resolve=False) == {"a": "${b}", "b": "???", "c": {"d": ["${a}"], "e": None}}
