"""torch's FSDP2 (`fully_shard`): weights, gradients and optimizer state divided over the processes that train together.

Relied on besides what torch documents: the hooks stay on modules forever, so that a divided model is never one again.
A twin is divided, therefore, which shares its weights with the model that it is made of; that model gives up its own
weights then, and takes new ones after training.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def twin_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model that shares weights and buffers with it, and nothing else."""
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def shapes_of(model: Any) -> dict[str, torch.Size]:
    """Return the shape of every weight by name."""
    return {name: weight.shape for name, weight in model.named_parameters()}


def divide(model: Any) -> None:
    """Divide the weights of a model over all processes, in place; each holds its share of every weight from here on.

    A layer's weights are gathered for its passes. Embeddings, head and last norm stay gathered from the forward pass to
    the end of the backward pass, since the loss multiplies by the head after the model's own pass. The weights that
    were there before are emptied, layer by layer, also where another model shares them.
    """
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for part in (*_layers(model), model):
        undivided = [weight for weight in part.parameters() if not isinstance(weight, DTensor)]
        fully_shard(part, mesh=mesh)
        for weight in undivided:
            weight.data = weight.new_empty(0)


def _layers(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the outermost numbered modules that have weights, such as `model.layers.3`."""
    for name, module in model.named_modules():
        *before, last = name.split(".")
        if last.isdigit() and not any(part.isdigit() for part in before) and any(True for _ in module.parameters()):
            yield module


def take_weights(model: Any, shapes: dict[str, torch.Size]) -> None:
    """Give a model whose weights have been emptied room for them; their values are arbitrary until they are loaded."""
    for name, weight in model.named_parameters():
        weight.data = weight.new_empty(shapes[name])
        weight.grad = None


def share_of(weight: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a weight; the weight itself where it is not divided."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def release_gathered(model: Any) -> None:
    """Free what a pass without gradients has left gathered, so that the model's weights are its shares."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_weights(model: Any, *, keep: bool) -> dict[str, torch.Tensor]:
    """Gather all weights and saved buffers by name, tied ones once, on the CPU; all processes call it.

    Args:
        model: A divided model.
        keep: Whether this process gets them; others get an empty dictionary.
    """
    release_gathered(model)
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    state = {name: value for name, value in model.state_dict().items() if name not in tied}
    found = ((name, _whole(value)) for name, value in state.items())
    return {name: value.cpu() for name, value in found if keep}


def keep_states_whole(optimizer: Any, *, keep: bool) -> None:
    """Let an optimizer of divided weights write and read its state as one process does.

    Its `state_dict` then gathers, so that all processes must call it, and has the state in the process that keeps it.
    """

    def gather(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        whole: dict[Any, dict[str, Any]] = {}
        for number, values in state["state"].items():
            gathered = {name: _whole(value) for name, value in values.items()}
            if keep:
                whole[number] = {name: _on_cpu(value) for name, value in gathered.items()}
        return {**state, "state": whole}

    def spread(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        saved = [number for each in state["param_groups"] for number in each["params"]]
        weights = [weight for each in optimizer.param_groups for weight in each["params"]]
        divided = {
            number: {name: _divided_like(weight, value) for name, value in state["state"].get(number, {}).items()}
            for number, weight in zip(saved, weights, strict=True)
            if number in state["state"]
        }
        return {**state, "state": divided}

    optimizer.register_state_dict_post_hook(gather)
    optimizer.register_load_state_dict_pre_hook(spread)


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _divided_like(weight: torch.Tensor, value: Any) -> Any:
    """Return this process's share of a value that belongs to a weight number by number."""
    is_of_each = isinstance(value, torch.Tensor) and value.shape == weight.shape and not isinstance(value, DTensor)
    if not isinstance(weight, DTensor) or not is_of_each:
        return value
    # Every process has read the whole file.
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
