"""Imports what commands import, once, before `tests/warm.py` forks; nothing is computed and no thread is started."""

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
# What is collected in a fork is copied page by page.
gc.collect()
gc.freeze()
