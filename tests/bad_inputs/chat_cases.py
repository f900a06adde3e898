"""Bad input 36 to 40 once more, where a model is talked to."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bad_inputs.case import Case
from tests.bad_inputs.model_cases import TINY, cut_short, edited, pickled_only

ADAPTER = ("model=base", "adapter=adapter", "prompt=头痛怎么办？")


def adapter_of(base: str) -> Callable[[Path], None]:
    """Return what writes the tiny model into `base`, and a small adapter that says it was trained on another one."""

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
    """Return what writes the tiny model into `base`, with a change."""

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


def chat(number: int, what: str, arguments: tuple[str, ...], says: tuple[str, ...],
         prepare: Callable[[Path], object] = lambda folder: None) -> Case:  # fmt: skip
    """Return a case of the door `chat`."""
    return Case(number, f"chat: {what}", (*arguments, "threads=1"), says, prepare, program="chat")


CASES = [
    chat(36, "model folder missing", ("model=base", "prompt=头痛？"), ("model.path=base", "no such folder")),
    chat(36, "no run in the folder", ("run=run", "prompt=头痛？"), ("run=run: no record.json", "is wanted")),
    chat(37, "run that is not done", ("run=run", "prompt=头痛？"), ("run=run: it is failed, not done",), unfinished),
    chat(
        37, "adapter that names another base", ADAPTER,
        ("adapter=adapter", "trained on Qwen/Qwen2.5-3B-Instruct, not on base", "any_base=true"),
        adapter_of("Qwen/Qwen2.5-3B-Instruct"),
    ),
    chat(
        37, "adapter of another shape", (*ADAPTER, "any_base=true"), ("adapter: trained for another base model",),
        adapter_of("Qwen/Qwen2.5-3B-Instruct"),
    ),
    chat(39, "tokenizer without chat template", ("model=base", "prompt=头痛？"), ("base", "no chat template"),
         base_with(lambda base: (base / "chat_template.jinja").unlink())),
    chat(39, "pad token is the end token", ("model=base", "prompt=头痛？"), ("base", "pad token '<|im_end|>'"),
         base_with(edited("tokenizer_config.json", lambda config: config.update(pad_token="<|im_end|>")))),
    chat(40, "pickled weights", ("model=base", "prompt=头痛？"), ("pickled weights can run code",),
         base_with(pickled_only)),
    chat(40, "weights cut short", ("model=base", "prompt=头痛？"), ("1,000,000 bytes", "again"), base_with(cut_short)),
]  # fmt: skip
