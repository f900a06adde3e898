"""Writes model files of full size whose weights are sparse (empty on disk)."""

import json
from pathlib import Path
from typing import Any

import torch

from medqa_finetune.architecture.size import ModelSize, read_size


def size_of(folder: Path) -> ModelSize:
    size = read_size(folder)
    assert size is not None
    return size


def write_shapes(folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write a model of given shapes; its weight file has the real size, but is sparse."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder
