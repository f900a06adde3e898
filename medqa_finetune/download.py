"""Command-line entry point for downloads: a base model or a public corpus, from Hugging Face or ModelScope.

An interrupted download continues where it stopped. No pickled weights and no code are ever fetched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from medqa_finetune.config.checks import HUBS
from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import (
    Options,
    describe,
    from_flags,
    help_line,
    option,
    option_keys,
    parse_options,
    split_options,
)
from medqa_finetune.config.groups import load_group, option_names, split_overrides
from medqa_finetune.config.hubs import other_ways
from medqa_finetune.config.schema import CorpusConfig, ModelConfig
from medqa_finetune.data.hub import fetch, hub_folder, huggingface_revision, is_complete, modelscope_revision
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, ModelError
from medqa_finetune.languages.translate import say
from medqa_finetune.log import log_to_terminal
from medqa_finetune.model.locate import locate_model

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
MODEL, CORPUS = "model", "corpus"


@dataclass(frozen=True)
class ModelOptions(Options):
    """Options of a model's download."""

    model: str = option(
        "qwen2.5-3b", f"owner/name, or one of {', '.join(option_names('model'))}", value="NAME|OWNER/NAME"
    )
    source: str = option("huggingface", "hub to fetch it from", allowed=HUBS)
    revision: str | None = option(None, "branch, tag or commit; the configured one if left out")
    to: str | None = option(None, "folder to write to; models/<last part of the name> if left out", value="DIR")


@dataclass(frozen=True)
class CorpusOptions(Options):
    """Options of a corpus's download, in addition to its settings."""

    source: str | None = option(None, "fetch from this hub, not from the configured one", allowed=HUBS)


USAGE = f"""\
usage: medqa-download model=NAME [key=value …]
       medqa-download corpus=NAME [key=value …]

Downloads a base model's safetensors weights, tokenizer and configuration, or a public data set that conf/corpus names.
An interrupted download continues where it stopped. No pickled weights and no code are fetched. The environment variable
HF_ENDPOINT names a mirror of Hugging Face. Also as python -m medqa_finetune.download.

  medqa-download model=qwen2.5-3b
  medqa-download model=qwen2.5-3b source=modelscope
  medqa-download corpus=huatuo26m_lite

options of a model:
{describe(ModelOptions)}\
options of a corpus:
{describe(CorpusOptions)}\
{help_line("corpus=NAME", f"one of {', '.join(option_names('corpus'))}")}
  corpus.KEY=VALUE          changes a setting of the corpus
"""


def main() -> NoReturn:
    """Run the command `download`, and end the process."""
    run_command(download)


def download(arguments: list[str]) -> int:
    """Download the model or corpus that `arguments` name; return the exit code.

    Raises:
        ConfigError: an option is unknown, or nothing is named.
        DataError: the corpus cannot be fetched.
        ModelError: the model cannot be fetched, or is incomplete.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    typed = _with_keys(arguments)
    keys = {argument.lstrip("-").partition("=")[0].partition(".")[0] for argument in typed}
    if MODEL in keys and CORPUS in keys:
        raise ConfigError(Fault("conflict", "excludes model", key=CORPUS, hint="Download one after the other."))
    if CORPUS in keys:
        return download_corpus(typed)
    if MODEL not in keys:
        raise ConfigError(Fault("missing-key", "nothing is named", hint="Give model=NAME or corpus=NAME; see --help."))
    return download_model(typed)


def _with_keys(arguments: Sequence[str]) -> list[str]:
    """Return arguments with `model NAME` and `corpus NAME` as key=value."""
    what, *rest = [*arguments] or [""]
    if "=" not in what and (what in option_names(MODEL) or what.count("/") == 1):
        return [f"{MODEL}={what}", *rest]
    if what in option_names(CORPUS):
        return [f"{CORPUS}={what}", *rest]
    if what in (MODEL, CORPUS) and rest and "=" not in rest[0]:
        return [f"{what}={rest[0]}", *rest[1:]]
    return [*arguments]


def download_model(arguments: Sequence[str]) -> int:
    """Download a model, and check that it is complete.

    Raises:
        ConfigError: an option is unknown.
        ModelError: the model cannot be fetched, or is incomplete.
    """
    options = parse_options(ModelOptions, from_flags(ModelOptions, arguments))
    log_to_terminal()
    model = _model(options.model, options.revision)
    folder = Path(options.to) if options.to else Path("models") / str(model.repository).rpartition("/")[2]
    located = ModelConfig(model.name, str(folder), revision=model.revision)
    _fetch_model(options.source, model, folder)
    locate_model(located)
    print(say("{path} is complete.", path=folder))
    if model.name in option_names("model") and folder == Path(model.path):
        chosen = f"model={model.name}"
    else:
        chosen = f"model=local model.path={folder}"
    print(say("Next: {command}", command=f"python -m medqa_finetune.train {chosen} method=qlora"))
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


def _fetch_model(source: str, model: ModelConfig, folder: Path) -> None:
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
        problem = f"cannot be fetched from {source}: {type(error).__name__}: {lines[0][:300]}"
        hint = f"The same command continues where it stopped. {other_ways(source, 'source')} "
        hint += f"Or copy the model's files from another machine into {folder}."
        fault = Fault("fetch-failed", problem, key="model", got=model.repository, file=str(folder), hint=hint)
        raise ModelError(fault) from error


def _modelscope_download() -> Any:
    try:
        from modelscope import snapshot_download
    except ImportError:
        problem, hint = "its library is not installed", "Run `pip install 'medqa-finetune[modelscope]'`."
        raise ModelError(Fault("not-installed", problem, key="source", got="modelscope", hint=hint)) from None
    return snapshot_download


def download_corpus(arguments: Sequence[str]) -> int:
    """Download a data set, unless it is there.

    Raises:
        ConfigError: an option is unknown.
        DataError: it cannot be fetched.
    """
    own, rest = split_options(CorpusOptions, from_flags(CorpusOptions, arguments))
    options = parse_options(CorpusOptions, own)
    log_to_terminal()
    name, overrides = split_overrides(rest, {CORPUS: "huatuo26m_lite"}, option_keys(CorpusOptions))[CORPUS]
    if options.source:
        overrides = [*overrides, f"hub={options.source}"]
    corpus = load_group(CORPUS, name, CorpusConfig, overrides)
    if corpus.source != "hub":
        print(say("corpus={name} needs no download: its source is {source}.", name=name, source=corpus.source))
        return EXIT_DONE
    folder = hub_folder(corpus)
    if is_complete(corpus, folder):
        print(say("{path} is complete; nothing to fetch.", path=folder))
    else:
        fetch(corpus, folder)
        print(say("{path} is complete.", path=folder))
    print(say("Next: {command}", command=f"python -m medqa_finetune.train corpus={name}"))
    return EXIT_DONE


if __name__ == "__main__":
    main()
