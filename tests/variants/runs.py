"""Finished runs without training: a model with a disturbed adapter, a record, and a few answered questions."""

import json
from pathlib import Path
from typing import Any

from medqa_finetune.config.identity import Fingerprints, settings_of, training_identity
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.model.locate import fingerprint_model
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record
from tests.config.builders import VALID, changed
from tests.evaluations import default_of, write_default

LORA = MethodConfig(name="lora", dropout=0.0)
QLORA = MethodConfig(name="qlora", quantization="nf4", double_quantization=True, dropout=0.0)
FULL = MethodConfig(name="full", trains="all")
NONE = MethodConfig(name="none", trains="nothing")
QUESTIONS = ("感冒怎么办？", "发烧要吃药吗？", "头疼多久算久？", "咳嗽能喝水吗？")
# Of the disturbance that stands for training: large enough to change what the model says.
SPREAD = 0.05


def write_run(folder: Path, model: Path, method: MethodConfig, **settings: Any) -> RunDir:
    """Write the folder of a run that is done, and return it."""
    config = changed(
        VALID, model__name="local", model__path=str(model), method=method, run_name=folder.name, threads=1,
        data__name="20", data__train_size=20, train__max_length=64, evaluate__max_new_tokens=4, **settings,
    )  # fmt: skip
    written = settings_of(config, Fingerprints("c" * 64, fingerprint_model(model, config.model.chat_template)))
    run = RunDir(folder)
    folder.mkdir(parents=True)
    if method.trains != "nothing":
        _train(run, model, method, config.model.chat_template)
    rows = [{"id": f"q{n}", "question": text, "reference": "多休息。"} for n, text in enumerate(QUESTIONS)]
    default_of(run).append_predictions([row | {"prediction": "多喝水。"} for row in rows])
    return write_record(run, json.loads(json.dumps(written)), method)


def write_record(run: RunDir, written: dict[str, Any], method: MethodConfig, status: Any = "done") -> RunDir:
    """Write the record of a run, with stamps of the files that are there."""
    record = run.write(
        Record(
            name=run.path.name, identity=training_identity(written), status=status, method=method.name, data="20",
            model="micro", seed=0, config=written, files=run.stamps(),
        )
    )  # fmt: skip
    write_default(run, record)
    return run


def _train(run: RunDir, model: Path, method: MethodConfig, template: str | None) -> None:
    import torch

    from medqa_finetune.model.load import Device, load_model

    loaded = load_model(model, method, Device("cpu", "CPU", "fp32"), 0, template=template)
    torch.manual_seed(1)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name or (method.trains == "all" and "proj" in name):
            weight.data += SPREAD * torch.randn_like(weight)
    loaded.model.save_pretrained(run.adapter_path)
    loaded.tokenizer.save_pretrained(run.adapter_path)


def write_micro_phi(folder: Path, like: Path) -> Path:
    """Write a random model of Phi-2's kind with the tokenizer of another model, and return its folder."""
    import torch
    from transformers import AutoTokenizer, PhiConfig, PhiForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(like)
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    PhiForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
