"""What a model is examined in beside its corpus: tasks of lm-evaluation-harness, and how likely a text is to it.

Both tell what training on answers has cost the model elsewhere. Neither is in the record's `evaluation`.
"""

import dataclasses
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def check_exams(settings: EvaluateConfig) -> None:
    """Refuse exams that cannot be held, before anything is trained.

    Raises:
        ConfigError: a task or text that is not known, or a harness that is not installed.
        DataError: the text is missing, empty or broken.
    """
    check_tasks(settings)
    if settings.text is not None:
        _read_text(settings)


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
    name = str(settings.text)
    # Asked first, since a corpus of pairs may lack what only its own command line gives.
    files = {each: conf_folder() / "corpus" / f"{each}.yaml" for each in option_names("corpus")}
    allowed = [each for each, path in files.items() if OmegaConf.select(OmegaConf.load(path), "task") == "text"]
    if name not in allowed:
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


def hold_exams(model: Any, tokenizer: Any, config: Config, run: RunDir) -> None:
    """Examine a model in all that is asked for and not in its record yet, and put the scores there.

    Args:
        model: As it answers questions: merged, or with its adapter beside it.
        tokenizer: Its own.
        config: The experiment.
        run: Its folder.

    Raises:
        RunError: the text has no perplexity, for the model gives no numbers.
    """
    record = run.read()
    held = {} if record is None else record.zero_shot
    settings, text = config.evaluate, f"{config.evaluate.text}/{METRIC}"
    if settings.zero_shot and held.keys() <= {text}:
        held = held | zero_shot_scores(model, tokenizer, settings)
        run.update(zero_shot=held)
    if settings.text is not None and text not in held:
        run.update(zero_shot=held | {text: text_perplexity(model, tokenizer, config)})


def text_blocks(tokenizer: Any, config: Config) -> list[Encoded]:
    """Return the blocks of `evaluate.text` that are examined; none where no text is asked for.

    Raises:
        DataError: the text is a single token.
    """
    from medqa_finetune.data.blocks import BlockEncoder

    settings = config.evaluate
    if settings.text is None:
        return []
    encoder = BlockEncoder(tokenizer, config.train.max_length, settings.stride)
    blocks = [*encoder.encode(_read_text(settings))][: settings.max_samples]
    if not blocks:
        raise DataError(f"evaluate.text={settings.text}: the test part is a single token; more text is wanted.")
    return blocks


def text_perplexity(model: Any, tokenizer: Any, config: Config) -> Score:
    """Return the perplexity of the test part of `evaluate.text`, in blocks as running text is examined in.

    Raises:
        DataError: the text is a single token.
        RunError: it has no perplexity, for the model gives no numbers.
    """
    from medqa_finetune.evaluation.blocks import batches_of
    from medqa_finetune.evaluation.likelihood import reference_likelihoods

    settings = config.evaluate
    corpus, blocks = text_corpus(settings), text_blocks(tokenizer, config)
    log.info("measuring the perplexity of evaluate.text=%s, %d blocks", settings.text, len(blocks))
    model.eval()
    rows: list[dict[str, Any]] = []
    for batch in tqdm([*batches_of(blocks, settings)], desc=corpus.name, unit="batch", disable=None, leave=False):
        found = reference_likelihoods(model, [blocks[number] for number in batch], settings.batch_tokens)
        rows += [
            {"id": number, "nll": nll, "tokens": tokens} for number, (nll, tokens) in zip(batch, found, strict=True)
        ]
    signature = text_signature(config.train.max_length, settings.stride, corpus.separator)
    signature += f"|text_sha256:{_read_text(settings).sha256[:16]}|n:{len(blocks)}"
    score = score_blocks(rows, signature, Path(corpus.name))[0].scores[METRIC]
    log.info("the perplexity of evaluate.text=%s is %.2f", settings.text, score.value)
    return score


def _read_text(settings: EvaluateConfig) -> Text:
    corpus = text_corpus(settings)
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
