"""Imports what commands import before `tests/warm.py` forks, and does once what each would do anew; starts no thread.

Done once are the schema's registration, the tables that Hydra's grammar fills while it parses, and the measurement of
matrix products: a process keeps all three, they depend on nothing that a test gives, and `tests/model/test_rates.py`
measures by itself.
"""

import gc
import importlib
from pathlib import Path

import torch

LIBRARIES = (
    "torch",
    "torch.utils.serialization.config",
    "torch.utils.tensorboard",
    "transformers.trainer",
    "transformers.integrations.bitsandbytes",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen2.tokenization_qwen2",
    "peft",
    "peft.tuners.lora.bnb",
    "peft.utils.transformers_weight_conversion",
    "bitsandbytes",
    "datasets",
    "pandas",
    "seaborn",
    "matplotlib.backends.backend_agg",
    "PIL.JpegImagePlugin",
    "rouge_score.rouge_scorer",
    "sacrebleu",
    "sacrebleu.tokenizers.tokenizer_zh",
    "packaging.requirements",
    "omegaconf._impl",
    "hydra.main",
    "hydra._internal.core_plugins.basic_sweeper",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.file_config_source",
)
ROOT = Path(__file__).parents[1]
OVERRIDES = (
    "group=name", "a.b=1", "+a.b=0.5", "~a=null", "++a='b c',\"d\"", "a=[b,'c d',1]", "a={b:c,d:1}", "a=true,-1",
    "a=range(1,4)", "a=choice(b,c)", "a=${b.c}", "a=${oc.env:B}", "a=b/c.d", "a=",
)  # fmt: skip


def _fill_grammar_tables() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    OverridesParser.create().parse_overrides(list(OVERRIDES))
    OmegaConf.create({"a": "${b}/c_${d.e}", "b": 1, "d": {"e": "x"}}).a  # noqa: B018


# There is no garbage to find while everything is imported.
gc.disable()
for name in LIBRARIES:
    importlib.import_module(name)
for path in sorted((ROOT / "medqa_finetune").rglob("*.py")):
    if path.name != "__init__.py":
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
_fill_grammar_tables()
importlib.import_module("medqa_finetune.config.compose").register_schema()
# With one thread: a fork cannot use a pool of OpenMP threads that its parent has started, and waits for it forever.
threads = torch.get_num_threads()
torch.set_num_threads(1)
importlib.import_module("medqa_finetune.model.rates").measure_matrix_rate("cpu", "fp32")
torch.set_num_threads(threads)
# Garbage collection in a fork would copy memory page by page.
gc.collect()
gc.freeze()
gc.enable()
