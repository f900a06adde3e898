"""The parts that a corpus was published in: which files are training, validation and test data, by their names."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.corpus import corpus_files, where
from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

File = tuple[Path, str]

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
# Words in names of files and folders that indicate a part: `wiki.valid.raw`, `test-00000-of-00001.parquet`, `dev/`.
PART_OF_WORD = {
    **dict.fromkeys(("train", "training", "trainset"), TRAIN),
    **dict.fromkeys(("valid", "validation", "validate", "val", "valset"), VALIDATION),
    **dict.fromkeys(("dev", "devset", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "testing", "testset", "holdout", "heldout"), TEST),
}
# The same in Chinese, which has no spaces between words.
PART_OF_CHINESE = {"训练": TRAIN, "验证": VALIDATION, "开发集": VALIDATION, "测试": TEST}
# `train-00000-of-00002` is a part by its whole name, `blood_test` by a word of it.
NUMBERING = ("of",)
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
NAMES_SHOWN = 6


def part_of(name: str) -> str | None:
    """Return the part of a corpus that a file's relative name indicates, one of `PARTS`, or None.

    A name that is a part as a whole (`train/`, `test-00000-of-00001.parquet`) comes before one with a word for a part
    (`blood_test.jsonl`), the file's name before its folders' names.
    """
    path = PurePosixPath(name)
    levels = [_words(path.name.partition(".")[0]), *(_words(folder) for folder in reversed(path.parts[:-1]))]
    for words in levels:
        if words and all(word in PART_OF_WORD or word in NUMBERING for word in words) and (found := _one_part(words)):
            return found
    return next((part for words in (_words(path.name), *levels[1:]) if (part := _one_part(words))), None)


def _words(name: str) -> list[str]:
    return [*(word.lower() for word in WORD.findall(name)), *(word for word in PART_OF_CHINESE if word in name)]


def _one_part(words: Iterable[str]) -> str | None:
    known = PART_OF_WORD | PART_OF_CHINESE
    found = {known[word] for word in words if word in known}
    return found.pop() if len(found) == 1 else None


def files_by_part(files: Iterable[File]) -> dict[str | None, list[File]]:
    """Return files by the part that their names indicate; None for those without a part."""
    found: dict[str | None, list[File]] = {}
    for path, name in files:
        found.setdefault(part_of(name), []).append((path, name))
    return found


def published_parts(corpus: CorpusConfig) -> dict[str, list[str]]:
    """Return the names of the files of each part that a corpus of examples keeps, in the order of `PARTS`.

    A corpus of several files keeps its parts where files of the training part and of a held-out part are found. Empty
    where there are none to keep, or `corpus.parts` says so: the corpus is divided here.

    Raises:
        DataError: some files have no part, or `corpus.parts=published` finds no parts to keep.
    """
    if corpus.source == "embedded" and corpus.parts == "published":
        return {part: [part] for part in PARTS}
    if corpus.source == "embedded" or corpus.parts == "ignore":
        return {}
    files = corpus_files(corpus)
    found: dict[str | None, list[File]] = files_by_part(files) if len(files) > 1 else {None: files}
    named = {part: found[part] for part in PARTS if part in found}
    if corpus.parts == "published" and None in found and TRAIN not in named:
        # `CMtMedQA.json` with `CMtMedQA_test.json`: what is not held out is trained on.
        named = {TRAIN: found[None], **named}
    if TRAIN in named and len(named) > 1:
        if None in found and TRAIN in found:
            raise DataError(_unclear(corpus, found))
        return {part: [name for _, name in there] for part, there in named.items()}
    if corpus.parts == "published":
        raise DataError(_nothing_to_keep(corpus, found))
    return {}


def division_of(corpus: CorpusConfig) -> str | None:
    """Return what `corpus.parts` comes to where the sets are others than before that setting existed, else None."""
    if corpus.task == "qa":
        return "published" if published_parts(corpus) else None
    if corpus.parts != "ignore" or len(files := corpus_files(corpus)) == 1:
        return None
    return "ignored" if files_by_part(files).keys() - {None} else None


def say_unkept(corpus: CorpusConfig) -> None:
    """Log where names of files indicate parts, and the corpus is divided anew."""
    if corpus.source == "embedded":
        return
    files = corpus_files(corpus)
    found = files_by_part(files)
    # A lone file of training data is what everybody has.
    if not found.keys() - {None} or (len(files) == 1 and TRAIN in found):
        return
    if corpus.parts == "ignore":
        logger.info("%s: corpus.parts=ignore divides files named after parts anew: %s", corpus.name, _listed(found))
    elif TRAIN in found:
        said = "%s: no file is named validation or test; all are put together and divided here: %s"
        logger.info(said, corpus.name, _listed(found))
    else:
        remedy = "Name the training files train"
        if None in found:
            remedy += ", or give corpus.parts=published, which trains on those without a part"
        said = "%s: no file is named train, so all are put together and divided anew, held-out ones too: %s. %s."
        logger.warning(said, corpus.name, _listed(found), remedy)


def _listed(found: dict[str | None, list[File]]) -> str:
    names = [f"{name} ({part or 'no part'})" for part, there in found.items() for _, name in there]
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _unclear(corpus: CorpusConfig, found: dict[str | None, list[File]]) -> Fault:
    without: dict[str | None, list[File]] = {None: found[None]}
    others: dict[str | None, list[File]] = {part: there for part, there in found.items() if part is not None}
    return Fault(
        "part-unclear",
        f"has files named after parts, which are kept, and others whose part is unclear: {_listed(without)}; named "
        f"are {_listed(others)}",
        key="corpus.path" if corpus.source == "file" else "corpus.files",
        file=where(corpus),
        hint="Name every file train, validation or test, give a pattern without the others (corpus.path='DIR/t*'), or "
        "give corpus.parts=ignore, which puts all together and divides them anew.",
    )


def _nothing_to_keep(corpus: CorpusConfig, found: dict[str | None, list[File]]) -> Fault:
    return Fault(
        "part-missing",
        f"needs files of a training part and of a validation or test part; found: {_listed(found)}",
        key="corpus.parts",
        got="published",
        file=where(corpus),
        hint="Give a folder with files named train and test, or leave corpus.parts out.",
    )
