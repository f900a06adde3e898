"""Tries what a run needs: a device that computes, a quantization that works, a model that can be built."""

import difflib
import os
import shutil
import subprocess
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from medqa_finetune.architecture.files import read_config
from medqa_finetune.architecture.size import ModelSize, size_of_shapes
from medqa_finetune.compat.failures import words_of
from medqa_finetune.compat.key_value_cache import keeps_keys_and_values
from medqa_finetune.compat.transformers import optimizer_names
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.errors import Fault, ModelError, noting
from medqa_finetune.memory import physical_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.estimate import Machine
from medqa_finetune.model.fp32_blocks import chosen_blocks
from medqa_finetune.model.load import check_vocabulary, choose_device, load_tokenizer
from medqa_finetune.model.pruned import build_skeleton
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.ranks import training_processes

# Values of environment variables by which users and schedulers hide all GPUs.
NO_DEVICES = ("", "-1", "nodevfiles", "none", "void")
SMI_SECONDS = 60.0
DEVICES = Path("/dev")
# Two blocks of 64 weights, the unit of 4-bit quantization.
TRIAL_WIDTH = 128
# The error of 4 bits is at most a sixth of a block's largest weight, that of 8 bits is less.
WORST_SHARE = 0.25
CPU_ON_PURPOSE = "To compute on the CPU on purpose, set CUDA_VISIBLE_DEVICES= (empty)."


def probe(precisions: Collection[str], quantizations: Collection[str]) -> Machine:
    """Compute on the device in every precision and with every quantization, and return the device.

    Raises:
        ModelError: torch cannot use an existing GPU, or the device does not support a precision or quantization;
            contains all faults.
    """
    machine = find_machine()
    faults: list[Fault] = []
    for precision in precisions:
        with noting(faults):
            choose_device(precision)
    for name in quantizations:
        if name != "none":
            with noting(faults):
                try_quantization(name, machine.type)
    if faults:
        raise ModelError(*faults)
    return machine


def find_machine() -> Machine:
    """Return the device that runs compute on, after a trial computation; processes without a GPU divide the memory.

    Raises:
        ModelError: torch cannot use an existing GPU.
    """
    processes = training_processes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        _refuse_unused_gpu([str(warning.message) for warning in caught])
        memory = physical_bytes() // processes
        return Machine("cpu", f"CPU, {torch.get_num_threads()} threads", memory, processes=processes)
    name = "GPU"
    try:
        name = torch.cuda.get_device_name()
        ones = torch.ones(TRIAL_WIDTH, TRIAL_WIDTH, device="cuda")
        if (ones @ ones)[0, 0].item() != TRIAL_WIDTH:
            problem = f"{name} computes wrongly (ones times ones is not {TRIAL_WIDTH})"
            raise ModelError(Fault("gpu-unusable", problem, hint=CPU_ON_PURPOSE))
        cards = range(torch.cuda.device_count())
        memory = min(int(torch.cuda.get_device_properties(card).total_memory) for card in cards)
    except RuntimeError as error:
        problem = f"{name} cannot be used ({words_of(error)})"
        raise ModelError(Fault("gpu-unusable", problem, hint=CPU_ON_PURPOSE)) from None
    return Machine("cuda", name, memory, choose_device("auto").precision, processes)


