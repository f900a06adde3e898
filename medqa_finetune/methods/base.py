"""What a method says of itself and does: with a model (`ModelMethod`), or without one (`MethodWithoutModel`)."""

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
# which is next to nothing (Dettmers et al. 2022, arXiv:2208.07339).
QUANTIZED_BITS = {"nf4": 4 + 32 / 64, "fp4": 4 + 32 / 64, "int8": 8.0}
DOUBLE_QUANTIZED_BITS = 4 + 8 / 64 + 32 / (64 * 256)


class Method(ABC):
    """One method with its settings.

    Attributes:
        kind: Value of `method.trains` that stands for it.
        loads_model: Whether a model is loaded at all.
        trains_weights: Whether weights are trained. A method that trains none is a baseline in the report.
        uses_training_data: Whether predictions depend on the training examples. Where they do not, the run is named
            without its data size and counts as trained on 0 examples.
        tasks: Values of `corpus.task` that it can do.
        unused: Settings, as dotted keys or sections, that cannot change its predictions: they are in no identity, and
            no name of a run.
        used_all_the_same: Exceptions from `unused`.
        variants: Variants that `export` can make of a run.
    """

    kind: ClassVar[str]
    loads_model: ClassVar[bool]
    trains_weights: ClassVar[bool] = True
    uses_training_data: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("qa", "text")
    unused: ClassVar[tuple[str, ...]] = ()
    used_all_the_same: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: MethodConfig) -> None:
        self.settings = settings

    @classmethod
    def uses(cls, key: str) -> bool:
        """Say whether a setting, as a dotted key, can change the predictions."""
        is_unused = any(key == root or key.startswith(f"{root}.") for root in cls.unused)
        return not is_unused or key in cls.used_all_the_same

    def faults(self) -> Iterator[Fault]:
        """Yield what of `settings` the method refuses; types and ranges have been checked."""
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
            examples: Question and answer of every training example, one at least. Questions are normalised as for the
                search for leaks (`data/splits.py`), and so are those that the function is called with.
            threads: At most; None for as many as there are cores.
        """


class ModelMethod(Method):
    """A method with a model. What is here by default is a model that is trained in its own weights or not at all."""

    loads_model = True

    # ------------------------------------------------------------------ sizes and costs, before anything is loaded

    @abstractmethod
    def trainable_parameters(self, size: ModelSize) -> int:
        """Return the number of weights that are trained."""

    def weight_bytes(self, size: ModelSize, width: int) -> int:
        """Return the memory that all weights take, in bytes.

        By default those of the base: its linear layers quantized or not, the rest in the run's precision.

        Args:
            size: Of the base.
            width: Bytes of a number in the run's precision.
        """
        kind = self.settings.quantization
        if kind == "none":
            return size.parameters * width
        doubled = self.settings.double_quantization and kind != "int8"
        bits = DOUBLE_QUANTIZED_BITS if doubled else QUANTIZED_BITS[kind]
        return round(size.linear_weights * bits / 8) + (size.parameters - size.linear_weights) * width

    def saved_bytes(self, size: ModelSize) -> int:
        """Return what the trained weights take on disk, in bytes; a checkpoint has the optimizer's state as well."""
        return self.trainable_parameters(size) * WIDTH["fp32"]

    def forward_flops(self, size: ModelSize) -> Flops:
        """Return the cost of one forward pass."""
        return forward_flops(size)

    @abstractmethod
    def training_flops(self, size: ModelSize) -> Flops:
        """Return the cost of a forward and a backward pass; what is computed twice to save memory counts once."""

    # ------------------------------------------------------------------ weights

    def base_precision(self, precision: Precision) -> Precision:
        """Return the precision that unquantized weights of the base are held in, in a run of this precision."""
        return precision

    @abstractmethod
    def apply(self, base: "PreTrainedModel") -> "PreTrainedModel":
        """Return the model to train: adapters added, weights unfrozen, or all frozen; values stay as they are.

        Args:
            base: As loaded, or on torch's `meta` device; modified in place.

        Raises:
            ModelError: `method.target_modules` names no module of this model.
        """

    def begin(self, model: "PreTrainedModel", seed: int, checkpoint: Path | None) -> None:
        """Prepare weights right before training; transformers loads those of a checkpoint itself, afterwards.

        Args:
            model: As `apply` returned it; modified in place.
            seed: Of the run.
            checkpoint: Folder of the checkpoint that training resumes from; None to begin anew.
        """

    def optimizer(self, model: "PreTrainedModel", arguments: "TrainingArguments") -> "Optimizer | None":
        """Return the optimizer that the method needs; None where the one that transformers makes will do."""
        return None

    def save(self, model: "PreTrainedModel", folder: Path) -> None:
        """Write the trained weights into a folder, in a form that `restore` and other programs read."""
        cast(Any, model).save_pretrained(folder)

    @abstractmethod
    def restore(self, model: "PreTrainedModel", folder: Path) -> None:
        """Load trained weights that `save` wrote, or a checkpoint's, into a model that `apply` returned.

        Raises:
            ModelError: a file is damaged, or the weights are not exactly those of this model and method: too many, too
                few, or of another shape; nothing is loaded then.
        """

    def attach(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a base model with weights that `save` wrote, ready to predict.

        Raises:
            ModelError: as `apply` and `restore`.
        """
        model = self.apply(base)
        self.restore(model, folder)
        return model

    def for_inference(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """Return a trained model in the form that predicts fastest; the one given is modified in place."""
        return model

    def merge(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
        """Return a model in fp32 on the CPU whose own weights, without adapters, are what training came to.

        Args:
            base: As the method loads it, before `apply`; modified in place.
            folder: Of the trained weights.

        Raises:
            ModelError: as `restore` does, or a merged weight is not finite.
        """
        return cast("PreTrainedModel", cast(Any, self.attach(base, folder)).float().to("cpu"))

    def plain_form(self, precision: Precision) -> tuple[str, int | None]:
        """Return torch's name of the weights' dtype, and the rank of the adapter, of what vLLM gets.

        That is what `model/plain_export.py` writes; the rank is None where no adapter is left.

        Raises:
            ModelError: vLLM cannot take it in this precision.
        """
        return DTYPE_NAMES[self.base_precision(precision)], None
