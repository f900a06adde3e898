"""Run folders as commit 0e93203 left them, the last one before schema version 2; `runs_of_version_1.tar.xz`.

They were made from a clone of that commit by the real command, in this order; the last two were killed (`kill -9`) in
training, after step 10, and in answering, after the third question:

    S="profile=demo data.scale=0.001 data.validation_size=4000 method.rank=1 method.target_modules=[q_proj]
       train.checkpoint_steps=2 tracker=none threads=1"
    python -m medqa_finetune.train $S data.test_size=4000 train.max_steps=6 evaluate.max_new_tokens=8
    … method=none
    … method=retrieval
    python -m medqa_finetune.train $S data.test_size=4000 seed=2 train.epochs=60 evaluate.max_new_tokens=8
    python -m medqa_finetune.train $S data.test_size=8000 seed=3 train.max_steps=6 evaluate.max_new_tokens=128
       evaluate.batch_size=1 evaluate.max_samples=6

`profile=demo` was what `PROFILE` is now, and the model that ships has been trained anew since.

Left out of the archive: checkpoints of finished trainings, and the plot of the last one.
"""

import json
import tarfile
from pathlib import Path

from medqa_finetune.config.identity import RESULTS_VERSION
from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.model.locate import fingerprint_model, locate_model
from medqa_finetune.record.environment import installed_versions
from medqa_finetune.record.run_dir import RunDir

ARCHIVE = Path(__file__).with_name("runs_of_version_1.tar.xz")
PROFILE = """# @package _global_
defaults:
  - override /model: tiny
  - override /corpus: embedded

study: demo
data:
  scale: 0.01
  validation_size: 10000
  test_size: 10000
method:
  dropout: 0.0
train:
  epochs: 2.0
  learning_rate: 2.0e-3
  max_length: 256
  batch_size: 8
  micro_batch: 8
  gradient_checkpointing: false
  logging_steps: 5
evaluate:
  max_new_tokens: 128
"""
COMMON = (
    "--config-dir", "conf_of_then", "profile=demo_of_then", "data.scale=0.001", "data.validation_size=4000",
    "method.rank=1", "method.target_modules=[q_proj]", "train.checkpoint_steps=2", "tracker=none", "threads=1",
)  # fmt: skip
DONE = (*COMMON, "data.test_size=4000", "train.max_steps=6", "evaluate.max_new_tokens=8")
IN_TRAINING = (*COMMON, "data.test_size=4000", "seed=2", "train.epochs=60", "evaluate.max_new_tokens=8")
IN_ANSWERING = (
    *COMMON, "data.test_size=8000", "seed=3", "train.max_steps=6", "evaluate.max_new_tokens=128",
    "evaluate.batch_size=1", "evaluate.max_samples=6",
)  # fmt: skip


def unpack(folder: Path) -> Path:
    """Write the run folders to `folder/outputs/demo`, and return that."""
    demo = folder / "outputs" / "demo"
    demo.mkdir(parents=True)
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.0 to 3.11.3 have no filters; the attribute is what the documentation gives for all versions.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _folder: member)
        archive.extractall(demo)  # noqa: S202 — our own archive
    (folder / "conf_of_then" / "profile").mkdir(parents=True)
    (folder / "conf_of_then" / "profile" / "demo_of_then.yaml").write_text(PROFILE, encoding="utf-8")
    for run in demo.iterdir():
        _with_versions_of_here(run / "record.json")
    return demo


def _with_versions_of_here(path: Path) -> None:
    """Let the run have been started with the packages, schedules and model of here; others would be refused."""
    record = json.loads(path.read_bytes())
    record["config"]["results_version"] = RESULTS_VERSION
    record["config"]["corpus"]["system"] = "auto"  # called null in that version
    record["config"]["model"]["fingerprint"] = fingerprint_model(
        locate_model(ModelConfig("tiny", path="embedded:tiny"))
    )
    record["environment"]["versions"] = installed_versions()
    path.write_text(json.dumps(record), encoding="utf-8")


def run_of(demo: Path, beginning: str) -> RunDir:
    """Return the run whose folder's name begins so."""
    (found,) = (path for path in demo.iterdir() if path.is_dir() and path.name.startswith(beginning))
    return RunDir(found)
