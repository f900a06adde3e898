"""A finished run in a second: a random adapter beside a base model, and the record of a run that trained it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from medqa_finetune.config.identity import Fingerprints, settings_of
from medqa_finetune.config.schema import (
    Config,
    CorpusConfig,
    DataConfig,
    EvaluateConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from medqa_finetune.model.load import Device, LoadedModel, load_model
from medqa_finetune.model.locate import fingerprint_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record

CPU = Device("cpu", "CPU", "fp32")


def write_run(folder: Path, base: Path, *, status: Any = "done", seed: int = 0, **method: Any) -> RunDir:
    """Write a run whose weights are random ones of `method` over the model in `base`."""
    config = config_of(base, **method)
    loaded = trained(base, config, seed)
    run = RunDir(folder)
    if config.method.trains != "nothing":
        loaded.model.save_pretrained(run.adapter_path)
        loaded.tokenizer.save_pretrained(run.adapter_path)
    else:
        folder.mkdir(parents=True)
    settings = settings_of(config, Fingerprints("0" * 64, fingerprint_model(base)))
    run.write(
        Record(
            name=folder.name, identity="0" * 16, status=status, method=config.method.name, data="20k", model="micro",
            seed=seed, config=settings, files=run.stamps(),
        )
    )  # fmt: skip
    return run


def config_of(base: Path, **method: Any) -> Config:
    """Return the configuration of such a run: questions of 96 tokens at most, answers of 12."""
    values: dict[str, Any] = {"name": "lora", "dropout": 0.0, "rank": 4} | method
    return Config(
        method=MethodConfig(**values),
        data=DataConfig(name="20k", train_size=20),
        corpus=CorpusConfig(name="embedded", source="embedded"),
        model=ModelConfig(name="local", path=str(base)),
        train=TrainConfig(max_length=128),
        evaluate=EvaluateConfig(max_new_tokens=12),
    )


def trained(base: Path, config: Config, seed: int) -> LoadedModel:
    """Return a model whose trained weights are random, and other than the base's."""
    loaded = load_model(base, config.method, CPU, seed)
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return loaded


def change_record(run: RunDir, **changes: Any) -> None:
    """Change fields of the record; `config__train=None` takes a key out of `config`."""
    content = json.loads(run.record_path.read_bytes())
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key and value is None:
            del content[section][key]
        elif key:
            content[section][key] = value
        else:
            content[section] = value
    run.record_path.write_text(json.dumps(content), encoding="utf-8")


def another_model(base: Path, folder: Path, **changes: Any) -> Path:
    """Write the model in `base` with other weights, and `config.json` changed, into `folder`."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(7)
    config = AutoConfig.from_pretrained(base)
    for name, value in changes.items():
        setattr(config, name, value)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def fields(instance: Any) -> dict[str, Any]:
    """Return a dataclass as plain values."""
    return dataclasses.asdict(instance)
