"""Converts Python API arguments to choices of configuration groups and files that these can name."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.config.groups import load_group, option_names
from medqa_finetune.config.schema import CorpusConfig, MethodConfig
from medqa_finetune.data.corpus import read_examples
from medqa_finetune.data.examples import Example
from medqa_finetune.data.readers import format_of
from medqa_finetune.data.rows import Ledger
from medqa_finetune.errors import ConfigError, DataError, Fault, ModelError
from medqa_finetune.model.locate import fingerprint_model
from medqa_finetune.record.files import sha256_of_text, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# An option of a configuration group, and the values set in it.
Choice = tuple[str, dict[str, Any]]
# One example in this many is held out for each of validation and test, up to a maximum.
HELD_OUT_SHARE = 10
HELD_OUT_MOST = 1000


def choose_method(method: str | MethodConfig | Mapping[str, Any]) -> Choice:
    """Return the choice of `method`: a name in `conf/method`, or one with settings, `{"name": "lora", "rank": 64}`."""
    if isinstance(method, str):
        return method, {}
    values = asdict(method) if isinstance(method, MethodConfig) else dict(method)
    name = str(values.pop("name", "lora"))
    if name in option_names("method"):
        return name, values
    # A name of the user's own: the settings override those of `lora`.
    return "lora", {"name": name, **values}


def choose_model(
    model: "str | Path | PreTrainedModel", tokenizer: "PreTrainedTokenizerBase | None", cache: Path
) -> Choice:
    """Return the choice of `model`: a name in `conf/model`, a folder, or a model in memory, which is saved first.

    Raises:
        ModelError: a model in memory has no tokenizer, is quantized, or has adapters.
    """
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise ModelError(Fault("conflict", "is for a model in memory; a folder has its own", key="tokenizer"))
        is_named = isinstance(model, str) and model in option_names("model") and model != "local"
        return (str(model), {}) if is_named else ("local", {"path": str(model)})
    return "local", {"path": str(save_model(model, tokenizer, cache))}


def check_in_memory(model: Any, tokenizer: Any) -> None:
    """Check that a model in memory can be used as a base model.

    Raises:
        ModelError: it is not a transformers model, is quantized, has adapters, or comes without tokenizer.
    """
    from medqa_finetune.compat.peft import adapters
    from medqa_finetune.compat.transformers import is_quantized

    if not hasattr(model, "save_pretrained") or not hasattr(model, "get_input_embeddings"):
        problem = "must be a name, a folder or a model of transformers"
        raise ModelError(Fault("wrong-type", problem, key="model", got=type(model).__name__))
    if tokenizer is None:
        hint = "A model in memory needs its tokenizer: give tokenizer=."
        raise ModelError(Fault("missing-key", "is missing", key="tokenizer", hint=hint))
    if adapters(model):
        hint = "Give a base model, or model.merge_and_unload()."
        raise ModelError(Fault("has-adapters", "must have no adapters", key="model", hint=hint))
    if is_quantized(model):
        hint = "Give it unquantized; method='qlora' quantizes it."
        raise ModelError(Fault("quantized", "must not be quantized", key="model", hint=hint))


def save_model(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase | None", cache: Path) -> Path:
    """Save a model in memory in a folder named after its fingerprint, and return the folder.

    Raises:
        ModelError: it cannot be used as a base model.
    """
    check_in_memory(model, tokenizer)
    with _written(cache):
        return _save(model, tokenizer, cache)


def _save(model: Any, tokenizer: Any, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache, prefix=".writing-model-"))
    try:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        folder = cache / f"model-{fingerprint_model(fresh)[:16]}" / str(model.config.model_type)
        if not folder.is_dir():
            folder.parent.mkdir(exist_ok=True)
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


@contextmanager
def _written(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"cannot be written ({error})"
        hint = "Give another folder as outputs."
        raise ConfigError(Fault("not-writable", problem, key="outputs", got=str(cache.parent), hint=hint)) from None


def choose_corpus(pairs: Any, cache: Path) -> Choice:
    """Return the choice of `corpus`: a name in `conf/corpus`, a file, or examples in memory, which are written to one.

    Raises:
        DataError: an element is not an example.
    """
    if isinstance(pairs, str) and pairs in option_names("corpus") and not Path(pairs).exists():
        return pairs, {}
    if isinstance(pairs, str | Path):
        known = format_of(Path(pairs).name)
        named = known if known in option_names("corpus") else None
        return named or "jsonl", {"path": str(pairs)} | ({} if named else {"format": "auto"})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(pairs))
    path = cache / f"pairs-{sha256_of_text(text)[:16]}" / "pairs.jsonl"
    with _written(cache):
        if not path.is_file():
            write_text(path, text)
    return "jsonl", {"path": str(path)}


def rows_of(pairs: Iterable[Any]) -> list[dict[str, Any]]:
    """Return examples in memory as rows of a corpus; those without an id are numbered.

    Raises:
        DataError: an element is not an example, or there are none.
    """
    if not isinstance(pairs, Iterable):
        raise DataError(
            Fault("wrong-type", "must be a name, a file, or (question, answer) pairs", key="pairs", got=pairs)
        )
    rows = []
    for number, pair in enumerate(pairs):
        values: Any = asdict(pair) if isinstance(pair, Example) else pair
        if isinstance(values, tuple | list) and len(values) == 2:
            values = {"question": values[0], "answer": values[1]}
        texts = [values.get(key) for key in ("question", "answer")] if isinstance(values, Mapping) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            problem = 'must be (question, answer) or {"question": TEXT, "answer": TEXT}'
            raise DataError(Fault("not-a-pair", problem, key=f"pairs[{number}]", got=pair))
        rows.append({"id": str(number), **values})
    if not rows:
        raise DataError(Fault("empty", "must have at least one", key="pairs"))
    return rows


def read_given(pairs: Any, cache: Path) -> list[Example]:
    """Return the examples of a corpus, a file or a list, cleaned as in training.

    Raises:
        DataError: they cannot be used.
    """
    name, values = choose_corpus(pairs, cache)
    corpus = load_group("corpus", name, CorpusConfig, [f"{key}={value}" for key, value in values.items()])
    return list(read_examples(corpus, Ledger()))


def held_out(corpus: CorpusConfig) -> int:
    """Return how many examples of a file are held out for each of validation and test: a tenth, 1,000 at most.

    Raises:
        DataError: the file cannot be used, or has too few examples.
    """
    n = sum(1 for _ in read_examples(corpus, Ledger()))
    if n < 3:
        problem = f"only {n} pairs can be used; at least 3 are needed, to train, validate and test"
        raise DataError(Fault("too-few", problem, key="pairs", file=corpus.path))
    return min(HELD_OUT_MOST, max(1, n // HELD_OUT_SHARE))
