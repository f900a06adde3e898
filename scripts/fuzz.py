"""Mutate valid files at random and pass them to all of the project's file readers, for a given time.

    python scripts/fuzz.py --minutes 10 --seed 0 [--only records] [--keep FOLDER]

Every reader gets the same share of the time. Prints the number of inputs of each reader, and every input that fails:
an exception other than the project's, an example that is not clean, a non-finite figure, or more than `SLOW_SECONDS`.
Those are saved as files.
"""

import argparse
import gzip
import hashlib
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.architecture.files import INDEX, SINGLE, read_config, read_tensors  # noqa: E402
from medqa_finetune.config.command_line import BAD_PATH, quoted  # noqa: E402
from medqa_finetune.config.command_options import parse_options  # noqa: E402
from medqa_finetune.data.prepare import cache_fault  # noqa: E402
from medqa_finetune.errors import MedQAError  # noqa: E402
from medqa_finetune.evaluate import EvaluateOptions  # noqa: E402
from medqa_finetune.log import log_to_terminal, shown  # noqa: E402
from medqa_finetune.record.schema import FileStamp  # noqa: E402
from medqa_finetune.training.checkpoints import Manifest  # noqa: E402
from scripts.reader_checks import (  # noqa: E402
    check_answers,
    check_lines,
    check_manifest,
    check_message,
    check_reading,
    check_record,
    made_records,
)

