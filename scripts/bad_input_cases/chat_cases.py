"""Bad inputs 36 to 40 for the command `chat`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.bad_input_cases.case import Case, Expected
from scripts.bad_input_cases.model_cases import CUT_SHORT, NO_ENDS, NO_PAD_TOKEN, PICKLED, TINY, cut_short, pickled_only

ADAPTER = ("model=base", "adapter=adapter", "prompt=头痛怎么办？")


def adapter_of(base: str) -> Callable[[Path], None]:
    """Return a function that writes the tiny model into `base`, and a small adapter for another base model."""

    def write(folder: Path) -> None:
        import numpy as np
        from safetensors.numpy import save_file

        shutil.copytree(TINY, folder / "base")
        (folder / "adapter").mkdir()
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}
        text = json.dumps(config | {"base_model_name_or_path": base})
        (folder / "adapter" / "adapter_config.json").write_text(text, encoding="utf-8")
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        save_file({name: np.zeros((2, 7), np.float32)}, folder / "adapter" / "adapter_model.safetensors")

    return write


def base_with(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that writes the tiny model into `base` and applies a change."""

    def write(folder: Path) -> None:
        shutil.copytree(TINY, folder / "base")
        change(folder / "base")

    return write


def unfinished(folder: Path) -> None:
    """Write the record of a run that failed."""
    record = {"schema_version": 1, "name": "lora_20k", "identity": "0", "status": "failed", "method": "lora",
              "data": "20k", "model": "tiny", "seed": 0, "config": {}}  # fmt: skip
    (folder / "run").mkdir()
    (folder / "run" / "record.json").write_text(json.dumps(record), encoding="utf-8")


def chat(number: int, what: str, arguments: tuple[str, ...], fault: Expected,
         prepare: Callable[[Path], object] = lambda folder: None) -> Case:  # fmt: skip
    return Case(number, f"chat: {what}", (*arguments, "threads=1"), (fault,), prepare, program="chat")


BASE = ("model=base", "prompt=头痛？")
CASES = [
    chat(
        36, "model folder missing", BASE,
        Expected("model-missing", "model", "base", hint="Give a folder with config.json"),
    ),
    chat(
        36, "no run in the folder", ("run=run", "prompt=头痛？"),
        Expected("not-a-run", "run", "run", names=("record.json",), hint="folder of a run"),
    ),
    chat(
        37, "run that is not done", ("run=run", "prompt=头痛？"),
        Expected("run-not-done", "run", "run", names=("failed",), hint="command that started it"), unfinished,
    ),
    chat(
        37, "adapter that names another base", ADAPTER,
        Expected(
            "other-base-model", "adapter", "adapter", names=("Qwen/Qwen2.5-3B-Instruct", "base"), hint="any_base=true"
        ),
        adapter_of("Qwen/Qwen2.5-3B-Instruct"),
    ),
    chat(
        37, "adapter of another shape", (*ADAPTER, "any_base=true"),
        Expected(
            "weights-mismatch", "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", names=("8 faults",),
            hint="another base model", file="adapter",
        ),
        adapter_of("Qwen/Qwen2.5-3B-Instruct"),
    ),
    chat(
        39, "tokenizer without chat template", BASE,
        Expected("template-missing", hint="instruction-tuned (chat) model", file="base"),
        base_with(lambda base: (base / "chat_template.jinja").unlink()),
    ),
    chat(
        39, "neither pad token nor end token", BASE, NO_PAD_TOKEN, base_with(NO_ENDS),
    ),
    chat(40, "pickled weights", BASE, PICKLED, base_with(pickled_only)),
    chat(40, "weights cut short", BASE, CUT_SHORT, base_with(cut_short)),
]  # fmt: skip
