"""Kernels of others in the place of torch's own operators, for as long as a model trains."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medqa_finetune.errors import ModelError
from medqa_finetune.model.files import read_config

LIGER = "liger"
MODULES = ("liger_kernel", "triton")
PACKAGES = ("liger-kernel", "triton")


def packages_of(kernels: str) -> tuple[str, ...]:
    """Return the packages beside the usual ones that a training depends on."""
    return PACKAGES if kernels == LIGER else ()


def check_installed(kernels: str) -> None:
    """Check that what `train.kernels` needs is installed; the device is not looked at, which would load torch.

    Raises:
        ModelError: a package is missing.
    """
    missing = [package for package in MODULES if find_spec(package) is None] if kernels == LIGER else []
    if missing:
        raise ModelError(
            f"train.kernels=liger: {missing[0]} is not installed; where there is a CUDA GPU, pip install "
            "'medqa_finetune[liger]'; allowed elsewhere: torch."
        )


def check_kernels(kernels: str, folder: Path, device: str) -> None:
    """Check that `train.kernels` can be had here for a model.

    Args:
        kernels: `torch`, for which nothing is needed, or `liger`.
        folder: Of the model.
        device: `cuda` or `cpu`.

    Raises:
        ModelError: the device is no GPU, a package is missing, or there are none for this kind of model.
    """
    if kernels != LIGER:
        return
    if device != "cuda":
        raise ModelError(f"train.kernels=liger: these kernels need a CUDA GPU; allowed on {device}: torch.")
    check_installed(kernels)
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

    kind = read_config(folder).get("model_type")
    if kind not in KNOWN:
        raise _no_kernels(str(kind))


@contextmanager
def training_kernels(kernels: str, model: Any) -> Iterator[None]:
    """Let a model compute with `train.kernels` in the block, and as before behind it.

    Liger's own table says which operators of a family it replaces: norms, gated MLPs, rotary embeddings. Its loss stays
    off, ours is made at answer positions alone.

    Args:
        kernels: `torch` changes nothing; `liger`.
        model: With or without adapters.

    Raises:
        ModelError: there are none for this model.
    """
    if kernels != LIGER:
        yield
        return
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Liger binds methods to the parts of this model, and replaces names in the file of its family.
    holders: list[Any] = [sys.modules[type(base).__module__], *base.modules()]
    spaces: list[dict[str, Any]] = [holder.__dict__ for holder in holders]
    before = [dict(space) for space in spaces]
    _apply_liger_kernel_to_instance(base, cross_entropy=False, fused_linear_cross_entropy=False)
    changed = [
        [name for name, value in space.items() if name not in old or value is not old[name]]
        for space, old in zip(spaces, before, strict=True)
    ]
    if not any(changed):
        raise _no_kernels(str(base.config.model_type))
    try:
        yield
    finally:
        for space, old, names in zip(spaces, before, changed, strict=True):
            for name in names:
                if name in old:
                    space[name] = old[name]
                else:
                    space.pop(name, None)


def _no_kernels(kind: str) -> ModelError:
    return ModelError(f"train.kernels=liger: Liger has none for models of the kind {kind}; give train.kernels=torch.")