def _refuse_unused_gpu(reasons: list[str]) -> None:
    """Refuse to compute on the CPU if there is a GPU that the user did not hide: training would take days.

    Raises:
        ModelError: names the sign of a GPU, and why torch cannot use it, if known.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip().lower() in NO_DEVICES:
        return
    shown = "names a GPU" if visible is not None else _shown_by_driver()
    if shown is None:
        return
    if torch.version.cuda is None and torch.version.hip is None:
        reason = f"this torch ({torch.__version__}) is built for the CPU alone"
        hint = f"Install a torch that is built for CUDA. {CPU_ON_PURPOSE}"
    else:
        reason = " ".join(" ".join(reasons).split())[:300].rstrip(".") or "torch does not say why"
        hint = CPU_ON_PURPOSE
    fault = Fault("gpu-unusable", f"{shown}, and torch cannot use it: {reason}", hint=hint)
    raise ModelError(fault if visible is None else fault.but(key="CUDA_VISIBLE_DEVICES", got=visible))


def _shown_by_driver() -> str | None:
    """Return what indicates an NVIDIA GPU, or None."""
    if any(DEVICES.glob("nvidia[0-9]*")):
        return "there is an NVIDIA GPU"
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        asked = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, errors="replace", timeout=SMI_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi is installed and does not answer ({type(error).__name__})"
    said = " ".join(f"{asked.stdout} {asked.stderr}".split())[:200]
    if asked.returncode == 0:
        return f"nvidia-smi shows a GPU ({said.partition('(')[0].strip()})" if "GPU " in said else None
    # The driver works, but finds no GPU.
    return None if "no devices" in said.lower() else f"nvidia-smi is installed and fails ({said or 'without output'})"


def try_quantization(quantization: str, device: str) -> None:
    """Quantize a small layer and run it forward and backward, as training does.

    Raises:
        ModelError: bitsandbytes is missing, its native library does not load, or it does not support the device.
    """
    try:
        exact, found = _quantized_and_exact(quantization, device)
    except Exception as error:  # a missing library shows as ImportError, OSError, RuntimeError, AttributeError, …
        problem = f"does not work on this {device.upper()} ({type(error).__name__}: {words_of(error)})"
        hint = "Run `python -m bitsandbytes`, install the bitsandbytes that fits this torch, or give method=lora."
        raise _no_quantization(quantization, problem, hint) from None
    share = ((found - exact).abs().max() / exact.abs().max()).item()
    if not share < WORST_SHARE:
        problem = f"computes wrongly on this {device.upper()} (weights err by {share:.0%} of the largest)"
        raise _no_quantization(quantization, problem, "Install another bitsandbytes, or give method=lora.")


def _no_quantization(quantization: str, problem: str, hint: str) -> ModelError:
    return ModelError(Fault("quantization-unusable", problem, key="method.quantization", got=quantization, hint=hint))


def _quantized_and_exact(quantization: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's weights before and after quantization, the latter from multiplying with them."""
    import bitsandbytes

    width, layers = TRIAL_WIDTH, cast(Any, bitsandbytes.nn)
    if quantization == "int8":
        layer = layers.Linear8bitLt(width, width, bias=False, has_fp16_weights=False)
    else:
        layer = layers.Linear4bit(width, width, bias=False, quant_type=quantization)
    exact = layer.weight.detach().float().clone()
    rows = torch.eye(width, device=device, requires_grad=True)
    found = layer.to(device)(rows)
    found.sum().backward()
    return exact, found.detach().float().cpu().T


def check_model(folder: Path, template: str | None = None, *, chat: bool = True) -> PreTrainedTokenizerBase:
    """Check tokenizer and architecture of a model without loading weights; return the tokenizer.

    Args:
        folder: Folder of the model.
        chat: As in `load_tokenizer`; running text also needs no key-value cache.
        template: As in `load_tokenizer`.

    Raises:
        ModelError: the tokenizer cannot be used, transformers does not know the architecture, or tokenizer and model do
            not belong together.
    """
    skeleton = build_skeleton(folder)
    if chat and not keeps_keys_and_values(skeleton):
        problem = f"{type(skeleton).__name__} keeps no cache of keys and values, which answering needs"
        raise ModelError(Fault("no-cache", problem, file=str(folder)))
    tokenizer = load_tokenizer(folder, template, chat=chat)
    check_vocabulary(folder, skeleton, tokenizer)
    return tokenizer


def check_method(folder: Path, method: MethodConfig) -> None:
    """Apply a method to a model without weights.

    Raises:
        ModelError: the model lacks modules that the method names, or transformers lacks the optimizer.
    """
    known = optimizer_names()
    for key in ("optimizer", "optimizer_without_cuda"):
        name = getattr(method, key)
        if name not in known:
            fault = Fault("not-allowed", "transformers has no such optimizer", key=f"method.{key}", got=name)
            close = difflib.get_close_matches(name, known, n=3)
            # The complete list would have dozens of names.
            hint = f"Did you mean {' or '.join(close)}?" if close else ""
            raise ModelError(fault.but(hint=hint, allowed=() if close else tuple(known)))
    model_method(method).apply(build_skeleton(folder))


def check_blocks(folder: Path, names: Collection[str]) -> None:
    """Check that every name of `fp32_blocks` means a block of a model, which is built without weights.

    Raises:
        ModelError: one means none.
    """
    if names:
        chosen_blocks(build_skeleton(folder), names)


def architecture_size(folder: Path) -> ModelSize | None:
    """Return a model's size from its `config.json` alone; None where `read_size` returns None.

    Raises:
        ModelError: transformers has no causal language model of this architecture.
    """
    shapes = {name: tuple(weight.shape) for name, weight in build_skeleton(folder).named_parameters()}
    other = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return size_of_shapes(shapes, read_config(folder), other)


def write_random_model(folder: Path, target: Path, precision: str) -> None:
    """Write a model of the same architecture with random weights, and the same tokenizer, to another folder."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    dtype = dtype_of(cast(Precision, precision))
    built = cast(Any, AutoModelForCausalLM).from_config(config, dtype=dtype, trust_remote_code=False)
    built.save_pretrained(target)
