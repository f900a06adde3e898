"""Models to chat with, found and checked before torch is loaded: of a run, or a folder with or without an adapter."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.architecture.files import read_config, read_header, read_object
from medqa_finetune.compat.omegaconf import refusal_of, words_of
from medqa_finetune.config.chat_form import PLAIN_FORM, ChatForm, form_of
from medqa_finetune.config.groups import load_group, option_names
from medqa_finetune.config.schema import MethodConfig, ModelConfig
from medqa_finetune.errors import ConfigError, DataError, Fault, ModelError
from medqa_finetune.methods.registry import method_of
from medqa_finetune.methods.settings import SAVED_ADAPTER, UNTRAINED
from medqa_finetune.model.locate import fingerprint_model, locate_model
from medqa_finetune.record.checksums import damages
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Source:
    """A model to chat with.

    Attributes:
        name: Label of the model in the output.
        model: Folder of the base model, or of a fully fine-tuned one.
        adapter: Folder of its adapter; None for none.
        tokenizer: Folder of the tokenizer, with the chat template used in training.
        method: Method that loads the weights, with their quantization.
        precision: As in `config.precision`.
        fp32_blocks: Blocks that compute in fp32 in a run in fp16, by its record.
        max_length: `train.max_length` of the run, to which its evaluation truncates questions; None outside a run.
        max_new_tokens: `evaluate.max_new_tokens` of the run; None outside a run.
        template: `model.chat_template`, for a model without its own.
        form: In which form its chat template renders dialogues.
    """

    name: str
    model: Path
    adapter: Path | None
    tokenizer: Path
    method: MethodConfig
    precision: str = "auto"
    fp32_blocks: tuple[str, ...] = ()
    max_length: int | None = None
    max_new_tokens: int | None = None
    template: str | None = None
    form: ChatForm = PLAIN_FORM

    def with_quantization(self, quantization: str | None) -> "Source":
        """Return the source with the base weights quantized as `nf4` or `int8`; the same source for None."""
        if quantization is None:
            return self
        # Without training, fully fine-tuned weights may be quantized too.
        kind = (UNTRAINED if self.adapter is None else SAVED_ADAPTER).trains
        doubled = quantization == "nf4"
        method = replace(self.method, trains=kind, quantization=quantization, double_quantization=doubled)
        return replace(self, method=method)


def source_of_run(path: Path, base: str | None = None) -> Source:
    """Return the source of a finished run.

    Args:
        path: Folder of the run.
        base: Current location of the base model, as in `find_model_config`; None for the recorded one.

    Raises:
        MedQAError: the run is not done, its weights are damaged, or the base model is missing or has changed.
    """
    run = RunDir(path)
    record = run.read()
    if record is None:
        hint = "Give the folder of a run."
        raise DataError(_fault_of(run, "not-a-run", f"has no {run.record_path.name}", hint))
    if record.status != "done":
        raise DataError(_fault_of(run, "run-not-done", f"its status is {record.status}, not done", _advice(record)))
    trained = f"{run.adapter_path.name}/"
    damaged = damages(path, {name: stamp for name, stamp in record.files.items() if name.startswith(trained)})
    if damaged:
        problem = f"{damaged[0]} since the run was done (another model's weights?)"
        raise ModelError(_fault_of(run, "changed-file", problem, "Put it back, or train again with overwrite=true."))
    return _of_record(run, record, base)


def _fault_of(run: RunDir, code: str, problem: str, hint: str = "") -> Fault:
    return Fault(code, problem, key="run", got=str(run.path), hint=hint)


def _advice(record: Record) -> str:
    if record.failure is None or not record.failure.final:
        return "The command that started it resumes it."
    # Repeating the command would fail the same way.
    reasons = [Fault.from_json(fields).line() for fields in record.failure.faults] or [record.failure.message]
    return f"It failed for this: {reasons[0]} Correct it, then train it again."


def _of_record(run: RunDir, record: Record, base: str | None) -> Source:
    settings = _settings(run, record)
    method = _group(MethodConfig, "method", settings, run)
    if not method_of(method).loads_model:
        raise ConfigError(
            _fault_of(run, "no-model", "its predictions are retrieved, so there is no model to chat with")
        )
    model = find_model_config(base) if base is not None else _group(ModelConfig, "model", settings, run)
    folder = locate_model(model) if base is None else _locate_typed(model)
    if fingerprint_model(folder, model.chat_template) != record.config["model"]["fingerprint"]:
        problem = f"was trained on another base model than the one in {folder} (its files have another fingerprint)"
        hint = "Give model=FOLDER with the one it was trained on."
        raise ModelError(_fault_of(run, "other-base-model", problem, hint))
    weights = run.adapter_path if run.adapter_path.is_dir() else None
    adapter = weights if weights is not None and (weights / ADAPTER_CONFIG).is_file() else None
    return Source(
        name=run.path.resolve().name,
        # Trained weights without an adapter configuration are a whole model.
        model=weights if weights is not None and adapter is None else folder,
        adapter=adapter,
        tokenizer=weights or folder,
        method=method,
        precision=str(settings["precision"]),
        fp32_blocks=() if record.fp16 is None else tuple(record.fp16.fp32_blocks),
        max_length=int(settings["max_length"]),
        max_new_tokens=int(settings["max_new_tokens"]),
        template=model.chat_template,
        form=form_of(model, record.data_counts),
    )


def _settings(run: RunDir, record: Record) -> dict[str, Any]:
    """Return the settings of a run that its answers depend on; resolves interpolations again."""
    config = record.config
    try:
        kept = {
            "model": {key: value for key, value in config["model"].items() if key != "fingerprint"},
            "method": config["method"],
            "precision": config["precision"],
            "max_length": config["train"]["max_length"],
            "max_new_tokens": config["evaluate"]["max_new_tokens"],
        }
        return dict(OmegaConf.to_container(OmegaConf.create(kept), resolve=True))  # type: ignore[arg-type]
    except KeyError as error:
        problem = "is missing from the run's config, and this version wrote no such record"
        key, file = str(error.args[0]), str(run.record_path)
        raise DataError(Fault("missing-key", problem, key=key, file=file)) from None
    except OmegaConfBaseException as error:
        problem, hint = f"cannot be resolved ({words_of(error)})", "Set what it names."
        setting, file = refusal_of(error).key or None, str(run.record_path)
        raise ConfigError(Fault("unresolved", problem, key=setting, file=file, hint=hint)) from None


def _group(schema: type[Any], name: str, settings: dict[str, Any], run: RunDir) -> Any:
    values = settings[name]
    unknown = sorted(values.keys() - {field.name for field in fields(schema)})
    if unknown:
        key, problem = f"config.{name}.{unknown[0]}", "this version does not know this key"
        raise DataError(Fault("unknown-key", problem, key=key, got=values[unknown[0]], file=str(run.record_path)))
    return schema(**values)


def find_model_config(model: str) -> ModelConfig:
    """Return the settings of `model=`: a model of `conf/model`, else a folder.

    `./tiny` is always the folder `tiny`.
    """
    if model in option_names("model") and model != "local":
        return load_group("model", model, ModelConfig, [])
    return ModelConfig(name="local", path=model)


def _locate_typed(model: ModelConfig) -> Path:
    """Return the model's folder; faults name the key `model`, as typed here."""
    try:
        return locate_model(model)
    except ModelError as error:
        if model.name != "local":
            raise
        faults = (each.but(key="model") if each.key == "model.path" else each for each in error.faults)
        raise ModelError(*faults) from None


