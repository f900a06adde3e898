"""What a model is examined in beside its corpus: tasks of lm-evaluation-harness, and how likely a text is to it.

Both tell what training on answers has cost the model elsewhere. Neither is in the record's `evaluation`.
"""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from tqdm import tqdm

from medqa_finetune.config.corpus import CorpusConfig
from medqa_finetune.config.options import conf_folder, load_group, option_names
from medqa_finetune.config.schema import Config, EvaluateConfig
from medqa_finetune.data.text import read_test_text
from medqa_finetune.errors import ConfigError, DataError
from medqa_finetune.evaluation.perplexity import METRIC, score_blocks, text_signature
from medqa_finetune.evaluation.zero_shot import check_tasks, zero_shot_scores
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Score


def check_exams(settings: EvaluateConfig) -> None:
    """Refuse exams that cannot be held, before anything is trained.

    Raises:
        ConfigError: a task or text that is not known, or a harness that is not installed.
        DataError: the text is missing, empty or broken.
    """
    check_tasks(settings)
    if settings.text is not None:
        read_test_text(text_corpus(settings))


def text_corpus(settings: EvaluateConfig) -> CorpusConfig:
    """Return where the text of `evaluate.text` is.

    Raises:
        ConfigError: there is no such corpus, or it is none of running text.
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
    path = [] if settings.text_path is None else [f"path={settings.text_path}"]
    if name == "text" and not path:
        raise ConfigError("evaluate.text_path is missing: evaluate.text=text wants evaluate.text_path=FILE.")
    return load_group("corpus", name, CorpusConfig, path)


def hold_exams(model: Any, tokenizer: Any, config: Config, run: RunDir) -> None:
    """Examine a model in all that is asked for and not in its record yet, and put the scores there.

    Args:
        model: As it answers questions: merged, or with its adapter beside it.
        tokenizer: Its own.
        config: The experiment.
        run: Its folder.
    """
    record = run.read()
    held = {} if record is None else record.zero_shot
    settings, text = config.evaluate, f"{config.evaluate.text}/{METRIC}"
    if settings.zero_shot and held.keys() <= {text}:
        held = held | zero_shot_scores(model, tokenizer, settings)
        run.update(zero_shot=held)
    if settings.text is not None and text not in held:
        run.update(zero_shot=held | {text: text_perplexity(model, tokenizer, config)})


def text_perplexity(model: Any, tokenizer: Any, config: Config) -> Score:
    """Return the perplexity of the test part of `evaluate.text`, in blocks as running text is examined in.

    Raises:
        DataError: the text is a single token.
        RunError: it has no perplexity, for the model gives no numbers.
    """
    from medqa_finetune.data.blocks import BlockEncoder
    from medqa_finetune.evaluation.blocks import batches_of
    from medqa_finetune.evaluation.likelihood import reference_likelihoods

    settings, length = config.evaluate, config.train.max_length
    corpus = text_corpus(settings)
    text = read_test_text(corpus)
    blocks = [*BlockEncoder(tokenizer, length, settings.stride).encode(text)][: settings.max_samples]
    if not blocks:
        raise DataError(f"evaluate.text={settings.text}: the test part is a single token; more text is wanted.")
    model.eval()
    rows: list[dict[str, Any]] = []
    for batch in tqdm([*batches_of(blocks, settings)], desc=corpus.name, unit="batch", disable=None, leave=False):
        found = reference_likelihoods(model, [blocks[number] for number in batch], settings.batch_tokens)
        rows += [
            {"id": number, "nll": nll, "tokens": tokens} for number, (nll, tokens) in zip(batch, found, strict=True)
        ]
    signature = text_signature(length, settings.stride, corpus.separator)
    signature += f"|text_sha256:{text.sha256[:16]}|n:{len(blocks)}"
    return score_blocks(rows, signature, Path(corpus.name))[0].scores[METRIC]
