"""Measures one variant, loaded from its folder: memory, speed and scores on the run's test questions.

Runs in its own process, since peak memory is per process. An adapter is not merged into its base.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.architecture.size import read_size
from medqa_finetune.config.chat_form import ChatForm
from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.examples import Example, context_of, with_context
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.evaluation.rescore import find_by_name
from medqa_finetune.memory import peak_resident_bytes, resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import UNTRAINED
from medqa_finetune.record.environment import describe_environment
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import sha256_of_text
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.variants.metadata import Measured

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medqa_finetune.model.load import Device

# Warm-up tokens, since the first ones include one-time set-up.
WARM_UP_TOKENS = 4


@dataclasses.dataclass(frozen=True)
class MeasureRequest:
    """Which variant to measure, and how.

    Attributes:
        folder: Folder of the variant.
        base: Folder of the base model of an adapter; None for a whole model.
        method: The run's method: quantization of the base, kind of adapter.
        run: Folder of the run whose test questions are used.
        answers: Folder for the predictions; emptied first, so that one process generates all of them.
        evaluate: The run's settings of generation and metrics.
        max_samples: Maximum number of questions; None for all.
        max_length: Maximum tokens of an example, as in training.
        form: In which form the chat template renders dialogues, as in training.
        precision: Compute precision; `auto` depends on the device.
        threads: CPU threads for torch; None for torch's default.
    """

    folder: Path
    base: Path | None
    method: MethodConfig
    run: Path
    answers: Path
    evaluate: EvaluateConfig
    max_samples: int | None
    max_length: int
    form: ChatForm
    precision: str
    threads: int | None


def measure(asked: MeasureRequest) -> Measured:
    """Load the variant, generate and score its predictions, and return memory, speed and scores.

    Raises:
        ModelError: the variant does not load.
        DataError: there are no questions.
    """
    pairs = read_questions(RunDir(asked.run), asked.max_samples)
    from medqa_finetune.data.encode import Encoder
    from medqa_finetune.evaluation.batch_size import settle_batches
    from medqa_finetune.evaluation.generate import generate_predictions
    from medqa_finetune.evaluation.predictions import read_predictions
    from medqa_finetune.evaluation.score import score_predictions
    from medqa_finetune.model.load import choose_device, load_tokenizer, set_threads
    from medqa_finetune.runtime import keep_freed_memory

    keep_freed_memory()
    set_threads(asked.threads)
    device = choose_device(asked.precision)
    start = resident_bytes()
    tokenizer = load_tokenizer(asked.folder)
    model = load_variant(asked, device, tokenizer)
    encoder = Encoder(tokenizer, asked.max_length, asked.form)
    _warm_up(model, encoder, pairs)
    shutil.rmtree(asked.answers, ignore_errors=True)
    asked.answers.mkdir(parents=True)
    answers = EvaluationDir(asked.answers)
    settings = settle_batches(asked.evaluate, model, read_size(asked.base or asked.folder))
    generated = generate_predictions(model, encoder, pairs, settings, answers)
    scored, _ = score_predictions(read_predictions(answers.predictions_path), asked.evaluate.metrics)
    return Measured(
        questions_sha256=fingerprint(pairs),
        max_samples=asked.max_samples,
        n=scored.n,
        scores=scored.scores,
        **generated.speed(),
        **_peaks(device.type),
        start_rss_bytes=start,
        environment=describe_environment(device.name, device.precision),
    )


def load_variant(asked: MeasureRequest, device: "Device", tokenizer: "PreTrainedTokenizerBase") -> Any:
    """Load a variant from its folder, in evaluation mode.

    Raises:
        ModelError: a file is damaged or does not fit.
    """
    from medqa_finetune.model.answering import answering_form
    from medqa_finetune.model.load import load_base

    if asked.base is None:
        # Its config.json says whether it is quantized.
        return answering_form(load_base(asked.folder, UNTRAINED, device, tokenizer), device)
    model = model_method(asked.method).attach(load_base(asked.base, asked.method, device, tokenizer), asked.folder)
    return answering_form(model, device)


def _warm_up(model: Any, encoder: Any, pairs: Sequence[Example]) -> None:
    from medqa_finetune.evaluation.decode import Ending, decode_greedily

    ending = Ending((), int(encoder.tokenizer.pad_token_id), WARM_UP_TOKENS)
    decode_greedily(model, encoder.prompts(pairs[:1]), ending)


def _peaks(device: str) -> dict[str, Any]:
    import torch

    cuda = device == "cuda"
    return {
        "peak_vram_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "peak_vram_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
        "peak_rss_bytes": peak_resident_bytes(),
    }


def read_questions(run: RunDir, limit: int | None) -> list[Example]:
    """Return the test questions of a finished run, with their references; the corpus is not needed.

    Predictions are stored by question length, so `limit` takes the first questions by hash of their ids: the same for
    every variant, independent of length.

    Args:
        run: A finished run whose predictions have been checked against its record.
        limit: Maximum number of questions; None for all.

    Raises:
        DataError: there are none.
    """
    rows = find_by_name(run).read_predictions()
    if not rows or any("question" not in row for row in rows):
        hint = "Give export.measure=false to export alone."
        file = str(run.path)
        raise DataError(Fault("no-questions", "holds no questions to measure on", file=file, hint=hint))
    rows.sort(key=lambda row: sha256_of_text(str(row["id"])))
    return [with_context(str(row["id"]), str(row["question"]), str(row["reference"]), row) for row in rows[:limit]]


def fingerprint(pairs: Sequence[Example]) -> str:
    """Return the SHA-256 (hex) over ids, questions with earlier turns, and references, in order."""
    rows = [
        [pair.id, pair.question, pair.answer, *([context] if (context := context_of(pair)) else [])] for pair in pairs
    ]
    return sha256_of_text(json.dumps(rows, ensure_ascii=False))
