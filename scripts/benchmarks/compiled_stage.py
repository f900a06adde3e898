"""One run of ours whose layers torch compiles: `python -m scripts.benchmarks.compiled_stage KEY=VALUE …`.

No option of the package, since it wins nothing where it could be measured (README, Speed); here so that it can be
measured elsewhere.
"""

import sys
from typing import Any

from medqa_finetune.runtime import limit_spinning


def main(arguments: list[str]) -> int:
    """Train and answer as the command line says; return the exit code."""
    limit_spinning()  # before torch is loaded, as every run does
    import torch
    from transformers import AttentionInterface

    from medqa_finetune.compat.torch_compile import compiled_layers
    from medqa_finetune.model import attention
    from medqa_finetune.train import train
    from medqa_finetune.training.trainer import MeteredTrainer

    apart: Any = torch.compiler.disable
    # It is handed a list as long as a pack has pairs; compiled, every other number of pairs would be compiled anew.
    AttentionInterface.register(attention.NAME, apart(attention.attend_per_pair))
    original: Any = MeteredTrainer.train

    def compiled(self: Any, *positional: Any, **options: Any) -> Any:
        with compiled_layers(self.model, dynamic=True):  # packs differ in length
            return original(self, *positional, **options)

    setattr(MeteredTrainer, "train", compiled)  # noqa: B010 (mypy takes it for a method of its own)
    return train(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
