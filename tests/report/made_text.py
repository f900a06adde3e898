"""Run folders of made-up runs over running text: likelihoods of blocks, really scored, by no model."""

import hashlib
from pathlib import Path

import numpy as np

from medqa_finetune.evaluation.score import item_scores
from medqa_finetune.evaluation.text_perplexity import score_blocks, text_signature
from medqa_finetune.record.run_dir import RunDir
from scripts.benchmarks.made_runs import MadeRun, record_of
from tests.evaluations import default_of, write_default

BLOCKS, LENGTH = 60, 128
SIGNATURE = text_signature(LENGTH, None, "\n\n")


def write_text_run(root: Path, run: MadeRun, nats: float, corpus: str = "book", signature: str = SIGNATURE) -> RunDir:
    """Write the folder of a run to which a token is `nats` unlikely on average; the last block is a short one."""
    folder = RunDir(root / run.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    hard = np.random.default_rng(1).normal(0, 0.2, BLOCKS)
    own = np.random.default_rng(int.from_bytes(hashlib.sha256(run.name.encode()).digest()[:8])).normal(0, 0.02, BLOCKS)
    tokens = [LENGTH - 1] * (BLOCKS - 1) + [17]
    rows = [
        {"id": f"block-{at}", "nll": float(tokens[at] * (nats + hard[at] + own[at])), "tokens": tokens[at]}
        for at in range(BLOCKS)
    ]
    evaluation = default_of(folder)
    evaluation.append_predictions(rows)
    path = evaluation.predictions_path
    scored, items = score_blocks(rows, signature, path)
    evaluation.write_item_scores(item_scores(items, hashlib.sha256(path.read_bytes()).hexdigest()))
    record = record_of(run, scored)
    corpus_settings = {"name": corpus, "task": "text", "sha256": "d" * 64, "separator": "\n\n"}
    train = record.config["train"] | {"max_length": LENGTH}
    settings = record.config | {"corpus": corpus_settings, "train": train}
    write_default(folder, folder.write(record.updated(config=settings)))
    return folder


def text_matrix(root: Path, corpus: str = "book") -> list[RunDir]:
    """Write the untuned base and two methods of three sizes; the more data, the lower, and LoRA a little lower."""
    folders = [write_text_run(root, MadeRun("none", 20_000), 4.0, corpus)]
    for method, more in (("lora", 0.0), ("qlora", 0.1)):
        for place, size in enumerate((20_000, 50_000, 100_000)):
            folders.append(write_text_run(root, MadeRun(method, size), 3.0 - 0.2 * place + more, corpus))
    return folders
