"""Liger: the model families that it supports, and how it patches a model; neither is documented.

The patch itself is transformers' public `apply_liger_kernel`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def families() -> frozenset[str]:
    """Return the model types, as in `config.json`, with Liger kernels."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

    return frozenset(KNOWN)


@contextmanager
def applied(model: Any) -> Iterator[bool]:
    """Use Liger's kernels in a model while the block runs, and undo it afterwards; yields whether any were applied.

    Relied on: Liger replaces attributes of the model's modules, each in its `__dict__`, and names in the Python module
    of its family, and nothing else. Liger itself cannot undo this.

    Args:
        model: A PreTrainedModel, without adapters around it. Its loss does not change.
    """
    from transformers.integrations import apply_liger_kernel  # type: ignore[attr-defined]

    holders: list[Any] = [sys.modules[type(model).__module__], *model.modules()]
    spaces: list[dict[str, Any]] = [holder.__dict__ for holder in holders]
    before = [dict(space) for space in spaces]
    apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})  # type: ignore[no-untyped-call]
    changed = [
        [name for name, value in space.items() if name not in old or value is not old[name]]
        for space, old in zip(spaces, before, strict=True)
    ]
    try:
        yield any(changed)
    finally:
        for space, old, names in zip(spaces, before, changed, strict=True):
            for name in names:
                if name in old:
                    space[name] = old[name]
                else:
                    space.pop(name, None)
