"""Measured seconds of training and answering next to what the roofline says of this card."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medqa_finetune.config.schema import Config
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.model.answering import answering_form
from medqa_finetune.model.cards import Card, card_named
from medqa_finetune.model.load import LoadedModel
from medqa_finetune.model.roofline import (
    Operations,
    Passes,
    decoding_operations,
    forward_operations,
    predict,
    training_operations,
)
from scripts.gpu_checks.finding import Finding
from scripts.gpu_checks.models import Scale, examples, random_model, settings_of, synchronize, train

STEPS, UNMETERED, EXAMPLES = 8, 2, 8
ROWS, PROMPT, DECODED = 64, 256, 32
# The prediction is held to be good within this factor.
FACTOR = 2.0


def roofline(scale: Scale) -> Iterator[Finding]:
    """How far the predicted seconds of a training step and of answering are from the measured ones, on a known card."""
    loaded = random_model(scale, "lora", "auto")
    card = card_named(loaded.device.name)
    if card is None:
        yield Finding("roofline", "card", f"none: {loaded.device.name} is not in model/cards.py; nothing is predicted")
    yield _training(scale, loaded, card)
    yield _answering(scale, loaded, card)


def _training(scale: Scale, loaded: LoadedModel, card: Card | None) -> Finding:
    longest = scale.tokens(512)
    sets = examples(STEPS * EXAMPLES, longest // 4, longest, int(loaded.model.config.vocab_size))
    config = settings_of("lora", loaded.device.precision, STEPS, max_length=longest)
    with tempfile.TemporaryDirectory() as folder:
        record = train(loaded, config, Path(folder), sets)
    lengths = [len(item["input_ids"]) for item in sets]
    tokens, squares = sum(lengths) / STEPS, sum(length * length for length in lengths) / STEPS
    seconds = tokens / record.tokens_per_second if record.tokens_per_second else 0.0
    flash = card is None or card.has_flash
    work = Passes(tokens, record.answer_tokens / record.steps, squares, 1, 1, flash)
    operations = [] if loaded.size is None else training_operations(loaded.size, config, loaded.device.precision, work)
    return _next_to_predicted(f"LoRA, a step of {tokens:.0f} tokens", seconds, operations, loaded, card)


def _answering(scale: Scale, loaded: LoadedModel, card: Card | None) -> Finding:
    rows, prompt, decoded = (8 if scale.small else ROWS), scale.tokens(PROMPT), scale.tokens(DECODED)
    model: Any = answering_form(loaded.model, loaded.device)
    pad = int(loaded.tokenizer.pad_token_id)
    prompts = [[5] * prompt for _ in range(rows)]
    decode_greedily(model, prompts, Ending((), pad, 2))  # the first call of a kernel takes longer
    synchronize()
    began = time.perf_counter()
    decode_greedily(model, prompts, Ending((), pad, decoded))
    synchronize()
    seconds = time.perf_counter() - began
    operations = _answering_operations(loaded, rows, prompt, decoded)
    return _next_to_predicted(f"LoRA, {rows} × {decoded} tokens answered", seconds, operations, loaded, card)


def _answering_operations(loaded: LoadedModel, rows: int, prompt: int, decoded: int) -> list[Operations]:
    precision, size = loaded.device.precision, loaded.size
    if size is None:
        return []
    config: Config = settings_of("lora", precision, 1)
    read = Passes(rows * prompt, rows, rows * prompt * prompt, 1)
    attended = rows * decoded * (prompt + decoded / 2)
    return [
        *forward_operations(size, config, precision, read, answering=True),
        *decoding_operations(size, config, precision, steps=decoded, tokens=rows * decoded, attended=attended),
    ]


def _next_to_predicted(
    what: str, seconds: float, operations: list[Operations], loaded: LoadedModel, card: Card | None
) -> Finding:
    """Return the measured seconds, and next to them what is predicted for the card, where it is known."""
    measured = float(f"{seconds:.3g}")
    if card is None or not operations or not seconds:
        return Finding("roofline", what, measured, "s")
    said = predict(card, operations, loaded.device.precision)
    ratio = seconds / said.seconds
    expected = f"{said.seconds:.3g} s for the {card.title} ({said.limit}); measured {ratio:.2f} times, ≤ {FACTOR:g}"
    return Finding("roofline", what, measured, "s", expected, 1 / FACTOR <= ratio <= FACTOR)
