"""Cuts running text into blocks of tokens for language modelling; the loss covers every token but the first."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, overload

from medqa_finetune.config.schema import Config
from medqa_finetune.data.corpus import corpus_sha256
from medqa_finetune.data.examples import Encoded, EncodingCounts
from medqa_finetune.data.prepare import Splits
from medqa_finetune.data.text import Text, TextParts
from medqa_finetune.data.token_sets import EncodedSet, encode_once
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.files import sha256_of_text
from medqa_finetune.record.schema import DataManifest, SetManifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Increase with every change that alters the blocks of a given text: it is part of the cache key.
BLOCKS_VERSION = 2


class Blocks(Sequence[Encoded]):
    """Blocks of tokens, of one length but for the last.

    Attributes:
        encoded: The blocks.
        stride: Tokens from the start of one block to the start of the next.
    """

    def __init__(self, encoded: EncodedSet, stride: int) -> None:
        self.encoded, self.stride = encoded, stride

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | Sequence[Encoded]:
        if isinstance(index, slice):
            return [self.encoded.encoded(place) for place in range(len(self))[index]]
        return self.encoded.encoded(index)

    @property
    def tokens(self) -> int:
        """Number of tokens of the text; those that several blocks share are counted once."""
        return (len(self) - 1) * self.stride + int(self.encoded.lengths[-1]) if len(self) else 0

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of all tokens and of where each block ends."""
        return self.encoded.sha256


class BlockEncoder:
    """Cuts running text into blocks of `max_length` tokens, each starting `stride` tokens after the previous one.

    The text is tokenized as a whole, with the special tokens that the tokenizer adds to a text, as in transformers'
    guide to perplexity. If blocks overlap, the loss is computed on the tokens that no earlier block contains, so on
    every token of the text but the first. If they do not, it is computed on all of a block but its first token, and a
    single token left over is dropped. The last block is shorter.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int, stride: int | None = None) -> None:
        """Take a stride in [1, `max_length`]; None means `max_length`: no overlap."""
        self._tokenizer = tokenizer
        self._max_length = max_length
        self.stride = max_length if stride is None else stride

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of everything that determines the blocks of a text; None for a tokenizer without a text form."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        parts = ["blocks", BLOCKS_VERSION, version("transformers"), version("tokenizers"), self._max_length]
        parts += [self.stride] if self.stride != self._max_length else []
        return sha256_of_text(json.dumps([*parts, backend.to_str()]))

    def encode(self, text: Text) -> Iterable[Encoded]:
        """Yield the blocks of a text, in order."""
        ids = self._tokenizer(text.content, return_attention_mask=False, verbose=False)["input_ids"]
        read = 0
        for begin in range(0, len(ids), self.stride):
            block = ids[begin : begin + self._max_length]
            if len(block) > 1:
                yield Encoded(block, max(1, read - begin), cut=False)
            read = begin + len(block)
            if read == len(ids):
                return

    def report(self, counts: EncodingCounts) -> None:
        """Do nothing: no token of a text is cut."""


class Ready:
    """An encoder that returns blocks that are already encoded."""

    def encode(self, blocks: Iterable[Encoded]) -> Iterable[Encoded]:
        """Return the blocks unchanged."""
        return iter(blocks)


def prepare_blocks(
    config: Config, parts: TextParts, tokenizer: "PreTrainedTokenizerBase", cache: Path
) -> Splits[Blocks]:
    """Return an experiment's training, validation and test blocks.

    Args:
        config: The experiment; `data.train_size` counts training blocks, the held-out parts are used whole.
        parts: The text.
        tokenizer: The model's tokenizer.
        cache: Folder of encoded sets.

    Raises:
        DataError: the text makes fewer blocks than `data.train_size`, or none.
    """
    encoder, size = BlockEncoder(tokenizer, config.train.max_length), config.train_size
    train = EncodedSet(()) if size == 0 else encode_once(encoder, parts.train, cache)
    if size is not None and len(train) < size:
        raise DataError(
            Fault(
                "corpus-too-small",
                f"is more, after scaling, than the {len(train):,} training block{'s' * (len(train) != 1)} of "
                f"train.max_length={config.train.max_length} tokens that the text makes",
                key="data.train_size",
                got=size,
                hint=f"Ask for {len(train):,} or less with a smaller data.train_size= or data.scale=, or for all of "
                "them with data=all.",
            )
        )
    train = train if size is None else train.prefix(size)
    windows = BlockEncoder(tokenizer, config.train.max_length, config.evaluate.stride)
    sets = {
        "train": Blocks(train, encoder.stride),
        "validation": Blocks(encode_once(encoder, parts.validation, cache), encoder.stride),
        "test": Blocks(encode_once(windows, parts.test, cache), windows.stride),
    }
    for name, blocks in sets.items():
        if not len(blocks) and (name, size) != ("train", 0):
            problem = f"the {name} part is a single token"
            hint = "Give a corpus with more text."
            raise DataError(Fault("corpus-too-small", problem, key="corpus", got=config.corpus.name, hint=hint))
    counts = dict(parts.counts) | {f"{name}_tokens": blocks.tokens for name, blocks in sets.items()}
    manifests = {name: SetManifest(len(blocks), blocks.sha256) for name, blocks in sets.items()}
    manifest = DataManifest(corpus_sha256(config.corpus), **manifests, counts=counts, parts=parts.files)
    return Splits(**sets, manifest=manifest)
