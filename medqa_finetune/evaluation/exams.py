"""What a model is examined in beside its corpus: tasks of lm-evaluation-harness, and how likely a text is to it.

Both tell what training on answers has cost the model elsewhere. Neither is in the record's `evaluation`.
"""

import dataclasses
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from tqdm import tqdm

from medqa_finetune.config.corpus import CorpusConfig
from medqa_finetune.config.options import conf_folder, load_group, option_names
from medqa_finetune.config.schema import Config, EvaluateConfig
from medqa_finetune.data.encoded_set import Encoded
from medqa_finetune.data.sources import corpus_sha256
from medqa_finetune.data.text import Text, read_test_text
from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation.perplexity import METRIC, score_blocks, text_signature
from medqa_finetune.evaluation.zero_shot import check_tasks, zero_shot_scores
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Score

log = logging.getLogger(__name__)


class TextExam(NamedTuple):
    """A text that a model is examined in: its name, its blocks, and how its perplexity is computed."""

    name: str
    blocks: Sequence[Encoded]
    signature: str


def check_exams(config: Config) -> None:
    """Refuse exams that cannot be held, before anything is trained; where no model is loaded, none is held.

    Raises:
        ConfigError: a task or text that is not known, or a harness that is not installed.
        DataError: the text is missing, empty or broken.
    """
    if not config.method.loads_model:
        return
    check_tasks(config.evaluate)
    if config.evaluate.text is not None:
        _read_text(text_corpus(config.evaluate))


def text_sha256(config: Config) -> str | None:
    """Return the sha256 over the files of `evaluate.text`; None where no text is asked for, or no model is loaded.

    Raises:
        ConfigError: there is no such text.
        DataError: it cannot be read.
    """
    if config.evaluate.text is None or not config.method.loads_model:
        return None
    corpus = text_corpus(config.evaluate)
    with _in_its_own_words():
        return corpus_sha256(corpus)


def text_corpus(settings: EvaluateConfig) -> CorpusConfig:
    """Return where the text of `evaluate.text` is.

    Raises:
        ConfigError: there is no such corpus, it is none of running text, or its path leads nowhere.
    """
    name, options = str(settings.text), option_names("corpus")
    # Asked first, since a corpus of pairs may lack what only its own command line gives.
    if name not in options or not _is_text(name):
        allowed = filter(_is_text, options)
        raise ConfigError(
            f"evaluate.text={name}: allowed are {', '.join(allowed)}. A text of your own: evaluate.text=text "
            "evaluate.text_path=FILE."
        )
    path = settings.text_path
    if name == "text" and path is None:
        raise ConfigError("evaluate.text_path is missing: evaluate.text=text wants evaluate.text_path=FILE.")
    if path is not None and not Path(path).expanduser().exists():
        raise ConfigError(f"evaluate.text_path={path}: no such file or folder (looked in {Path.cwd()}).")
    corpus = load_group("corpus", name, CorpusConfig, ["path=."])
    return dataclasses.replace(corpus, path=path)


def prepare_text(tokenizer: Any, config: Config) -> TextExam | None:
    """Return the test part of `evaluate.text`, in blocks as running text is examined in; None where none is asked for.

    Raises:
        DataError: the text is a single token.
    """
    from medqa_finetune.data.blocks import BlockEncoder

    settings, length = config.evaluate, config.train.max_length
    if settings.text is None:
        return None
    corpus = text_corpus(settings)
    text = _read_text(corpus)
    blocks = [*BlockEncoder(tokenizer, length, settings.stride).encode(text)][: settings.max_samples]
    if not blocks:
        raise DataError(f"evaluate.text={settings.text}: the test part is a single token; more text is wanted.")
    signature = text_signature(length, settings.stride, corpus.separator)
    return TextExam(settings.text, blocks, f"{signature}|text_sha256:{text.sha256[:16]}|n:{len(blocks)}")


def hold_exams(model: Any, tokenizer: Any, text: TextExam | None, settings: EvaluateConfig, run: RunDir) -> None:
    """Examine a model in all that is asked for and not in its record yet, and put the scores there.

    Args:
        model: As it answers questions: merged, or with its adapter beside it.
        tokenizer: Its own.
        text: As `prepare_text` makes it.
        settings: Name the tasks.
        run: Its folder.

    Raises:
        RunError: the text has no perplexity, for the model gives no numbers.
    """
    record = run.read()
    held = {} if record is None else record.zero_shot
    of_text = set() if text is None else {f"{text.name}/{METRIC}"}
    if settings.zero_shot and held.keys() <= of_text:
        held = held | zero_shot_scores(model, tokenizer, settings)
        run.update(zero_shot=held)
    if text is not None and not of_text <= held.keys():
        run.update(zero_shot=held | {f"{text.name}/{METRIC}": text_perplexity(model, text, settings)})


def text_perplexity(model: Any, text: TextExam, settings: EvaluateConfig) -> Score:
    """Return the perplexity of a text.

    Raises:
        RunError: it has none, for the model gives no numbers.
    """
    from medqa_finetune.evaluation.blocks import batches_of, measure_batch

    log.info("measuring the perplexity of evaluate.text=%s, %d blocks", text.name, len(text.blocks))
    model.eval()
    batches = tqdm([*batches_of(text.blocks, settings)], desc=text.name, unit="batch", disable=None, leave=False)
    rows = [row for batch in batches for row in measure_batch(model, text.blocks, batch, settings)]
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
    """Say what is wrong with a text by the keys that were typed for it, not by those of a corpus."""
    try:
        yield
    except DataError as error:
        said = str(error).replace("corpus.path", "evaluate.text_path")
        said = re.sub(r"Try corpus\.encoding=(\S+)", r"It is read as UTF-8; convert it (iconv -f \1 -t utf-8)", said)
        said = re.sub(r"Give corpus\.text=COLUMN", "Call the column text, or give plain text", said)
        raise DataError(f"evaluate.text: {said}") from None