GOOD = {"question": "感冒了怎么办？", "answer": "多喝水，多休息。"}
SLOW_SECONDS = 5.0
TINY = ROOT / "medqa_finetune" / "model" / "tiny"
TOKENS = [
    b"\0", b"\n", b"\r", b"\r\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"1e999",
    b"-1", b"9" * 5000, b"[" * 3000, b"\\ud83d", b"\xed\xa0\xbd", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf",
    "\u2028".encode(),
    b"\x1b[31m", b"<|im_end|>", b"&lt;", b"=1+1", b"../", b"${oc.env:X}", b"!!python/object",
    "怎么办".encode("gb18030"),
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A reader of files.

    Attributes:
        seeds: Good content to begin with, by file name.
        check: Takes a folder and the file in it; raises if the reader misbehaves.
    """

    seeds: dict[str, bytes]
    check: Callable[[Path, Path], None]


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return content with one to four changes, some of them taken from another file."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(found) + 1)
        end = min(len(found), place + rng.choice((1, 2, 8, 64, 1000)))
        kind = rng.randrange(7)
        if kind == 0 and found:
            found[place % len(found)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place:place] = rng.choice(TOKENS)
        elif kind == 2:
            found[place:end] = rng.choice(TOKENS)
        elif kind == 3:
            del found[place:end]
        elif kind == 4:
            del found[place:]
        elif kind == 5:
            found[place:place] = found[place:end] * rng.choice((1, 2, 50))
        else:
            start = rng.randrange(len(other) + 1)
            found[place:place] = other[start : start + rng.choice((4, 64, 1000))]
    return bytes(found)


def corpora() -> dict[str, bytes]:
    """Return a small corpus in every format and compression."""
    rows = [GOOD | {"id": str(n), "score": n / 3, "tags": ["a", None], "turns": [{"value": "x"}]} for n in range(8)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    table = 'question,answer,id\n"头痛\n怎么办","多""休息",1\n感冒怎么办,多喝水,2\n'.encode()
    buffer = io.BytesIO()
    pq.write_table(pa.table({key: [str(row[key]) for row in rows] for key in ("question", "answer", "id")}), buffer)
    array = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    return {
        "a.jsonl": lines, "a.json": array, "a.csv": table, "a.parquet": buffer.getvalue(),
        "b.jsonl": json.dumps(GOOD, ensure_ascii=False).encode(),
        "a.jsonl.gz": gzip.compress(lines), "a.csv.gz": gzip.compress(table), "a.json.zst": zstandard.compress(array),
    }  # fmt: skip


def check_corpus(folder: Path, path: Path) -> None:
    """Read a corpus file, strictly and leniently."""
    check_reading(path, id="id")
    check_reading(path, question=["question", "turns.0.value"], empty_values=["无"], max_reject_share=1.0)


def answers() -> dict[str, bytes]:
    """Return files of predictions."""
    row = {"id": "a", "question": "头痛", "reference": "多休息。", "prediction": "休息。", "hit_limit": False,
           "prediction_tokens": 3, "reference_nll": 12.5, "reference_tokens": 4}  # fmt: skip
    rows = [row, {"id": "b", "refs": ["甲", "乙"], "hyp": "乙"}]
    return {"predictions.jsonl": "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows).encode()}


def progress_lines() -> dict[str, bytes]:
    """Return progress files of a run."""
    rows = [
        {"step": 1, "steps": 9, "loss": 2.5, "tokens_per_second": 100.0},
        {"answered": 4, "questions": 9, "seconds": 1.5},
    ]
    return {"metrics.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)}


def check_cache(folder: Path, path: Path) -> None:
    """Look whether a prepared corpus is whole."""
    fault = cache_fault(folder, "key")
    assert fault is None or (fault.line().encode() and len(fault.line()) < 300)


def check_model(folder: Path, path: Path) -> None:
    """Read what a model's folder says of itself."""
    for reader in (read_config, read_tensors):
        try:
            reader(folder)
        except MedQAError as error:
            check_message(error)


def check_typed(folder: Path, path: Path) -> None:
    """Pass a file's content as command-line input; systems do not allow zero bytes there."""
    text = path.read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape")
    quoted(text)
    try:
        parse_options(EvaluateOptions, text.split(" "))
    except MedQAError:
        return  # a message may repeat what was typed, at any length
    except OSError as error:
        if error.errno not in BAD_PATH:  # which `run_command` explains
            raise


def targets() -> dict[str, Target]:
    """Return every reader with its good files."""
    records = {
        f"{n}.json": json.dumps(asdict(each), ensure_ascii=False, indent=2).encode()
        for n, each in enumerate(made_records())
    }
    checkpoint = json.dumps(asdict(Manifest(7, "run", 5, {"a": FileStamp(3, "f" * 64)}))).encode()
    stamp = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
    cached = {"key": "key", "files": {f"{name}.arrow": stamp for name in ("pool", "validation", "test")}}
    index = {"weight_map": {"a": "model.safetensors", "b": "../model.safetensors"}}
    weights = (TINY / "model.safetensors").read_bytes()[:8000]
    config = (TINY / "config.json").read_bytes()
    typed = [b"run=outputs/a format=json items=true", b"predictions=a.jsonl metrics=[rouge,bleu] output=null"]
    return {
        "corpora": Target(corpora(), check_corpus),
        "answers": Target(answers(), lambda folder, path: check_answers(path, path.read_bytes())),
        "records": Target(records, lambda folder, path: check_record(folder, path.read_bytes(), refused_too=False)),
        "progress": Target(progress_lines(), lambda folder, path: check_lines(folder, path.read_bytes())),
        "checkpoints": Target({"m": checkpoint}, lambda folder, path: check_manifest(folder, path.read_bytes())),
        "caches": Target({"manifest.json": json.dumps(cached).encode()}, check_cache),
        "models": Target(
            {SINGLE: weights, "config.json": config, INDEX: json.dumps(index).encode()}, check_model
        ),
        "arguments": Target({str(n): each for n, each in enumerate(typed)}, check_typed),
    }  # fmt: skip


def tried(target: Target, name: str, content: bytes) -> str | None:
    """Pass a file to a reader; return the error, or None."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / name).write_bytes(content)
        start = time.process_time()  # of this process alone, however busy the machine is
        try:
            target.check(folder, folder / name)
        except Exception:
            return shown(traceback.format_exc().replace(temporary, "…"))
        seconds = time.process_time() - start
    return f"took {seconds:.1f} s" if seconds > SLOW_SECONDS else None


def main(arguments: Sequence[str]) -> int:
    """Fuzz, and return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=sorted(targets()), default=[])
    parser.add_argument("--keep", type=Path, default=Path("findings"))
    options = parser.parse_args(arguments)
    chosen = {name: target for name, target in targets().items() if not options.only or name in options.only}
    # One each, so that the n-th input of a reader is the same whatever the others take.
    dice = {kind: random.Random(f"{options.seed} {kind}") for kind in chosen}  # noqa: S311 - not a secret
    inputs, seconds = Counter[str](), dict.fromkeys(chosen, 0.0)
    found: dict[tuple[str, str], str] = {}
    while sum(seconds.values()) < 60 * options.minutes:
        kind = min(seconds, key=seconds.__getitem__)
        start, target = time.monotonic(), chosen[kind]
        name = dice[kind].choice(sorted(target.seeds))
        content = mutated(target.seeds[name], dice[kind].choice(list(target.seeds.values())), dice[kind])
        if (fault := tried(target, name, content)) and found.setdefault((kind, last_place(fault)), fault) is fault:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{kind}-{len(found)}-{name}").write_bytes(content)
            print(f"--- {kind}, kept as {kind}-{len(found)}-{name}\n{fault}", flush=True)
        inputs[kind] += 1
        seconds[kind] += time.monotonic() - start
    for kind, n in inputs.items():
        print(f"{n:>9,} inputs  {sum(key[0] == kind for key in found):>3} findings  {kind}")
    return 1 if found else 0


def last_place(fault: str) -> str:
    """Return the identity of a finding: where it was raised, and its type."""
    places = [line for line in fault.splitlines() if line.startswith('  File "')]
    return f"{places[-1] if places else ''} {fault.splitlines()[-1].partition(':')[0]}"


if __name__ == "__main__":
    log_to_terminal()
    sys.exit(main(sys.argv[1:]))
