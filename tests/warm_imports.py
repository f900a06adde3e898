"""Imports what commands import before `tests/warm.py` forks; computes nothing and starts no thread."""

import gc
import importlib
from pathlib import Path

LIBRARIES = (
    "torch",
    "transformers.trainer",
    "transformers.models.qwen2.modeling_qwen2",
    "peft",
    "bitsandbytes",
    "datasets",
    "pandas",
    "seaborn",
    "matplotlib.backends.backend_agg",
    "sacrebleu",
    "torch.utils.tensorboard",
    "hydra.main",
    "hydra._internal.core_plugins.basic_sweeper",
    "hydra._internal.core_plugins.basic_launcher",
)
ROOT = Path(__file__).parents[1]

for name in LIBRARIES:
    importlib.import_module(name)
for path in sorted((ROOT / "medqa_finetune").rglob("*.py")):
    if path.name != "__init__.py":
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
# Garbage collection in a fork would copy memory page by page.
gc.collect()
gc.freeze()
