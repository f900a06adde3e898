"""Published speeds of others next to what `model/roofline.py` says of the same work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import LlamaConfig

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import Config, TrainConfig
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.cards import CARDS
from medqa_finetune.model.roofline import Passes, predict, training_operations
from scripts.benchmarks.results import markdown
from scripts.benchmarks.roofline import METHODS, model_size, size_of_config

HEADER = ("published by", "card", "work", "published", "predicted here", "ratio")
HOUR = 3600.0
# Real consultations, with the template of Qwen2.5: tokens in the mean, and the share of them that is an answer.
PAIR_TOKENS, ANSWER_SHARE = 148, 0.6
# An optimizer step had sixteen pairs, four a pass, as the defaults were; each pass dequantizes all weights of QLoRA.
BATCH, PASSES = 16, 4
# peft's comparison trains four solved problems at a time, of about 250 tokens in the mean and at most 768.
PROBLEM_TOKENS, PROBLEMS = 250, 4
PEFT = "huggingface/peft, method_comparison/MetaMathQA"
SEED = "first notes of this project"


@dataclass(frozen=True)
class Published:
    """A published figure.

    Attributes:
        by: Who published it.
        gpu: Short name of the card.
        work: In words.
        least, most: The figure, in tokens per second or hours; equal for a single one.
        method: Settings of the method.
        pairs: Training pairs of Qwen2.5-3B, for hours; 0 for tokens per second of Llama-3.2-3B.
        again: Gradient checkpointing.
    """

    by: str
    gpu: str
    work: str
    least: float
    most: float
    method: dict[str, Any]
    pairs: int = 0
    again: bool = True


_PEFT_LORA = METHODS["lora"] | {"rank": 32, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
FIGURES = (
    Published(PEFT, "l40s", "Llama-3.2-3B, LoRA r32 on q, v, tokens/s", 7194, 7194, _PEFT_LORA, again=False),
    Published(PEFT, "l40s", "Llama-3.2-3B, full, tokens/s", 2315, 2315, METHODS["full"], again=False),
    Published(SEED, "t4", "Qwen2.5-3B, LoRA, 20k pairs, hours", 1.0, 1.5, METHODS["lora"], 20_000),
    Published(SEED, "t4", "Qwen2.5-3B, LoRA, 100k pairs, hours", 6.0, 7.0, METHODS["lora"], 100_000),
    Published(SEED, "t4", "Qwen2.5-3B, QLoRA, 100k pairs, hours", 8.0, 9.0, METHODS["qlora"], 100_000),
)


def table(figures: Sequence[Published] = FIGURES) -> str:
    """Return the table; a ratio over 1 says that we predict more speed, or less time, than was published."""
    rows = []
    for each in figures:
        found = predicted(each)
        middle = (each.least + each.most) / 2
        ratio = middle / found if each.pairs else found / middle
        shown = f"{each.least:,g}" if each.least == each.most else f"{each.least:g} to {each.most:g}"
        ours = f"{found:,.1f}" if each.pairs else f"{found:,.0f}"
        rows.append(
            [
                each.by,
                CARDS[each.gpu].title,
                each.work,
                shown,
                ours,
                f"{ratio:.2f}",
            ]
        )
    return markdown(HEADER, rows)


def predicted(figure: Published) -> float:
    """Return what the roofline says: hours, or tokens per second."""
    card = CARDS[figure.gpu]
    config = Config(method=MethodConfig(**figure.method), train=TrainConfig(gradient_checkpointing=figure.again))
    if figure.pairs:
        tokens, steps = figure.pairs * PAIR_TOKENS, figure.pairs / BATCH
        # Squared lengths vary: consultations have about twice the square of their mean.
        squares = 2 * tokens * PAIR_TOKENS
        work = Passes(tokens, ANSWER_SHARE * tokens, squares, PASSES * steps, steps, card.has_flash)
        size = model_size()
    else:
        tokens = PROBLEMS * PROBLEM_TOKENS
        work = Passes(tokens, tokens, PROBLEMS * PROBLEM_TOKENS**2, 1, 1)
        size = _llama()
    precision = card.precisions[0]
    seconds = predict(card, training_operations(size, config, precision, work), precision).seconds
    return seconds / HOUR if figure.pairs else tokens / seconds


def _llama() -> ModelSize:
    """Return the size of Llama-3.2-3B (huggingface.co/meta-llama/Llama-3.2-3B, config.json)."""
    config = LlamaConfig(
        vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    return size_of_config(config)
