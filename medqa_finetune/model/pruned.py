"""Models whose layers differ in size, as structured pruning produces them.

`config.json` has one size for all layers, but the stored weights of each layer have their own. `from_pretrained` takes
the arguments of transformers' own, and gives each layer its stored size; transformers itself refuses such files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from medqa_finetune.architecture.files import Tensor, read_config, read_header, read_tensors, weight_files
from medqa_finetune.compat.bitsandbytes import keep_precision, packed_weights
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.peft import bare
from medqa_finetune.compat.transformers import head_width, share_keys
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.record.schema import LayerSizes

# Architectures whose layers are known to compute with the sizes of their own matrices.
KINDS = ("llama", "phi", "qwen2")
QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")

Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Block:
    """Part of a transformer layer: linear layers that read the hidden states, and one that writes them."""

    inputs: tuple[str, ...]
    output: str

    @property
    def is_attention(self) -> bool:
        """Whether the block is attention; otherwise it is an MLP."""
        return self.inputs == QUERY_KEY_VALUE


BLOCKS = (
    Block(QUERY_KEY_VALUE, "o_proj"),  # Qwen2, Llama
    Block(QUERY_KEY_VALUE, "dense"),  # Phi
    Block(("gate_proj", "up_proj"), "down_proj"),  # Qwen2, Llama
    Block(("fc1",), "fc2"),  # Phi
)


# Options of `from_pretrained` that callers cannot change.
SAFE = ("local_files_only", "trust_remote_code", "use_safetensors")


def from_pretrained(folder: str | Path, **options: Any) -> Any:
    """Load a causal language model as `AutoModelForCausalLM.from_pretrained` does, with layers of their stored sizes.

    Args:
        folder: Folder with `config.json` and safetensors weights.
        options: Those of transformers, except that nothing is downloaded, no code is run and no pickle is read.

    Raises:
        ModelError: the matrices of a layer do not fit each other, or uneven layers are not supported for this
            architecture.
    """
    skeleton = build_skeleton(Path(folder))
    others = {name: value for name, value in options.items() if name not in SAFE}
    loaded = type(skeleton).from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, **others
    )
    keep_precision(loaded[0] if isinstance(loaded, tuple) else loaded)  # with output_loading_info it is a pair
    return loaded


def build_skeleton(folder: Path) -> PreTrainedModel:
    """Return the model of a folder on the meta device: modules and shapes without memory for weights.

    Shapes are those of the stored weights if there are any, else those of `config.json`.

    Raises:
        ModelError: transformers has no causal language model of this architecture, or the weights' sizes do not fit
            each other.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = cast(Any, AutoModelForCausalLM).from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a configuration class raises on what it reads
        settings = read_config(folder)
        own_code = "auto_map" in settings
        reason = "code that comes with weights is never run" if own_code else words_of(error)
        raise ModelError(
            Fault(
                "unknown-architecture",
                f"transformers cannot build this model by itself ({reason})",
                key="model_type",
                got=settings.get("model_type"),
                hint="Use a causal language model that transformers knows.",
                file=str(folder / "config.json"),
            )
        ) from None
    tensors = read_tensors(folder) | _packed(folder) if any(folder.glob("*.safetensors*")) else {}
    sizes = _stored_sizes(folder, model, tensors)
    if not sizes:
        return cast(PreTrainedModel, model)
    with torch.device("meta"):
        return _class_with(type(model), sizes)(model.config)


