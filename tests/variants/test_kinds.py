"""Which variants a run allows."""

import pytest

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.methods.registry import own_methods
from medqa_finetune.variants.kinds import KINDS, choose, quantization_of
from tests.faulty import only_fault
from tests.variants.runs import FULL, LORA, NONE, QLORA

INT8 = MethodConfig(name="qlora_8bit", quantization="int8")


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (LORA, {"base", "quantized", "lora", "lora_quantized", "merged"}),
        (QLORA, {"base", "quantized", "lora", "lora_quantized", "merged"}),
        (FULL, {"base", "quantized", "merged"}),
        (NONE, {"base", "quantized"}),
    ],
)
def test_a_run_allows_what_its_method_has_trained(method: MethodConfig, names: set[str]) -> None:
    assert set(choose(None, method)) == names


@pytest.mark.parametrize(
    ("asked", "method", "code", "got", "allowed"),
    [
        (["lora"], FULL, "not-supported", ["lora"], {"base", "quantized", "merged"}),
        (["base", "merged"], NONE, "not-supported", ["merged"], {"base", "quantized"}),
        (["gguf"], LORA, "not-allowed", ["gguf"], set(KINDS)),
        ([], LORA, "empty", [], set(KINDS)),
    ],
)
def test_impossible_variants_are_refused(
    asked: list[str], method: MethodConfig, code: str, got: list[str], allowed: set[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(asked, method)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got, set(fault.allowed)) == (code, "variants", got, allowed)


def test_what_another_is_made_of_comes_first() -> None:
    assert choose(["lora_quantized", "merged", "base"], LORA) == ["base", "merged", "lora_quantized"]


def test_merging_over_quantized_adds_the_adapter() -> None:
    assert choose(["merged"], QLORA) == ["lora", "merged"]
    assert choose(["merged"], LORA) == ["merged"]


@pytest.mark.parametrize(
    ("asked", "method", "quantization", "doubled"),
    [
        ("auto", QLORA, "nf4", True),
        ("auto", LORA, "nf4", True),
        ("auto", MethodConfig(name="q", quantization="fp4"), "fp4", False),
        ("auto", INT8, "int8", False),
        ("fp4", LORA, "fp4", True),
        ("nf4", INT8, "nf4", True),
        ("int8", QLORA, "int8", False),
    ],
)
def test_quantization_is_the_runs_or_nf4(asked: str, method: MethodConfig, quantization: str, doubled: bool) -> None:
    found = quantization_of(asked, method)
    assert (found.quantization, found.double_quantization, found.trains) == (quantization, doubled, "nothing")


def test_every_kind_that_a_method_refuses_says_why() -> None:
    methods = [each for each in own_methods().values() if each.loads_model]
    refused = {name for name in KINDS for each in methods if name not in each.variants}
    assert {name for name, kind in KINDS.items() if kind.why_not} == refused
    assert all(name in KINDS for each in methods for name in each.variants)
