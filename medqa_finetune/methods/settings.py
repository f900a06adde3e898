"""Settings of a method, a part of `config/schema.py`: which weights of the base model are trained, and how."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass(frozen=True)
class MethodConfig:
    """Which weights of the base model are trained, and how all are stored.

    Attributes:
        name: Short name, used for the run folder and in tables.
        trains: Which method of `medqa_finetune/methods/`: `adapter` (low-rank, LoRA), `pissa` (the same, initialised
            by singular values), `all` (every weight), `nothing` (the untuned base, a baseline), `lookup` (no model; the
            answer to the most similar training question, another baseline), or one that another package adds.
        rank: Rank r of the adapter (Hu et al. 2021, arXiv:2106.09685).
        alpha: Scale of the adapter; the update is multiplied by alpha / rank.
        rslora: Multiply it by alpha / sqrt(rank) instead, so that larger ranks learn as fast (RSLoRA: Kalajdzievski
            2023, arXiv:2312.03732).
        dora: Train the length of each row of a weight matrix apart from its direction, which the adapter changes (DoRA:
            Liu et al. 2024, arXiv:2402.09353).
        loraplus_ratio: The adapter's matrix B learns at this many times `train.learning_rate`, at least 1; null for the
            same (LoRA+: Hayou et al. 2024, arXiv:2402.12354, who use 16).
        dropout: Dropout on the adapter's input, in [0, 1).
        target_modules: Which modules get adapters: `all_linear` (every linear layer but the head), `attention` (those
            of the attention), `attention_mlp` (those of the transformer layers, attention and MLP), or a list of module
            names.
        target_parameters: Which parameters that are no linear layers get adapters as well: `experts` (all matrices of a
            mixture of experts), or a list of names; null for none. Needs `dropout` 0.
        quantization: How frozen weights are stored: `none`, `nf4`, `fp4` (4 bits) or `int8`
            (NF4: Dettmers et al. 2023, arXiv:2305.14314).
        double_quantization: Quantize the 4-bit scales as well; saves about 0.4 bits a weight.
        compute_dtype: Precision in which 4-bit weights are multiplied: `auto` (that of the run), `bf16`, `fp16` or
            `fp32`.
        optimizer: Name of a transformers optimizer, used where CUDA is present.
        optimizer_without_cuda: The one used elsewhere (paged optimizers need CUDA).
    """

    name: str = MISSING
    trains: str = "adapter"
    rank: int = 16
    alpha: int = 32
    rslora: bool = False
    dora: bool = False
    loraplus_ratio: float | None = None
    dropout: float = 0.05
    target_modules: Any = "all_linear"
    target_parameters: Any = None
    quantization: str = "none"
    double_quantization: bool = False
    compute_dtype: str = "auto"
    optimizer: str = "adamw_torch"
    optimizer_without_cuda: str = "adamw_torch"


# A model without training, as in its folder.
UNTRAINED = MethodConfig(name="none", trains="nothing")
# An adapter trained elsewhere, with the rank and modules of its own files.
SAVED_ADAPTER = MethodConfig(name="lora", trains="adapter")