def source_of_model(model: str, adapter: str | None = None, *, any_base: bool = False) -> Source:
    """Return the source of a model outside a run.

    Args:
        model: As in `find_model_config`.
        adapter: Folder of an adapter that peft saved; None for none.
        any_base: Accepts an adapter that names another base model; its shapes must still fit.

    Raises:
        MedQAError: a file is missing or damaged, or the adapter belongs to another model.
    """
    config = find_model_config(model)
    folder = _locate_typed(config)
    name = config.name if config.name != "local" else folder.resolve().name
    if adapter is None:
        return Source(name, folder, None, folder, UNTRAINED, template=config.chat_template, form=form_of(config, {}))
    path = Path(adapter).expanduser()
    check_adapter(path, folder, config, any_base=any_base)
    return Source(f"{name}+{path.resolve().name}", folder, path, folder, SAVED_ADAPTER, template=config.chat_template)


def check_adapter(adapter: Path, folder: Path, model: ModelConfig, *, any_base: bool) -> None:
    """Check that an adapter's files are complete and name the model in `folder` as their base.

    Shapes are checked when the adapter is loaded.

    Raises:
        ModelError: a file is missing or damaged, or names another model.
    """
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise _no_adapter(adapter, "file-missing", f"has no {ADAPTER_CONFIG}", "Give a folder that peft saved.")
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise _no_adapter(adapter, "file-missing", f"has no {ADAPTER_WEIGHTS}", "Only safetensors weights are loaded.")
    read_header(adapter / ADAPTER_WEIGHTS)
    base = read_object(adapter / ADAPTER_CONFIG, "Give a folder that peft saved.").get("base_model_name_or_path")
    if not any_base and not _is_base(adapter, str(base or ""), folder, model):
        problem = f"was trained on {base or 'a model it does not name'}, not on {folder}"
        hint = "If these are the same weights under another name, give any_base=true."
        raise _no_adapter(adapter, "other-base-model", problem, hint)


def _no_adapter(adapter: Path, code: str, problem: str, hint: str) -> ModelError:
    return ModelError(Fault(code, problem, key="adapter", got=str(adapter), hint=hint))


def _is_base(adapter: Path, base: str, folder: Path, model: ModelConfig) -> bool:
    """Return whether an adapter's base is the model in `folder`: by fingerprint if recorded, else by name."""
    record = _record_beside(adapter)
    if record is not None and "fingerprint" in record.config.get("model", {}):
        return bool(record.config["model"]["fingerprint"] == fingerprint_model(folder, model.chat_template))
    if base and Path(base, "config.json").is_file():
        return Path(base).samefile(folder) or fingerprint_model(Path(base)) == fingerprint_model(folder)
    names = {folder.resolve().name, str(read_config(folder).get("_name_or_path", "")), model.repository or ""}
    return _last_part(base) in {_last_part(name) for name in names if name}


def _record_beside(adapter: Path) -> Record | None:
    """Return the readable record of the run that an adapter belongs to; None where there is none."""
    try:
        return RunDir(adapter.absolute().parent).read()
    except DataError:
        return None


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()
