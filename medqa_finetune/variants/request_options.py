"""What can be asked of an export, beside the run; a file of its own, so that the command line loads no more."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What was asked for beside the run.

    Attributes:
        variants: Names; None for all that the run's method allows.
        to: Folder that takes them; None for `export` in the run's own.
        base: Where the base model lies now, if not where the run found it.
        max_samples: Questions to measure on; None for all that the run was examined on.
        quantization: `auto`, `nf4`, `fp4` or `int8`.
        dtype: `auto`, `fp32`, `bf16` or `fp16`.
        measure: Whether each variant answers the questions.
        overwrite: Whether what is there is moved aside and made anew.
    """

    variants: list[str] | None = None
    to: str | None = None
    base: str | None = None
    max_samples: int | None = None
    quantization: str = "auto"
    dtype: str = "auto"
    measure: bool = True
    overwrite: bool = False
