"""A model and its optimizer state are divided, and written as one process writes them; the group here has one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from medqa_finetune.compat.fsdp import (
    divide,
    keep_states_whole,
    release_gathered,
    shapes_of,
    share_of,
    take_weights,
    twin_of,
    whole_weights,
)

# torch documents its stores, and does not export them for type checkers.
STORES: Any = dist


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=STORES.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Tied(torch.nn.Module):
    """Two numbered layers between an embedding and a head that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(2))
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.embed(ids)
        for layer in self.layers:
            states = layer(states)
        found: torch.Tensor = self.head(states)
        return found


def test_a_twin_shares_weights_and_nothing_else() -> None:
    model = Tied()
    twin: Any = twin_of(model)
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True))
    assert twin.head.weight is twin.embed.weight
    assert twin.layers[0] is not model.layers[0]


@pytest.mark.usefixtures("alone")
def test_a_divided_model_is_written_as_a_whole_one_and_leaves_the_other_empty() -> None:
    model = Tied()
    before = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    twin, shapes = twin_of(model), shapes_of(model)
    divide(twin)
    assert all(isinstance(weight, DTensor) for weight in twin.parameters())
    assert all(weight.numel() == 0 for weight in model.parameters())
    with torch.no_grad():
        twin(torch.tensor([1, 2]))
    release_gathered(twin)
    assert all(
        isinstance(weight, DTensor) and isinstance(share_of(weight), torch.Tensor) for weight in twin.parameters()
    )
    found = whole_weights(twin, keep=True)
    assert found.keys() == before.keys() - {"head.weight"}
    assert all(torch.equal(weight, before[name]) for name, weight in found.items())
    assert whole_weights(twin, keep=False) == {}
    take_weights(model, shapes)
    model.load_state_dict(before)
    assert model.head.weight is model.embed.weight


@pytest.mark.usefixtures("alone")
def test_the_state_of_an_optimizer_is_written_and_read_as_that_of_a_whole_model() -> None:
    twin = twin_of(Tied())
    divide(twin)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1)
    keep_states_whole(optimizer, keep=True)
    twin(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    written = optimizer.state_dict()
    assert {type(value) for values in written["state"].values() for value in values.values()} == {torch.Tensor}
    again = torch.optim.AdamW(twin.parameters(), lr=0.1)
    keep_states_whole(again, keep=True)
    again.load_state_dict(written)
    weight = next(iter(twin.parameters()))
    assert isinstance(again.state[weight]["exp_avg"], DTensor)
    assert torch.equal(again.state_dict()["state"][0]["exp_avg"], written["state"][0]["exp_avg"])
    # What another one reads is not written by it.
    other = torch.optim.AdamW(twin.parameters(), lr=0.1)
    keep_states_whole(other, keep=False)
    other.load_state_dict(written)
    assert other.state_dict()["state"] == {}
