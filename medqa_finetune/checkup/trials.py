"""Tries the device, its precisions and 4-bit weights, and computes what profiles need; for a process of its own.

Libraries with native parts may end their process instead of raising, so each finding is handed over as soon as it is
there. torch, transformers and bitsandbytes are imported one after the other, each by the trial that needs it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medqa_finetune.checkup.result import broken
from medqa_finetune.config.schema import Config
from medqa_finetune.errors import Fault, MedQAError
from medqa_finetune.model.cards import BF16, CARDS
from medqa_finetune.model.estimate import Machine

QUANTIZATIONS = ("nf4", "int8")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Settings whose memory is asked for.

    Attributes:
        name: Of the profile; empty for the settings as they are given.
        card: Short name of the profile's card in `model/cards.py`; None for this machine.
        config: All settings.
        model: Folder with the model's `config.json`, with or without weights.
    """

    name: str
    card: str | None
    config: Config
    model: str


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be tried: precisions by the names of the settings, and settings whose memory is asked for."""

    precisions: tuple[str, ...]
    settings: tuple[Setting, ...]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What one trial found: `device`, `precision`, `quantization` or `memory`."""

    name: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    faults: list[Fault] = dataclasses.field(default_factory=list)


def run_trials(request: Request) -> Iterator[Trial]:
    """Yield a finding of every trial, in the order of the libraries that they need."""
    from medqa_finetune.runtime import settle_before_torch

    settle_before_torch()
    machine: dict[str, Any] = {}
    for trial in (_try_torch, _try_device):
        found = _guarded("device", trial)
        yield found
        if found.faults:
            return
        machine = found.facts
    here = Machine(machine["type"], machine["name"], machine["memory_bytes"], machine["precision"])
    yield _guarded("precision", partial(_try_precisions, request.precisions, here.type))
    for setting in request.settings:
        yield _guarded("memory", partial(_memory, setting, here))
    # Last: the library that fails most often, and may take the process with it.
    for name in QUANTIZATIONS:
        yield _guarded("quantization", partial(_try_quantization, name, here.type))


def _guarded(name: str, trial: Callable[[], Trial]) -> Trial:
    try:
        return trial()
    except MedQAError as error:
        return Trial(name, faults=list(error.faults))
    except Exception as error:  # a broken library may raise anything
        return Trial(name, faults=[broken(error)])


def _try_torch() -> Trial:
    import torch

    return Trial("torch", {"torch": torch.__version__, "cuda": torch.version.cuda})


def _try_device() -> Trial:
    import torch

    from medqa_finetune.model.load import choose_device
    from medqa_finetune.model.probe import find_machine

    machine = find_machine()
    precision = choose_device("auto").precision
    facts = dataclasses.asdict(machine) | {"precision": precision, "count": 0, "free_bytes": None, "bf16": False}
    if machine.type == "cuda":
        capability = torch.cuda.get_device_capability()
        facts |= {"count": torch.cuda.device_count(), "free_bytes": torch.cuda.mem_get_info()[0]}
        facts |= {"capability": list(capability), "bf16": capability >= BF16}
    return Trial("device", facts)


def _try_precisions(names: Sequence[str], device: str) -> Trial:
    from medqa_finetune.model.load import choose_device
    from medqa_finetune.model.rates import measure_matrix_rate

    faults: list[Fault] = []
    for name in names:
        try:
            choose_device(name)
        except MedQAError as error:
            faults += error.faults
    # A GPU without bf16 emulates it, and a CPU without it converts: both show in the rate.
    tried = ("fp32", "bf16") if device == "cpu" else ("fp32", "fp16", "bf16")
    return Trial("precision", {name: measure_matrix_rate(device, name) for name in tried}, faults)


def _try_quantization(name: str, device: str) -> Trial:
    from medqa_finetune.model.probe import try_quantization

    facts: dict[str, Any] = {"quantization": name, "works": False}
    try:
        try_quantization(name, device)
    except MedQAError as error:
        return Trial("quantization", facts, list(error.faults))
    return Trial("quantization", facts | {"works": True})


def _memory(setting: Setting, here: Machine) -> Trial:
    """Return the memory that training needs, on the card of a profile and here."""
    from medqa_finetune.architecture.size import read_size
    from medqa_finetune.methods.registry import method_of
    from medqa_finetune.model.auto_batch import fits, resolve_auto
    from medqa_finetune.model.estimate import answering_memory, run_bytes, training_memory
    from medqa_finetune.model.locate import has_weights
    from medqa_finetune.model.probe import architecture_size

    config, folder = setting.config, Path(setting.model)
    size = read_size(folder) if has_weights(folder) else architecture_size(folder)
    if size is None:
        return Trial("memory", {"name": setting.name, "needed_bytes": None})
    card = None if setting.card is None else CARDS[setting.card]
    machine = here if card is None else Machine("cuda", card.title, card.memory_bytes, card.precisions[0])
    needed, fit = [], []
    for place in (machine, here):
        resolved = dataclasses.replace(config, train=resolve_auto(config, size, place))
        trains = method_of(config.method).trains_weights
        memory = (training_memory if trains else answering_memory)(size, resolved, place).total
        needed.append(memory)
        fit.append(fits(resolved, size, place) if trains else memory <= place.memory_bytes)
    facts = {
        "name": setting.name,
        "card": machine.name,
        "card_bytes": machine.memory_bytes,
        "needed_bytes": needed[0],
        "fits": fit[0],
        "needed_here_bytes": needed[1],
        "fits_here": fit[1],
        "disk_bytes": run_bytes(size, config, cuda=machine.type == "cuda"),
    }
    return Trial("memory", facts)
