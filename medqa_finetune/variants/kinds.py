"""Defines the kinds of variants and selects those that a method allows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.methods.registry import method_of
from medqa_finetune.methods.settings import UNTRAINED


@dataclass(frozen=True)
class Kind:
    """A kind of variant.

    Attributes:
        what: Description, also written to the metadata.
        why_not: Reason for refusing it if the run's method does not list it in `Method.variants`.
        on_base: Whether it is an adapter, loaded onto the base as quantized in training.
    """

    what: str
    why_not: str = ""
    on_base: bool = False


NO_ADAPTER = "the run has no adapter"
NOTHING_TRAINED = "nothing was trained, so there is nothing but base and quantized"
# In table order.
KINDS = {
    "base": Kind("the untuned model"),
    "quantized": Kind("the untuned model, quantized"),
    "lora": Kind("the trained adapter, on the base as it was trained", NO_ADAPTER, True),
    "lora_quantized": Kind("the tuned model (merged), quantized", NO_ADAPTER),
    "merged": Kind("the tuned model, in weights of its own", NOTHING_TRAINED),
}
# base -> quantize -> LoRA -> quantize
PIPELINE = ("base", "quantized", "lora", "lora_quantized")
# A variant comes after those it is built from.
BUILDING_ORDER = ("base", "quantized", "lora", "merged", "lora_quantized")


def choose(asked: Sequence[str] | None, method: MethodConfig) -> list[str]:
    """Return the variants to build, in building order: those requested, or all that the method allows.

    A merged model is compared with the unmerged adapter, so `merged` adds `lora` where the base was quantized.

    Raises:
        ConfigError: one is unknown, or not possible for the method.
    """
    if asked is not None and not asked:
        raise ConfigError(Fault("empty", "must name at least one", key="variants", got=[], allowed=tuple(KINDS)))
    unknown = [name for name in asked or () if name not in KINDS]
    if unknown:
        problem = "there are no such variants" if len(unknown) > 1 else "there is no such variant"
        raise ConfigError(Fault("not-allowed", problem, key="variants", got=unknown, allowed=tuple(KINDS)))
    possible = [name for name in BUILDING_ORDER if name in method_of(method).variants]
    refused = [name for name in asked or () if name not in possible]
    if refused:
        problem = f"not possible with method={method.name}: {KINDS[refused[0]].why_not}"
        raise ConfigError(Fault("not-supported", problem, key="variants", got=refused, allowed=tuple(possible)))
    wanted = set(possible if asked is None else asked)
    if "merged" in wanted and method.quantization != "none":
        wanted.add("lora")
    return [name for name in BUILDING_ORDER if name in wanted]


def quantization_of(asked: str, method: MethodConfig) -> MethodConfig:
    """Return the quantization of `quantized` and `lora_quantized`, as settings of a method without training.

    Args:
        asked: `nf4`, `fp4` or `int8`; `auto` is the quantization used in training, or NF4 if there was none.
        method: The run's method.
    """
    kind = asked if asked != "auto" else method.quantization if method.quantization != "none" else "nf4"
    own = kind == method.quantization
    # Without a setting in the run, double quantization is on, as in conf/method/qlora.yaml.
    doubled = method.double_quantization if own else kind != "int8"
    compute_dtype = method.compute_dtype
    return replace(
        UNTRAINED, name="quantized", quantization=kind, double_quantization=doubled, compute_dtype=compute_dtype
    )