def layer_sizes(model: torch.nn.Module) -> LayerSizes | None:
    """Return the sizes of a model's layers, one number per layer; None if they are those of its configuration."""
    own = bare(model)
    if not getattr(own, "has_uneven_layers", False):
        return None
    found: dict[str, list[int]] = {"heads": [], "key_heads": [], "intermediate": []}
    for part in own.modules():
        for block in BLOCKS:
            if not _is(part, block):
                continue
            widths = [getattr(part, name).out_features for name in block.inputs]
            if block.is_attention:
                found["heads"].append(widths[0] // head_width(part))
                found["key_heads"].append(widths[1] // head_width(part))
            else:
                found["intermediate"].append(widths[0])
    return LayerSizes(**found)


def _stored_sizes(folder: Path, model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> Sizes:
    """Return (rows, columns) of the linear layers of all blocks with a stored size other than configured."""
    sizes: Sizes = {}
    for name, part in model.named_modules():
        for block in BLOCKS:
            if not _is(part, block):
                continue
            configured: Sizes = {
                each: (getattr(part, each).out_features, getattr(part, each).in_features)
                for each in (*block.inputs, block.output)
            }
            stored = {each: _stored(tensors.get(f"{name}.{each}.weight"), shape) for each, shape in configured.items()}
            if stored != configured:
                _check(folder, name, part, stored)
                sizes |= {f"{name}.{each}": shape for each, shape in stored.items()}
    kind = read_config(folder).get("model_type")
    if sizes and kind not in KINDS:
        problem = f"{next(iter(sizes))} has another size than config.json says, which this kind of model may not have"
        file = str(folder / "config.json")
        raise ModelError(Fault("not-supported", problem, key="model_type", got=kind, allowed=KINDS, file=file))
    return sizes


def _packed(folder: Path) -> dict[str, Tensor]:
    """Return 4-bit weights with their unpacked shapes; they are stored as one column of bytes."""
    return {
        name: Tensor(dtype, shape)
        for path in weight_files(folder)
        for name, dtype, shape in packed_weights(path, read_header(path))
    }


def _is(part: torch.nn.Module, block: Block) -> bool:
    return all(isinstance(getattr(part, each, None), torch.nn.Linear) for each in (*block.inputs, block.output))


def _stored(tensor: Tensor | None, configured: tuple[int, int]) -> tuple[int, int]:
    # A missing weight, or one that is not a matrix, is refused when the weights are loaded.
    return (tensor.shape[0], tensor.shape[1]) if tensor is not None and len(tensor.shape) == 2 else configured


def _check(folder: Path, name: str, part: Any, stored: Sizes) -> None:
    """Refuse a block whose matrices cannot be multiplied with each other.

    Raises:
        ModelError: names the layer and the mismatch.
    """
    block = next(block for block in BLOCKS if _is(part, block))
    width = getattr(part, block.output).out_features
    rows = [stored[each][0] for each in block.inputs]
    problem = None
    if {stored[each][1] for each in block.inputs} != {width} or stored[block.output][0] != width:
        problem = f"reads or returns other states than the {width} numbers of config.json's hidden_size"
    elif stored[block.output][1] != rows[0]:
        problem = f"{block.inputs[0]} gives {rows[0]} numbers and {block.output} takes {stored[block.output][1]}"
    elif block.is_attention:
        problem = _problem_of_heads(rows, head_width(part))
    elif len(set(rows)) > 1:
        problem = f"{' and '.join(block.inputs)} give {' and '.join(map(str, rows))} numbers"
    if problem:
        hint = "Its weights do not belong together: make or fetch the model again."
        raise ModelError(Fault("weights-mismatch", problem, key=name, file=str(folder), hint=hint))


def _problem_of_heads(rows: list[int], head: int) -> str | None:
    queries, keys, values = rows
    if keys != values:
        return f"k_proj has {keys} rows and v_proj {values}"
    if queries % head or keys % head or not keys:
        return f"q_proj has {queries} rows and k_proj {keys}, no whole number of heads of {head}"
    if (queries // head) % (keys // head):
        return f"{queries // head} heads cannot share {keys // head} heads of keys evenly"
    return None


def _class_with(kind: type[PreTrainedModel], sizes: Sizes) -> type[PreTrainedModel]:
    """Return a subclass of the model's class whose layers have these sizes.

    transformers instantiates the class and then quantizes and fills it, so all its features work with these sizes.
    """

    def __init__(self: Any, config: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807
        kind.__init__(self, config, *arguments, **options)
        _resize(self, sizes)

    body = {"__init__": __init__, "__module__": kind.__module__, "__doc__": kind.__doc__, "has_uneven_layers": True}
    # Keeps the name of the architecture, which `save_pretrained` writes into config.json.
    return cast(type[PreTrainedModel], type(kind.__name__, (kind,), body))


def _resize(model: torch.nn.Module, sizes: Sizes) -> None:
    for name, (rows, columns) in sizes.items():
        parent, _, own = name.rpartition(".")
        block = cast(Any, model.get_submodule(parent))
        old = getattr(block, own)
        linear = torch.nn.Linear(
            columns, rows, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype
        )
        setattr(block, own, linear)
        if own == "k_proj":  # how many heads share one of keys
            share_keys(block, sizes[f"{parent}.q_proj"][0] // rows)
