"""Base classes of methods: with a model (`ModelMethod`), or without one (`MethodWithoutModel`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from medqa_finetune.architecture.flops import Flops, forward_flops
from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.errors import Fault
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.precision import DTYPE_NAMES, WIDTH, Precision

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import PreTrainedModel, TrainingArguments

# Bits of a quantized weight with its scales. 4 bits and an fp32 scale per 64 weights; with double quantization 8 bits
# per 64 and an fp32 per 64 * 256 (Dettmers et al. 2023, arXiv:2305.14314, section 3). int8 has one fp32 scale per row,
# which is negligible (Dettmers et al. 2022, arXiv:2208.07339).
QUANTIZED_BITS = {"nf4": 4 + 32 / 64, "fp4": 4 + 32 / 64, "int8": 8.0}
DOUBLE_QUANTIZED_BITS = 4 + 8 / 64 + 32 / (64 * 256)
# The way out where the processes that train together cannot divide a model.
EXCHANGE_INSTEAD = "Leave out train.sharding: each process then has the whole model, and they exchange gradients."


class Method(ABC):
    """One method with its settings.

    Attributes:
        kind: Its value of `method.trains`.
        loads_model: Whether a model is loaded.
        trains_weights: Whether weights are trained. A method that trains none is a baseline in the report.
        uses_training_data: Whether predictions depend on the training examples. If not, the run is named without its
            data size and counts as trained on 0 examples.
        tasks: Supported values of `corpus.task`.
        unused: Settings, as dotted keys or sections, that cannot change its predictions: they are in no identity and in
            no name of a run.
        used_all_the_same: Exceptions from `unused`.
        without_effect: Settings besides those that change nothing at all. Identities have them, as those of older runs
            do.
        variants: Variants that `export` can make of a run.
    """

    kind: ClassVar[str]
    loads_model: ClassVar[bool]
    trains_weights: ClassVar[bool] = True
    uses_training_data: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("qa", "text")
    unused: ClassVar[tuple[str, ...]] = ()
    used_all_the_same: ClassVar[tuple[str, ...]] = ()
    without_effect: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: MethodConfig) -> None:
        self.settings = settings

    @classmethod
    def uses(cls, key: str) -> bool:
        """Return whether a setting, as a dotted key, can change the predictions."""
        is_unused = any(key == root or key.startswith(f"{root}.") for root in cls.unused)
        return not is_unused or key in cls.used_all_the_same

    @classmethod
    def ignores(cls, key: str) -> bool:
        """Return whether a setting of `method` or `train`, as a dotted key, changes nothing."""
        return key not in ("method.name", "method.trains") and (key in cls.without_effect or not cls.uses(key))

    def faults(self) -> Iterator[Fault]:
        """Yield faults of `settings` for this method; types and ranges have been checked."""
        yield from ()


class MethodWithoutModel(Method):
    """A method that predicts from the training examples alone."""

    loads_model = False
    trains_weights = False
    tasks = ("qa",)

    @abstractmethod
    def predictor(
        self, examples: Sequence[tuple[str, str]], threads: int | None
    ) -> Callable[[Sequence[str]], list[str]]:
        """Return a function that predicts the answers to questions.

        Args:
            examples: Question and answer of every training example, at least one. Questions are normalised as in the
                leak search (`data/splits.py`); the returned function expects normalised questions as well.
            threads: Most threads; None for the number of cores.
        """


class ModelMethod(Method):
    """A method with a model. The defaults are those of training the model's own weights, or none."""

    loads_model = True

    @property
    def can_fuse(self) -> bool:
        """Whether `train.fused_adapters` changes anything: there are plain low-rank adapters on linear layers."""
        return False

    def sharding_faults(self) -> Iterator[Fault]:
        """Yield why processes that train together cannot divide the weights (`train.sharding=full`)."""
        problem = f"divides what method=full trains, and method={self.settings.name} trains other weights"
        yield Fault("conflict", problem, key="train.sharding", got="full", allowed=("none",), hint=EXCHANGE_INSTEAD)

    # ------------------------------------------------------------------ sizes and costs, before anything is loaded

    @abstractmethod
    def trainable_parameters(self, size: ModelSize) -> int:
        """Return the number of trained weights."""

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory of all weights, in bytes.

        By default those of the base: linear layers quantized or not, the rest in the run's precision.

        Args:
            size: Size of the base.
            width: Bytes per number in the run's precision.
        """
        packed = self.quantized_bytes(size)
        return packed + (size.parameters - size.linear_weights * bool(packed)) * width

    def quantized_bytes(self, size: ModelSize) -> int:
        """Return the memory of the quantized linear layers with their scales, in bytes; 0 without quantization."""
        kind = self.settings.quantization
        if kind == "none":
            return 0
        doubled = self.settings.double_quantization and kind != "int8"
        bits = DOUBLE_QUANTIZED_BITS if doubled else QUANTIZED_BITS[kind]
        return round(size.linear_weights * bits / 8)

    def adapted(self, size: ModelSize) -> dict[str, tuple[int, int]]:
        """Return (rows, columns) that a token passes of everything with an adapter, by name; empty without adapters."""
        return {}

    def saved_bytes(self, size: ModelSize) -> int:
        """Return the size of the trained weights on disk, in bytes, without the optimizer state of a checkpoint."""
        return self.trainable_parameters(size) * WIDTH["fp32"]

    def forward_flops(self, size: ModelSize) -> Flops:
        """Return the FLOPs of one forward pass."""
        return forward_flops(size)

    @abstractmethod
    def training_flops(self, size: ModelSize) -> Flops:
        """Return the FLOPs of a forward and a backward pass; recomputation that saves memory is not counted."""

    # ------------------------------------------------------------------ weights

    def base_precision(self, precision: Precision) -> Precision:
        """Return the precision of the base's unquantized weights, given the run's precision."""
        return precision

    @abstractmethod
    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Return the model to train: adapters added, weights unfrozen, or all frozen; no value changes.

        Args:
            base: As loaded, or on torch's `meta` device; modified in place.

        Raises:
            ModelError: `method.target_modules` names no module of this model.
        """

    def begin(self, model: "PreTrainedModel", seed: int, checkpoint: Path | None) -> None:
        """Prepare weights right before training; transformers then loads those of a checkpoint itself.

        Args:
            model: As `apply` returned it; modified in place.
            seed: Seed of the run.
            checkpoint: Folder of the checkpoint that training resumes from; None at the first start.
        """

    def optimizer(self, model: "PreTrainedModel", arguments: "TrainingArguments") -> "Optimizer | None":
        """Return a method's own optimizer; None for the one that transformers makes."""
        return None

    def save(self, model: "PreTrainedModel", folder: Path) -> None:
        """Write the trained weights into a folder, in a format that `restore` and other programs read."""
        cast(Any, model).save_pretrained(folder)

    @abstractmethod
    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load trained weights from `save`, or from a checkpoint, into a model that `apply` returned.

        Raises:
            ModelError: a file is damaged, or the weights are not exactly those of this model and method: too many, too
                few, or of another shape; nothing is loaded then.
        """

    def attach(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a base model with weights from `save`, ready for inference.

        Raises:
            ModelError: as `apply` and `restore`.
        """
        model = self.apply(base)
        self.restore(model, folder)
        return model

    def for_inference(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """Return a trained model in its fastest form for inference; the given one is modified in place."""
        return model

    def merge(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return the trained model in fp32 on the CPU, without adapters.

        Args:
            base: As the method loads it, before `apply`; modified in place.
            folder: Folder of the trained weights.

        Raises:
            ModelError: as `restore`, or a merged weight is not finite.
        """
        return cast("PreTrainedModel", cast(Any, self.attach(base, folder)).float().to("cpu"))

    def plain_form(self, precision: Precision) -> tuple[str, int | None]:
        """Return the torch dtype name of the weights that vLLM gets, and the rank of the adapter, None without one.

        `model/plain_export.py` writes these weights.

        Raises:
            ModelError: vLLM does not support the method in this precision.
        """
        return DTYPE_NAMES[precision], None
