"""Let one variant answer the run's questions, loaded from its folder; a process of its own, for memory is measured.

The variant answers as it will be used: an adapter stays beside its base.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.memory import peak_resident_bytes, resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.methods.settings import UNTRAINED
from medqa_finetune.record.environment import describe_environment
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.variants.metadata import Measured
from medqa_finetune.variants.questions import fingerprint, read_questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medqa_finetune.model.load import Device

# Tokens generated before anything is measured: the first ones pay for what is set up once.
WARM_UP_TOKENS = 4


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What to measure, and how.

    Attributes:
        folder: Of the variant.
        base: Folder of the base model where the variant is trained weights beside it; None for a whole model.
        method: How such a base is held, and what lies beside it.
        run: Folder of the run whose questions are asked.
        answers: Folder that takes the answers; emptied first, so that what is measured is one process.
        evaluate: The run's settings of generation and metrics.
        max_samples: Questions at most; None for all.
        max_length: Tokens per pair, as in training.
        precision: What is computed in; `auto` by the device.
        threads: CPU threads for torch; None leaves it to torch.
    """

    folder: Path
    base: Path | None
    method: MethodConfig
    run: Path
    answers: Path
    evaluate: EvaluateConfig
    max_samples: int | None
    max_length: int
    precision: str
    threads: int | None


def measure(asked: Measuring) -> Measured:
    """Load the variant, and let it answer.

    Raises:
        ModelError: it does not load.
        DataError: there are no questions.
    """
    pairs = read_questions(RunDir(asked.run), asked.max_samples)
    from medqa_finetune.data.tokenize import Encoder
    from medqa_finetune.evaluation.generate import generate_answers
    from medqa_finetune.evaluation.predictions import read_answers
    from medqa_finetune.evaluation.score import score_answers
    from medqa_finetune.model.load import choose_device, load_tokenizer, set_threads
    from medqa_finetune.runtime import keep_freed_memory

    keep_freed_memory()
    set_threads(asked.threads)
    device = choose_device(asked.precision)
    start = resident_bytes()
    tokenizer = load_tokenizer(asked.folder)
    model = load_variant(asked, device, tokenizer)
    encoder = Encoder(tokenizer, asked.max_length)
    _warm_up(model, encoder, pairs)
    shutil.rmtree(asked.answers, ignore_errors=True)
    asked.answers.mkdir(parents=True)
    answers = EvaluationDir(asked.answers)
    generated = generate_answers(model, encoder, pairs, asked.evaluate, answers)
    scored, _ = score_answers(read_answers(answers.predictions_path), asked.evaluate.metrics)
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


def load_variant(asked: Measuring, device: "Device", tokenizer: "PreTrainedTokenizerBase") -> Any:
    """Return a variant as its folder gives it, in evaluation mode.

    Raises:
        ModelError: a file is damaged or does not fit.
    """
    from medqa_finetune.model.load import load_base

    if asked.base is None:
        # Whether it is quantized stands in its own config.json.
        return cast(Any, load_base(asked.folder, UNTRAINED, device, tokenizer)).eval()
    model = model_method(asked.method).attach(load_base(asked.base, asked.method, device, tokenizer), asked.folder)
    return cast(Any, model).eval()


def _warm_up(model: Any, encoder: Any, pairs: Sequence[Example]) -> None:
    from medqa_finetune.evaluation.decode import Ending, decode_greedily

    ending = Ending(encoder.end_ids[-1], int(encoder.tokenizer.pad_token_id), WARM_UP_TOKENS)
    decode_greedily(model, encoder.prompts(pairs[:1]), ending)


def _peaks(device: str) -> dict[str, Any]:
    import torch

    cuda = device == "cuda"
    return {
        "peak_vram_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "peak_vram_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
        "peak_rss_bytes": peak_resident_bytes(),
    }
