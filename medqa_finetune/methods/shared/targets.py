"""Which matrices get adapters, by their names in the model, and how many weights these adapters have."""

from collections.abc import Iterable, Mapping

from medqa_finetune.architecture.size import ModelSize, layer_number
from medqa_finetune.methods.settings import MethodConfig

# What the attention of a transformer layer is called, whatever else its name says: `self_attn`, `attn`, `attention`,
# `self_attention`. tests/methods/test_targets.py compares this with what transformers itself says of its models.
ATTENTION_MARKS = ("attn", "attention")

# `method.target_parameters` that means the matrices of all experts.
EXPERTS = "experts"


def choose_linear(names: Iterable[str], group: str) -> list[str]:
    """Return those linear layers of a model that a group of `method.target_modules` means.

    Args:
        names: Of all linear layers but the head.
        group: `attention`, those of a transformer layer's attention; `attention_mlp`, all of the transformer layers,
            which are numbered; `all_linear`, all.
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


def block_weights(size: ModelSize, asked: object) -> int:
    """Return the weights of the linear layers in the blocks that `fp32_blocks` names; 0 for `auto` and `none`."""
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        return 0
    names = [str(each) for each in asked]

    def is_asked_for(matrix: str) -> bool:
        parts = matrix.split(".")
        layer = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts))
        return any(fits(".".join(parts[: layer + 2]), each) for each in names)

    return sum(rows * columns for name, (rows, columns) in size.linear.items() if is_asked_for(name))


def adapted_matrices(size: ModelSize, settings: MethodConfig) -> dict[str, tuple[int, int]]:
    """Return (rows, columns) of every matrix that gets an adapter, by the name of its module."""
    modules = settings.target_modules
    if isinstance(modules, str):
        return {name: size.linear[name] for name in choose_linear(size.linear, modules)}
    return {name: shape for name, shape in size.matrices.items() if any(fits(name, module) for module in modules)}


def adapted_parameters(size: ModelSize, settings: MethodConfig) -> dict[str, tuple[int, int, int]]:
    """Return (experts, rows, columns) of every parameter that `method.target_parameters` gives an adapter."""
    names = settings.target_parameters
    if names is None or names == EXPERTS:
        return dict(size.experts) if names else {}
    single = {f"{name}.weight": (1, *shape) for name, shape in size.matrices.items()}
    return {
        name: shape for name, shape in {**single, **size.experts}.items() if any(fits(name, each) for each in names)
    }


def multiplied_weights(adapted: Mapping[str, tuple[int, int]], settings: MethodConfig) -> int:
    """Return the weights of adapters that a token is multiplied with.

    An adapter of rank r has r rows and r columns, r * (rows + columns) weights (Hu et al. 2021, arXiv:2106.09685,
    section 4.1).
    """
    return settings.rank * sum(rows + columns for rows, columns in adapted.values())


def adapter_weights(adapted: Mapping[str, tuple[int, int]], settings: MethodConfig) -> int:
    """Return all weights of adapters: with DoRA, also a length for each row (Liu et al. 2024, section 4.1)."""
    lengths = sum(rows for rows, _ in adapted.values()) if settings.dora else 0
    return multiplied_weights(adapted, settings) + lengths
