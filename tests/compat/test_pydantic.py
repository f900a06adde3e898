"""What pydantic refuses becomes a fault in this package's words."""

from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from medqa_finetune.compat.pydantic import fault_of
from medqa_finetune.errors import NO_VALUE, Fault


@dataclass
class Inner:
    steps: int


@dataclass
class Outer:
    inner: Inner
    name: str = ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"inner": {"steps": "3"}}', Fault("wrong-type", "must be a valid integer", key="inner.steps", got="3")),
        ('{"inner": {"steps": 3}, "name": null}', Fault("wrong-type", "must be a valid string", key="name", got=None)),
        ('{"inner": {}}', Fault("missing-key", "is missing", key="inner.steps")),
    ],
)
def test_the_first_refusal_is_a_fault(text: str, fault: Fault) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Outer).validate_json(text, strict=True)
    assert fault_of(caught.value) == fault


@pytest.mark.parametrize(("text", "code"), [('{"inner": ', "not-json"), ("[]", "wrong-type")])
def test_a_text_that_is_none_at_all(text: str, code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Outer).validate_json(text, strict=True)
    fault = fault_of(caught.value)
    assert (fault.code, fault.key, fault.got) == (code, None, NO_VALUE)
    assert "Input" not in fault.problem
