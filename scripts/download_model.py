"""Download a base model's safetensors weights, tokenizer and configuration into `models/<name>`.

Example: python scripts/download_model.py source=modelscope model=qwen2.5-3b
An interrupted download continues where it stopped. No pickled weights and no code are ever fetched.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_finetune.config.checks import HUBS
from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, from_flags, option, parse_options
from medqa_finetune.config.groups import load_group, option_names
from medqa_finetune.config.schema import ModelConfig
from medqa_finetune.data.hub import huggingface_revision, modelscope_revision
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, ModelError
from medqa_finetune.log import log_to_terminal
from medqa_finetune.model.locate import locate_model

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class DownloadOptions(Options):
    """Command-line options."""

    model: str = option(
        "qwen2.5-3b", f"owner/name, or one of {', '.join(option_names('model'))}", value="NAME|OWNER/NAME"
    )
    source: str = option("huggingface", "hub to fetch it from", allowed=HUBS)
    revision: str | None = option(None, "branch, tag or commit; the configured one if left out")
    to: str | None = option(None, "folder to write to; models/<last part of the name> if left out", value="DIR")


USAGE = f"""\
usage: python scripts/download_model.py [key=value …]

Downloads a base model's safetensors weights, tokenizer and configuration. An interrupted download continues where it
stopped. No pickled weights and no code are fetched.

  python scripts/download_model.py source=modelscope model=qwen2.5-3b

options:
{describe(DownloadOptions)}"""


def main(arguments: list[str]) -> int:
    """Download the requested model, and check that it is complete."""
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    options = parse_options(DownloadOptions, from_flags(DownloadOptions, arguments))
    log_to_terminal()
    model = _model(options.model, options.revision)
    folder = Path(options.to) if options.to else Path("models") / str(model.repository).rpartition("/")[2]
    located = ModelConfig(model.name, str(folder), revision=model.revision)
    _download(options.source, model, folder)
    locate_model(located)
    print(f"{folder} is complete.")
    if model.name in option_names("model") and folder == Path(model.path):
        print(f"Next: python -m medqa_finetune.train model={model.name} method=qlora data=20k")
    else:
        print(f"Next: python -m medqa_finetune.train model=local model.path={folder} method=qlora data=20k")
    return EXIT_DONE


def _model(name: str, revision: str | None) -> ModelConfig:
    """Return what to fetch, from `conf/model/<name>.yaml` or an `owner/name`."""
    if "/" in name:
        if name.count("/") != 1 or not all(name.split("/")) or ".." in name:
            hint = "Give owner/name, e.g. model=Qwen/Qwen2.5-3B-Instruct."
            raise ConfigError(Fault("not-a-repository", "must be owner/name", key="model", got=name, hint=hint))
        return ModelConfig(name, "", name, revision=revision or "main")
    model = load_group("model", name, ModelConfig, [f"revision={revision}"] if revision else [])
    if not model.repository:
        problem = f"there is nothing to download: the model is at {model.path}"
        raise ConfigError(Fault("nothing-to-do", problem, key="model", got=name))
    return model


def _download(source: str, model: ModelConfig, folder: Path) -> None:
    arguments: dict[str, Any] = {"allow_patterns": PATTERNS, "local_dir": str(folder)}
    try:
        if source == "modelscope":
            repository = model.modelscope_repository or model.repository
            _modelscope_download()(repository, revision=modelscope_revision(model.revision), **arguments)
        else:
            from huggingface_hub import HfApi, snapshot_download

            # Asked first: without a network snapshot_download returns a half-filled folder as if all were well.
            info = HfApi().model_info(str(model.repository), revision=huggingface_revision(model.revision))
            snapshot_download(str(model.repository), revision=info.sha, **arguments)
    except ModelError:
        raise
    except Exception as error:  # the hubs' libraries raise whatever their network layer does
        lines = str(error).strip().splitlines() or ["no more is known"]
        other = "huggingface" if source == "modelscope" else "modelscope"
        raise ModelError(Fault(
            "fetch-failed", f"cannot be fetched from {source}: {type(error).__name__}: {lines[0][:300]}",
            key="model", got=model.repository, file=str(folder),
            hint=f"The same command continues where it stopped; source={other} tries the other hub.",
        )) from error  # fmt: skip


def _modelscope_download() -> Any:
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise ModelError(Fault(
            "not-installed", "its library is not installed", key="source", got="modelscope",
            hint="Run `pip install 'medqa-finetune[modelscope]'`.",
        )) from None  # fmt: skip
    return snapshot_download


if __name__ == "__main__":
    run_command(main)
