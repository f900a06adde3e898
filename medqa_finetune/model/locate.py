"""Locates a model's files and checks that they are complete and safe, before slow imports."""

import hashlib
import os
from importlib.resources import files
from pathlib import Path

from medqa_finetune.architecture.files import check_tokenizer_files, read_config, read_header, weight_files
from medqa_finetune.config.hubs import other_ways
from medqa_finetune.config.schema import EMBEDDED_PREFIX, ModelConfig
from medqa_finetune.errors import Fault, ModelError
from medqa_finetune.model.templates import read_template

WHOLE_FILE_BYTES = 64 * 2**20
NO_NETWORK = "HF_HUB_OFFLINE"


def locate_model(model: ModelConfig) -> Path:
    """Return the folder of the model's files.

    A folder at `model.path` comes first, then a copy of `model.repository` in the Hugging Face cache. Nothing is
    downloaded.

    Raises:
        ModelError: there is no such folder, or a file in it is missing, damaged or cut short, or its weights are not
            safetensors; or there is no such chat template.
    """
    read_template(model.chat_template)
    folder = _find(model)
    if not folder.is_dir():
        raise ModelError(_missing(model))
    _check_files(folder)
    return folder


def locate_architecture(model: ModelConfig) -> Path:
    """Return the folder of a model that needs only `config.json` and the tokenizer; weights may be missing.

    Raises:
        ModelError: these files are missing or damaged, or existing weights are damaged.
    """
    read_template(model.chat_template)
    folder = _find(model)
    if has_weights(folder):
        _check_files(folder)
        return folder
    if not (folder / "config.json").is_file():
        fault = _missing(model)
        enough = "To plan alone, config.json and the files of the tokenizer in that folder are enough."
        raise ModelError(fault.but(hint=f"{fault.hint} {enough}"))
    read_config(folder)
    check_tokenizer_files(folder)
    return folder


def has_weights(folder: Path) -> bool:
    """Return whether a model's folder contains weight files, damaged or not."""
    return any(folder.glob("*.safetensors*"))


def _find(model: ModelConfig) -> Path:
    folder = _embedded(model.path) if model.path.startswith(EMBEDDED_PREFIX) else Path(model.path).expanduser()
    if not folder.exists() and model.repository:
        return _in_hub_cache(model) or folder
    return folder


def _embedded(path: str) -> Path:
    name = path.removeprefix(EMBEDDED_PREFIX)
    folder = Path(str(files("medqa_finetune.model") / name))
    if not name or not (folder / "config.json").is_file():
        problem, allowed = "no such model ships with the package", (f"{EMBEDDED_PREFIX}tiny",)
        raise ModelError(Fault("not-allowed", problem, key="model.path", got=path, allowed=allowed))
    return folder


def _in_hub_cache(model: ModelConfig) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model.repository), revision=model.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None


def _missing(model: ModelConfig) -> Fault:
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        fault = Fault("model-missing", "has no config.json", key="model.path", got=model.path)
    elif folder.exists():
        fault = Fault("not-a-folder", "must be a folder", key="model.path", got=model.path)
    else:
        nor = f", and {model.repository} is not in the Hugging Face cache" if model.repository else ""
        fault = Fault("model-missing", f"no such folder{nor}", key="model.path", got=model.path)
    if not model.repository:
        return fault.but(hint="Give a folder with config.json, safetensors weights and a tokenizer.")
    ways = other_ways("huggingface", "source")
    demo = "`python -m medqa_finetune.train -m profile=demo` runs everything on what ships with the package."
    return fault.but(
        hint=f"Download it with `medqa-download model={model.name}`. {ways} Without a GPU or the weights, {demo}"
    )


def _check_files(folder: Path) -> None:
    read_config(folder)
    for path in weight_files(folder):
        read_header(path)
    check_tokenizer_files(folder)


def fingerprint_model(folder: Path, template: str | None = None) -> str:
    """Return a sha256 over the model's files, and over a chat template other than its own.

    Small files are hashed completely. Of large weight files, the size, the safetensors header (names, shapes, offsets)
    and evenly spaced 64 KiB samples are hashed, so that many gigabytes take well under a second.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model") and path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            _add_content(digest, path)
    if template is not None:
        digest.update(f"chat template\0{read_template(template)}".encode())
    return digest.hexdigest()


def _add_content(digest: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_FILE_BYTES:
            digest.update(file.read())
            return
        header_bytes = int.from_bytes(file.read(8), "little")
        digest.update(file.read(min(header_bytes, WHOLE_FILE_BYTES)))
        for part in range(256):
            file.seek(part * (size - 2**16) // 255, os.SEEK_SET)
            digest.update(file.read(2**16))
