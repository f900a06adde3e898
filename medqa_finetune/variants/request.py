"""Holds the options of an export; separate from the checks, so that the command line starts quickly."""

from dataclasses import dataclass
from functools import partial

from medqa_finetune.config.command_options import Options, option
from medqa_finetune.config.ranges import at_least


@dataclass(frozen=True)
class ExportRequest(Options):
    """Options of an export; `variants` None means all that the run's method allows."""

    PREFIX = "export."

    variants: list[str] | None = option(
        None,
        "which to make; all that the run's method allows if left out",
        value="[merged,…]",
        bare=True,
    )
    to: str | None = option(
        None,
        "takes a folder per variant, variants.csv and variants.png (svg, pdf); <run>/export if left out",
        value="DIR",
    )
    base: str | None = option(None, "where the base model lies now; where the run found it if left out", value="DIR")
    max_samples: int | None = option(
        None, "questions to measure on; those of the run's evaluation if left out", check=partial(at_least, least=1)
    )
    quantization: str = option("auto", "auto: as the run was trained, else nf4", allowed=("auto", "nf4", "fp4", "int8"))
    dtype: str = option(
        "auto", "of weights that are not quantized; auto: as the base's files", allowed=("auto", "fp32", "bf16", "fp16")
    )
    measure: bool = option(True, "let each variant answer the questions, in a process of its own")
    overwrite: bool = option(False, "move existing variants aside and make them again", bare=True)
