"""Input and output of every compared program; also read in peers' environments, so standard library only."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Steps left out of the speed: allocators and kernels warm up.
WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Settings:
    """One training and generation, the same for all compared programs.

    Attributes:
        model: Folder of the base model and its tokenizer.
        data: Folder with `pairs.jsonl`, and the sets cut from it: `train.jsonl`, `eval.jsonl` and their alpaca forms.
        method: `lora` or `qlora` (NF4, double quantization).
        device: `cpu` (fp32) or `cuda` (bf16).
        rows: Training examples, a multiple of `batch`; one epoch.
        eval_rows: Number of test questions.
        predict: Whether to generate predictions.
        batch: Examples per optimizer step.
        micro_batch: Examples of full length per forward pass.
        max_length: Maximum tokens per example.
        gradient_checkpointing: Recompute activations, to save memory.
        max_new_tokens: Maximum tokens per prediction, which is decoded greedily.
        own_defaults: Leave dropout, micro-batch and gradient checkpointing of our training to our defaults; peers train
            as the other settings say.
    """

    model: str
    data: str
    method: str
    device: str
    rows: int
    eval_rows: int
    predict: bool
    batch: int
    micro_batch: int
    max_length: int
    gradient_checkpointing: bool
    max_new_tokens: int = 64
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 2e-4
    seed: int = 42
    own_defaults: bool = False

    @property
    def steps(self) -> int:
        """Optimizer steps of the one epoch."""
        return self.rows // self.batch

    @property
    def logging_steps(self) -> int:
        """Steps between two points of the loss, at most 20; divides `steps`, so that the mean covers all steps."""
        return max(every for every in range(1, 21) if self.steps % every == 0)


def write_settings(path: Path, settings: Settings) -> None:
    """Write settings as JSON."""
    path.write_text(json.dumps(asdict(settings)), encoding="utf-8")


def read_settings(path: Path) -> Settings:
    """Read what `write_settings` wrote."""
    return Settings(**json.loads(path.read_text(encoding="utf-8")))


def read_pairs(path: Path) -> list[dict[str, str]]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def print_figures(**figures: Any) -> None:
    """Print a program's figures as the last line of its standard output."""
    print("\n" + json.dumps(figures), flush=True)
