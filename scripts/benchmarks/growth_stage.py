"""Measures one stage on one corpus in this process: `python -m scripts.benchmarks.growth_stage`."""

import argparse
import json
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.prepare import Prepared, prepare, take_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.data.token_sets import encode_once

if TYPE_CHECKING:
    from medqa_finetune.data.encode import Encoder

HELD_OUT = SplitRules(test_size=200, validation_size=200, split_seed=0, near_duplicate_threshold=0.8)
SAMPLING_SECONDS = 0.02


class PeakMemory:
    """Peak memory of this process while the block runs, in bytes.

    Attributes:
        private: Anonymous memory, sampled 50 times a second.
        resident: Resident memory as counted by the kernel: includes mapped files, which the system can reclaim, and
            memory from before the block.
    """

    def __init__(self) -> None:
        self.private = self.resident = 0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._sampler.join()
        self.resident = status_bytes("VmHWM")

    def _sample(self) -> None:
        while True:
            self.private = max(self.private, status_bytes("RssAnon"))
            if self._done.wait(SAMPLING_SECONDS):
                return


def status_bytes(name: str) -> int:
    """Return a field of this process's /proc status, in bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {name}; measurements of memory want Linux")
    return int(found[1]) * 1024


def prepare_corpus(path: Path, cache: Path) -> Prepared:
    """Prepare a JSON Lines file of examples, as training does first."""
    corpus = CorpusConfig(name=path.stem, source="file", path=str(path), format="jsonl")
    return prepare(corpus, HELD_OUT, cache)


def prepare_and_count(path: Path, cache: Path) -> int:
    """Prepare a corpus, and return the number of training examples."""
    return len(prepare_corpus(path, cache).pool)


def load_encoder(tokenizer: Path) -> "Encoder":
    """Load a tokenizer; not timed, since it does not depend on the number of examples."""
    from transformers import AutoTokenizer

    from medqa_finetune.data.encode import Encoder

    return Encoder(AutoTokenizer.from_pretrained(tokenizer, local_files_only=True), 1024)


def encode_set(prepared: Prepared, pairs: int, encoder: "Encoder") -> int:
    """Encode the training set, as training does before its first step; return its number of tokens."""
    return encode_once(encoder, take_splits(prepared, pairs).train, prepared.folder).tokens


def main() -> None:
    """Run one stage, and print one line of JSON: seconds, peak memory and amount of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("prepare", "setup"))
    parser.add_argument("corpus", type=Path, help="JSON Lines file of pairs")
    parser.add_argument("cache", type=Path, help="folder for prepared corpora; for `setup`, prepared before")
    parser.add_argument("--pairs", type=int, default=0, help="training pairs, for `setup`")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, for `setup`")
    options = parser.parse_args()
    work: Callable[[], int] = partial(prepare_and_count, options.corpus, options.cache)
    if options.stage == "setup":
        prepared, encoder = prepare_corpus(options.corpus, options.cache), load_encoder(options.tokenizer)
        work = partial(encode_set, prepared, options.pairs, encoder)
    with PeakMemory() as memory:
        began, began_cpu = time.perf_counter(), time.process_time()
        done = work()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    memories = {"private_bytes": memory.private, "resident_bytes": memory.resident}
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **memories, "done": done}))


if __name__ == "__main__":
    main()
