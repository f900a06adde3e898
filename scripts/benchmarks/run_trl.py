"""One epoch with TRL's SFTTrainer, in TRL's own environment: `python -m scripts.benchmarks.run_trl SETTINGS.json`."""

import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from scripts.benchmarks.settings import Settings, print_figures, read_pairs, read_settings
from scripts.benchmarks.stopwatch import Stopwatch, memory


def train(settings: Settings) -> None:
    """Train, and print the figures."""
    data = Path(settings.data)
    cuda = settings.device == "cuda"
    options: dict[str, Any] = {"dtype": torch.bfloat16 if cuda else torch.float32}
    if settings.method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )  # fmt: skip
    config = SFTConfig(
        output_dir=str(data / "trl"),
        model_init_kwargs=options,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch // settings.micro_batch,
        learning_rate=settings.learning_rate,
        num_train_epochs=1,
        logging_steps=settings.logging_steps,
        save_strategy="no",
        report_to=[],
        use_cpu=not cuda,
        bf16=cuda,
        max_length=settings.max_length,
        gradient_checkpointing=settings.gradient_checkpointing,
        disable_tqdm=True,
        seed=settings.seed,
    )
    adapter = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    stopwatch = Stopwatch()
    trainer = SFTTrainer(
        model=settings.model, train_dataset=_dataset(data), args=config, peft_config=adapter, callbacks=[stopwatch]
    )
    metrics = trainer.train().metrics
    print_figures(
        train_samples_per_second=stopwatch.samples_per_second(settings.batch),
        own_train_samples_per_second=metrics["train_samples_per_second"],
        mean_loss=metrics["train_loss"],
        predict_samples_per_second=None,
        **memory(),
    )


def _dataset(data: Path) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["question"]}],
                "completion": [{"role": "assistant", "content": row["answer"]}],
            }
            for row in read_pairs(data / "train.jsonl")
        ]
    )


if __name__ == "__main__":
    train(read_settings(Path(sys.argv[1])))
