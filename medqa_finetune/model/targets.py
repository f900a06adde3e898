"""Which matrices an adapter is put beside, by the names that they have in the model."""

from collections.abc import Iterable, Mapping

from medqa_finetune.architecture.size import ModelSize, layer_number
from medqa_finetune.config.schema import MethodConfig

# What the attention of a transformer layer is called, whatever else its name says: `self_attn`, `attn`, `attention`,
# `self_attention`. tests/model/test_targets.py compares this with what transformers itself says of its models.
ATTENTION_MARKS = ("attn", "attention")


def choose_linear(names: Iterable[str], group: str) -> list[str]:
    """Return of the linear layers of a model, the head left out, those that a name of `method.target_modules` means.

    `attention`: those of a transformer layer's attention; `attention_mlp`: all of the transformer layers, which are
    numbered; `all_linear`: all.
    """
    if group == "all_linear":
        return list(names)
    in_layers = [name for name in names if layer_number(name) is not None]
    return in_layers if group == "attention_mlp" else [name for name in in_layers if in_attention(name)]


def in_attention(name: str) -> bool:
    """Say whether a linear layer belongs to the attention of its transformer layer."""
    return any(mark in part for part in name.split(".")[:-1] for mark in ATTENTION_MARKS)


def fits(name: str, module: str) -> bool:
    """Say whether a name of `method.target_modules` means a module, as peft takes it: a whole path, or its end."""
    return name == module or name.endswith(f".{module}")


def adapted_matrices(size: ModelSize, method: MethodConfig) -> dict[str, tuple[int, int]]:
    """Return the matrices that an adapter is put beside; none where the method has no adapter."""
    if method.trains != "adapter":
        return {}
    modules = method.target_modules
    if isinstance(modules, str):
        return {name: size.linear[name] for name in choose_linear(size.linear, modules)}
    return {name: shape for name, shape in size.matrices.items() if any(fits(name, module) for module in modules)}


def adapter_weights(adapted: Mapping[str, tuple[int, int]], method: MethodConfig) -> int:
    """Return the weights of adapters beside matrices.

    One of rank r has r rows and r columns, r * (rows + columns) weights (Hu et al. 2021, arXiv:2106.09685, section 4.1)
    and, with DoRA, a length for each row (Liu et al. 2024, arXiv:2402.09353, section 4.1).
    """
    lengths = sum(rows for rows, _ in adapted.values()) if method.dora else 0
    return int(method.rank) * sum(rows + columns for rows, columns in adapted.values()) + lengths


def trainable_parameters(size: ModelSize, method: MethodConfig) -> int:
    """Return the number of weights that the method trains."""
    return size.parameters if method.trains == "all" else adapter_weights(adapted_matrices(size, method), method)
