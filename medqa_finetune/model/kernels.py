"""Replaces torch operators by Liger's Triton kernels during training."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medqa_finetune.architecture.files import read_config
from medqa_finetune.compat import liger
from medqa_finetune.errors import Fault, ModelError

LIGER = "liger"
MODULES = ("liger_kernel", "triton")
PACKAGES = ("liger-kernel", "triton")


def packages_of(kernels: str) -> tuple[str, ...]:
    """Return the packages, in addition to the usual ones, whose versions affect a training with these kernels."""
    return PACKAGES if kernels == LIGER else ()


def check_installed(kernels: str) -> None:
    """Check that the packages of `train.kernels` are installed; the device is not checked, which would load torch.

    Raises:
        ModelError: a package is missing.
    """
    missing = [package for package in MODULES if find_spec(package) is None] if kernels == LIGER else []
    if missing:
        hint = "Where there is a CUDA GPU, run pip install 'medqa_finetune[liger]'."
        raise _refused("not-installed", f"{missing[0]} is not installed", hint)


def check_kernels(kernels: str, folder: Path, device: str) -> None:
    """Check that `train.kernels` can be used with a model on this device.

    Args:
        kernels: `torch`, which needs nothing, or `liger`.
        folder: Folder of the model.
        device: `cuda` or `cpu`.

    Raises:
        ModelError: the device is not a GPU, a package is missing, or Liger does not support the architecture.
    """
    if kernels != LIGER:
        return
    if device != "cuda":
        raise _refused("needs-gpu", f"needs a CUDA GPU, and this run would compute on {device}")
    check_installed(kernels)
    kind = read_config(folder).get("model_type")
    if kind not in liger.families():
        raise _no_kernels(str(kind))


@contextmanager
def training_kernels(kernels: str, model: Any) -> Iterator[None]:
    """Make a model compute with `train.kernels` inside the block.

    Liger's own table says which operators of an architecture it replaces: norms, gated MLPs, rotary embeddings. Its
    loss is not used: `AnswerLoss` computes logits only at answer positions.

    Args:
        kernels: `torch`, which changes nothing, or `liger`.
        model: With or without adapters.

    Raises:
        ModelError: Liger does not support the architecture.
    """
    if kernels != LIGER:
        yield
        return
    from medqa_finetune.compat.peft import bare

    base = bare(model)
    with liger.applied(base) as any_kernels:
        if not any_kernels:
            raise _no_kernels(str(base.config.model_type))
        yield


def _no_kernels(kind: str) -> ModelError:
    return _refused("not-supported", f"Liger has no kernels for models of type {kind}", "Give train.kernels=torch.")


def _refused(code: str, problem: str, hint: str = "") -> ModelError:
    return ModelError(Fault(code, problem, key="train.kernels", got=LIGER, allowed=("torch",), hint=hint))
