"""Benchmarks: tasks of lm-evaluation-harness, and the perplexity of a text, measured in addition to the test set.

They show what fine-tuning has cost the model on other tasks. Their scores are kept separate from those of predictions.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from medqa_finetune.config.groups import conf_folder, load_group, option_names
from medqa_finetune.config.identity import file_label
from medqa_finetune.config.schema import Config, CorpusConfig, EvaluateConfig
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.examples import Encoded
from medqa_finetune.data.text import Text, read_test_text
from medqa_finetune.errors import NO_VALUE, ConfigError, DataError, Fault
from medqa_finetune.evaluation.lm_eval_tasks import check_tasks, zero_shot_scores
from medqa_finetune.evaluation.reuse import missing_benchmarks
from medqa_finetune.evaluation.text_perplexity import METRIC, score_blocks, text_signature
from medqa_finetune.methods.registry import method_of
from medqa_finetune.progress import advance, begin, track
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import Score

log = logging.getLogger(__name__)


class TextBenchmark(NamedTuple):
    """A text whose perplexity is measured: its name, its blocks, and how its perplexity is computed."""

    name: str
    blocks: Sequence[Encoded]
    signature: str


def check_benchmarks(config: Config) -> None:
    """Check the configured benchmarks before training; methods that load no model have none.

    Raises:
        ConfigError: a task or text is unknown, or lm-evaluation-harness is not installed.
        DataError: the text is missing, empty or broken.
    """
    if not method_of(config.method).loads_model:
        return
    check_tasks(config.evaluate)
    if config.evaluate.text is not None:
        _read_text(text_corpus(config.evaluate))


def text_sha256(config: Config) -> str | None:
    """Return the sha256 over the files of `evaluate.text`; None if no text is configured.

    It is also computed for methods that load no model, since all cells of a matrix share one evaluation.

    Raises:
        ConfigError: there is no such text.
        DataError: it cannot be read.
    """
    if config.evaluate.text is None:
        return None
    corpus = text_corpus(config.evaluate)
    with _in_its_own_words():
        return corpus_sha256(corpus)


def text_label(settings: EvaluateConfig, sha256: str | None) -> str:
    """Return the text's name in file names and tables; a user's own file is named by file name and digest."""
    return file_label(str(settings.text), None if sha256 is None else settings.text_path, sha256 or "")


def text_corpus(settings: EvaluateConfig) -> CorpusConfig:
    """Return the corpus settings of `evaluate.text`.

    Raises:
        ConfigError: there is no such corpus, it is not running text, or its path does not exist.
    """
    name, options = str(settings.text), option_names("corpus")
    # Checked before the corpus is composed: one of question-answer examples may require options of its own.
    if name not in options or not _is_text(name):
        allowed = filter(_is_text, options)
        raise ConfigError(
            Fault(
                "not-allowed", "no such corpus of running text", key="evaluate.text", got=name, allowed=tuple(allowed),
                hint="For a text of your own, give evaluate.text=text evaluate.text_path=FILE.",
            )
        )  # fmt: skip
    path = settings.text_path
    if name == "text" and path is None:
        raise ConfigError(
            Fault("missing-key", "is missing", key="evaluate.text_path",
                  hint="With evaluate.text=text, give evaluate.text_path=FILE.")
        )  # fmt: skip
    if path is not None and not Path(path).expanduser().exists():
        raise ConfigError(
            Fault(
                "file-missing",
                f"no such file or folder (working folder: {Path.cwd()})",
                key="evaluate.text_path",
                got=path,
            )
        )
    corpus = load_group("corpus", name, CorpusConfig, ["path=."])
    return dataclasses.replace(corpus, path=path)


def prepare_text(tokenizer: Any, config: Config, sha256: str | None = None) -> TextBenchmark | None:
    """Encode the test split of `evaluate.text` into blocks; None if no text is configured.

    Args:
        tokenizer: The model's tokenizer.
        config: `train.max_length` is the block length in tokens, `evaluate.max_samples` limits the number of blocks.
        sha256: Digest from `text_sha256`; labels a user's own file.

    Raises:
        DataError: the test split is a single token.
    """
    from medqa_finetune.data.blocks import BlockEncoder

    settings, length = config.evaluate, config.train.max_length
    if settings.text is None:
        return None
    corpus = text_corpus(settings)
    text = _read_text(corpus)
    blocks = [*BlockEncoder(tokenizer, length, settings.stride).encode(text)][: settings.max_samples]
    if not blocks:
        raise DataError(
            Fault("text-too-short", "the test part is a single token", key="evaluate.text", got=settings.text,
                  hint="Give more text.")
        )  # fmt: skip
    signature = text_signature(length, settings.stride, corpus.separator)
    return TextBenchmark(
        text_label(settings, sha256), blocks, f"{signature}|text_sha256:{text.sha256[:16]}|n:{len(blocks)}"
    )


def run_benchmarks(
    model: Any, tokenizer: Any, text: TextBenchmark | None, settings: EvaluateConfig, folder: EvaluationDir
) -> None:
    """Run the benchmarks whose scores are missing from the evaluation's record, and write the scores to it.

    Args:
        model: The model as it generates predictions: merged, or with its adapter.
        tokenizer: The model's tokenizer.
        text: From `prepare_text`.
        settings: Names the tasks.
        folder: Folder of the evaluation.

    Raises:
        RunError: the model gives likelihoods that are not finite, so that the text has no perplexity.
    """
    evaluation = folder.read()
    missing = [] if evaluation is None else missing_benchmarks(evaluation)
    known = {} if evaluation is None else evaluation.exams
    if "tasks" in missing:
        begin("benchmarks", detail=", ".join(settings.zero_shot))
        known = known | zero_shot_scores(model, tokenizer, settings)
        folder.update(exams=known)
    if "text" in missing and text is not None:
        folder.update(exams=known | {f"{text.name}/{METRIC}": text_perplexity(model, text, settings)})


def text_perplexity(model: Any, text: TextBenchmark, settings: EvaluateConfig) -> Score:
    """Return the perplexity (≥ 1) of a text; see `text_perplexity.py` for the formula.

    Raises:
        RunError: the model gives likelihoods that are not finite.
    """
    from medqa_finetune.evaluation.text_likelihood import batches_of, measure_batch

    log.info("measuring the perplexity of evaluate.text=%s, %d blocks", text.name, len(text.blocks))
    model.eval()
    rows: list[dict[str, Any]] = []
    for batch in track([*batches_of(text.blocks, settings)], "measuring", of=len(text.blocks)):
        rows += measure_batch(model, text.blocks, batch, settings)
        advance(len(rows))
    score = score_blocks(rows, text.signature, Path(text.name))[0].scores[METRIC]
    log.info("the perplexity of evaluate.text=%s is %.2f", text.name, score.value)
    return score


def _is_text(corpus: str) -> bool:
    return bool(OmegaConf.select(OmegaConf.load(conf_folder() / "corpus" / f"{corpus}.yaml"), "task") == "text")


def _read_text(corpus: CorpusConfig) -> Text:
    with _in_its_own_words():
        return read_test_text(corpus)


@contextmanager
def _in_its_own_words() -> Iterator[None]:
    """Report faults of the text under the `evaluate` keys that the user gave, not those of a corpus."""
    try:
        yield
    except DataError as error:
        raise DataError(*map(_of_evaluation, error.faults)) from None


def _of_evaluation(fault: Fault) -> Fault:
    if fault.code == "wrong-encoding" and fault.allowed:
        hint = f"The text is read as UTF-8; convert it (iconv -f {fault.allowed[0]} -t utf-8)."
        return fault.but(key="evaluate.text_path", got=NO_VALUE, allowed=(), hint=hint)
    if fault.code == "column-missing":
        return fault.but(key="evaluate.text_path", hint="Call the column text, or give plain text.")
    if fault.key is None or fault.key in ("corpus.path", "corpus.encoding"):
        return fault.but(key="evaluate.text_path")
    return fault
