"""What a model's folder says of itself: `config.json` and the safetensors headers, read without loading a weight."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from medqa_finetune.errors import ModelError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Each is enough to make a tokenizer of. Without any, transformers makes an empty one and says nothing.
VOCABULARIES = ("tokenizer.json", "*.model", "*.spm", "*.tiktoken", "tekken.json", "vocab.txt")
VOCABULARY_AND_MERGES = ("vocab.json", "merges.txt")
# What safetensors itself allows a header to have, so that eight bytes of garbage ask for no gigabytes.
LONGEST_HEADER = 100_000_000
# First eight bytes of what Git leaves in place of a large file.
LFS_POINTER = b"version "


@dataclass(frozen=True)
class Tensor:
    """Type (`BF16`, `F32`, …) and shape of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model's `config.json`.

    Raises:
        ModelError: it is missing, or not a JSON object.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{folder}: config.json is missing; a folder saved with save_pretrained is wanted.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}). Download the model again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object is wanted, not {str(content)[:40]}. Download the model again.")
    return content


def check_tokenizer_files(folder: Path) -> None:
    """Check that a model's folder has what a tokenizer is made of.

    Raises:
        ModelError: there is no vocabulary.
    """
    whole = any(path.stat().st_size for pattern in VOCABULARIES for path in folder.glob(pattern))
    if not whole and not all((folder / name).is_file() for name in VOCABULARY_AND_MERGES):
        raise ModelError(f"{folder}: there is no tokenizer; tokenizer.json is wanted (or vocab.json with merges.txt).")


def weight_files(folder: Path) -> list[Path]:
    """Return a model's weight files: the one, or the shards that its index names.

    Raises:
        ModelError: one is missing, or there are none but pickled ones, which can run code.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            paths = [folder / shard for shard in shards]
            lost = [path.name for path in paths if not path.is_file()]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(f"{index}: not a safetensors index. Download the model again.") from None
        if lost:
            raise ModelError(
                f"{index} names {lost[0][:100]}, which is missing ({len(lost)} of {len(shards)}). Download it again."
            )
        return paths
    if not (folder / SINGLE).is_file():
        others = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        if others:
            raise ModelError(
                f"{folder}: {SINGLE} is missing; {', '.join(others[:3])}: pickled weights can run code and are not "
                f"read. `python scripts/convert_checkpoint.py {folder} NEW_FOLDER` makes safetensors of them."
            )
        raise ModelError(f"{folder}: {SINGLE} is missing; only safetensors weights are loaded.")
    return [folder / SINGLE]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor that a model's weight files hold, by name.

    Raises:
        ModelError: a file is missing, cut short or no safetensors.
    """
    return {name: tensor for path in weight_files(folder) for name, tensor in read_header(path).items()}


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors that one safetensors file holds, by name.

    The format: eight bytes with the length of the header, the header (JSON), and the tensors' bytes, without gaps
    (https://github.com/huggingface/safetensors#format). So a download that broke off is found without reading it.

    Raises:
        ModelError: the file is cut short, longer than its header says, or no safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(min(length, LONGEST_HEADER))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from None
    if start == LFS_POINTER:
        raise ModelError(f"{path}: a Git LFS pointer, not the weights. Run `git lfs pull` in its folder.")
    if len(start) < 8 or length > LONGEST_HEADER:
        raise ModelError(f"{path}: not a safetensors file ({size:,} bytes). Download it again.")
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        tensors = {
            name: Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in entries.items()
        }
        wanted = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, OverflowError, KeyError, IndexError, AttributeError, TypeError, RecursionError):
        cut = f"cut short within its header of {length:,} bytes" if len(header) < length else "its header is damaged"
        raise ModelError(f"{path}: {cut}. Download it again.") from None
    if size != wanted:
        raise ModelError(f"{path}: {size:,} bytes, and its header wants {wanted:,}. Download it again.")
    return tensors
