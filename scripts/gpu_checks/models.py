"""Models with random weights, made examples and settings for the checks."""

import atexit
import dataclasses
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from medqa_finetune.architecture.size import ModelSize, size_of_shapes
from medqa_finetune.config.schema import Config, TrackerConfig, TrainConfig
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.token_sets import EncodedSet
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.attention_kernels import expand_keys_where_needed
from medqa_finetune.model.load import Device, LoadedModel, choose_device, load_base, load_tokenizer
from medqa_finetune.model.parameters import count_parameters
from medqa_finetune.precision import Precision, dtype_of
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Parameters, Record, TrainRecord
from medqa_finetune.stopping import StopRequest
from medqa_finetune.training.checkpoints import Checkpoints
from medqa_finetune.training.fit import Keeping, TrainingSets, fit
from scripts.fake_cuda.models import LAYERS, config_of

TINY_TOKENIZER = Path(__file__).parents[2] / "medqa_finetune" / "model" / "tiny"
# A model that a CPU trains in moments.
SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}  # fmt: skip
SMALL_VOCABULARY = 4096
METHODS = {
    "lora": MethodConfig(name="lora", dropout=0.0),
    "qlora": MethodConfig(name="qlora", dropout=0.0, quantization="nf4", double_quantization=True),
    "full": MethodConfig(name="full", trains="all"),
}
SEED = 0


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the checks are: `small` ones for a CPU, others of Qwen2.5-3B's widths."""

    small: bool

    def layers(self, most: int = LAYERS) -> int:
        """Return the layers of a model that is to have `most`."""
        return 2 if self.small else most

    def tokens(self, number: int) -> int:
        """Return the tokens of an example that is to have `number`."""
        return max(16, number // 32) if self.small else number


def random_model(scale: Scale, method: str, precision: str, layers: int = LAYERS) -> LoadedModel:
    """Return a model with random weights on this machine's device, with a method applied."""
    device = choose_device(precision)
    settings, applied = METHODS[method], model_method(METHODS[method])
    tokenizer = load_tokenizer(TINY_TOKENIZER)
    config = _config(scale, layers, tokenizer)
    if settings.quantization == "none":
        base = _random_base(config, applied.base_precision(device.precision), device)
        expand_keys_where_needed(base)  # as `load_base` does
    else:
        base = load_base(_on_disk(scale, layers), settings, device, tokenizer)
    total = count_parameters(base)
    torch.manual_seed(SEED)
    model = applied.apply(base)
    parameters = Parameters(total, count_parameters(model, trainable_only=True))
    return LoadedModel(model, tokenizer, device, parameters, _size(config))


def _config(scale: Scale, layers: int, tokenizer: Any) -> Any:
    ids: dict[str, Any] = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    if scale.small:
        return config_of(scale.layers(layers), SMALL_VOCABULARY, **SMALL, **ids)
    return config_of(layers, **ids)


def _random_base(config: Any, precision: Precision, device: Device) -> Any:
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(SEED)
    torch.set_default_dtype(dtype_of(precision))
    try:
        with torch.device(device.type):
            return Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)


@cache
def _on_disk(scale: Scale, layers: int) -> Path:
    """Return a folder with a model for `load_base`, which quantizes while it loads; removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="check-gpu-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = load_tokenizer(TINY_TOKENIZER)
    config = _config(scale, layers, tokenizer)
    _random_base(config, "bf16", choose_device("auto")).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _size(config: Any) -> ModelSize | None:
    from transformers import Qwen2ForCausalLM

    with torch.device("meta"):
        model: Any = Qwen2ForCausalLM(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    return size_of_shapes(shapes, config.to_dict(), 0)


def examples(number: int, shortest: int, longest: int, vocabulary: int) -> EncodedSet:
    """Return made examples, two thirds of each an answer, of evenly drawn lengths."""
    draws = random.Random(SEED)  # noqa: S311 (reproducible, nothing secret)
    made = []
    for _ in range(number):
        ids = [draws.randrange(10, vocabulary) for _ in range(draws.randint(shortest, longest))]
        made.append(Encoded(ids, max(1, len(ids) // 3), cut=False))
    return EncodedSet(made)


def settings_of(method: str, precision: str, steps: int, **train: Any) -> Config:
    """Return the settings of a training of some steps, each of eight examples in one pass unless `train` says so."""
    usual: dict[str, Any] = {
        "batch_size": 8, "micro_batch": 8, "max_length": 512, "epochs": float(steps), "max_steps": steps,
        "gradient_checkpointing": False, "logging_steps": 1, "validations": 1, "warmup_steps_unmetered": 2,
        "checkpoint_minutes": 600.0,
    }  # fmt: skip
    return Config(
        run_name="check", precision=precision, method=METHODS[method], train=TrainConfig(**(usual | train)),
        tracker=TrackerConfig("none", []),
    )  # fmt: skip


def train(
    loaded: LoadedModel, config: Config, folder: Path, sets: EncodedSet, stop: StopRequest | None = None
) -> TrainRecord:
    """Train by the package's own path, resuming from a checkpoint in the folder; validate on the first examples.

    Raises:
        Interrupted: `stop` asked to stop.
    """
    run = RunDir(folder)
    run.path.mkdir(parents=True, exist_ok=True)
    if run.read() is None:
        run.write(Record("check", "check", "running", config.method.name, "made", "random", SEED, config={}))
    validation = EncodedSet(sets.encoded(place) for place in range(2))
    keeping = Keeping(Checkpoints(run.checkpoints_path, "check"), stop or StopRequest())
    return fit(loaded, TrainingSets(sets, validation), config, run, keeping)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def losses(folder: Path) -> list[float]:
    """Return the training losses of a run, in order of steps."""
    return [row["loss"] for row in RunDir(folder).read_metrics() if "loss" in row]
