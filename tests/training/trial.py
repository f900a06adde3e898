"""Small training runs for tests: 48 similar examples on the micro model, in a second or two."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medqa_finetune.config.schema import (
    Config,
    CorpusConfig,
    DataConfig,
    MethodConfig,
    ModelConfig,
    TrackerConfig,
    TrainConfig,
)
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.model.load import Device, LoadedModel, load_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import TrainRecord
from medqa_finetune.stopping import StopRequest
from medqa_finetune.tracking.base import Row
from medqa_finetune.tracking.trackers import Trackers
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.fit import Keeping, TrainingSets, fit

CPU = Device("cpu", "CPU", "fp32")
QUESTIONS = [f"{place}{kind}怎么办？" for place in "头腹胸腰腿背" for kind in "痛痒麻酸胀肿凉热"]
PAIRS = [
    Example(str(number), question, f"{question[:2]}要多休息，多喝水。" * (1 + number % 3))
    for number, question in enumerate(QUESTIONS)
]


@dataclass(frozen=True)
class Trial:
    """A finished training run."""

    record: TrainRecord
    run: RunDir
    loaded: LoadedModel
    sets: TrainingSets

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        return logits(self.loaded.model, ids)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.run.read_metrics()

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return a model's logits without dropout, of shape (1, tokens, vocabulary)."""
    found: torch.Tensor = model.eval()(input_ids=ids).logits
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: results repeat exactly, and small runs do not wait for busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_config(method: dict[str, Any] | None = None, *, seed: int = 0, report_to: str = "", **train: Any) -> Config:
    """Return a configuration; by default LoRA without dropout, batches of 8, every step logged."""
    settings: dict[str, Any] = {"batch_size": 8, "micro_batch": 8, "learning_rate": 5e-3, "logging_steps": 1} | train
    lora: dict[str, Any] = {"name": "lora", "dropout": 0.0}
    return Config(
        seed=seed,
        method=MethodConfig(**(lora | (method or {}))),
        data=DataConfig(name="trial", train_size=len(PAIRS)),
        corpus=CorpusConfig(name="embedded", source="embedded"),
        model=ModelConfig(name="micro", path="micro"),
        train=TrainConfig(**settings),
        tracker=TrackerConfig("trial", [report_to] if report_to else []),
    )


def load(folder: Path, config: Config) -> tuple[LoadedModel, TrainingSets]:
    """Load the model and encode the examples; the adapter is initialized with seed 0."""
    loaded = load_model(folder, config.method, CPU, seed=0)
    encoder = Encoder(loaded.tokenizer, config.train.max_length)
    return loaded, TrainingSets(EncodedSet(encoder.encode(PAIRS)), EncodedSet(encoder.encode(PAIRS[:7])))


def train(folder: Path, outputs: Path, config: Config, stop: StopRequest | None = None) -> Trial:
    """Train in the run folder `outputs / "run"`, resuming from a checkpoint if there is one."""
    run = RunDir(outputs / "run")
    run.path.mkdir(parents=True, exist_ok=True)
    loaded, sets = load(folder, config)
    row = Row("trial", "run", "run", "default", run.path, outputs)
    with Trackers(config.tracker.report_to, lambda: row) as trackers:
        keeping = Keeping(Checkpoints(run.checkpoints_path, "trial"), stop or StopRequest(), trackers)
        return Trial(fit(loaded, sets, config, run, keeping), run, loaded, sets)
