"""Small real experiments, in a few settings that differ in what a restart could lose."""

import dataclasses
import random
from pathlib import Path

POOL = 12
# 20 training examples, 4 validation and 6 test questions of the embedded corpus.
BASE = (
    "profile=demo", "model=local", "data.scale=0.001", "data.validation_size=4000", "data.test_size=6000",
    "evaluate.max_new_tokens=8", "train.logging_steps=1", "threads=1",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """The settings of one experiment.

    Attributes:
        method: `lora`, `qlora`, `full` or `none`.
        data: `20k`, `50k` or `100k`, scaled down.
        batch: Examples per optimizer step.
        micro: Examples per forward pass.
        epochs: More than one, so that a fault can strike before or after an epoch's end.
        checkpoint_steps: Steps between two checkpoints.
        answers: Questions per generation batch.
        seed: Training seed.
        more: Further arguments.
    """

    method: str
    data: str = "20k"
    batch: int = 4
    micro: int = 4
    epochs: float = 2.0
    checkpoint_steps: int = 2
    answers: int = 2
    seed: int = 0
    tracker: str = "none"
    more: tuple[str, ...] = ()

    def arguments(self, model: Path) -> list[str]:
        """Return the command line, without the command's name."""
        dropout = ["method.dropout=0.1"] if self.method in ("lora", "qlora") else []
        return [
            *BASE, f"model.path={model}", f"method={self.method}", f"data={self.data}", *dropout,
            f"train.batch_size={self.batch}", f"train.micro_batch={self.micro}", f"train.epochs={self.epochs}",
            f"train.checkpoint_steps={self.checkpoint_steps}", f"evaluate.batch_size={self.answers}",
            f"seed={self.seed}", f"tracker={self.tracker}", *self.more,
        ]  # fmt: skip

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimizer step."""
        return self.batch // self.micro

    def but(self, **changes: object) -> "Setting":
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def draw(chance: random.Random, seed: int) -> Setting:
    """Return one of the seed's settings; there are few, since each needs a reference run."""
    return configuration(seed, chance.randrange(POOL))


def configuration(seed: int, number: int) -> Setting:
    """Return the n-th setting of a seed; three consecutive ones have the three methods."""
    chance = random.Random(f"configuration {seed} {number}")
    batch, micro = chance.choice([(4, 4), (4, 2), (8, 2), (6, 3)])
    return Setting(
        method=("lora", "qlora", "full")[number % 3],
        batch=batch,
        micro=micro,
        epochs=chance.choice([2.0, 1.5, 3.0]),
        checkpoint_steps=chance.choice([1, 2, 3]),
        answers=chance.choice([1, 2, 4]),
        seed=chance.randrange(100),
        more=(f"train.validations={chance.choice([1, 2, 3])}",),
    )
