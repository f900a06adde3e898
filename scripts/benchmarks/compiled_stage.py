"""Runs one of our trainings with layers compiled by torch: `python -m scripts.benchmarks.compiled_stage KEY=VALUE …`.

Not an option of the package, since it gave no speed-up where it was measured (README, Speed); kept to measure it on
other machines.
"""

import sys
from typing import Any

from medqa_finetune.runtime import settle_before_torch


def main(arguments: list[str]) -> int:
    """Run `train` with compiled layers; return the exit code."""
    settle_before_torch()  # before torch is loaded, as every run does
    import torch
    from transformers import AttentionInterface

    from medqa_finetune.compat.torch_compile import compiled_layers
    from medqa_finetune.model import attention
    from medqa_finetune.train import train
    from medqa_finetune.training.trainer import MeteredTrainer

    apart: Any = torch.compiler.disable
    # Takes a list with one entry per example of a pack, so it would be recompiled for every other number of examples.
    AttentionInterface.register(attention.NAME, apart(attention.attend_per_pair))
    original: Any = MeteredTrainer.train

    def compiled(self: Any, *positional: Any, **options: Any) -> Any:
        with compiled_layers(self.model, dynamic=True):  # packs differ in length
            return original(self, *positional, **options)

    setattr(MeteredTrainer, "train", compiled)  # noqa: B010 (mypy takes it for a method of its own)
    return train(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
