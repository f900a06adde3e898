"""One epoch and the answers with LLaMA-Factory, in its own environment.

python -m scripts.benchmarks.run_llamafactory SETTINGS.json
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.benchmarks.settings import Settings, print_figures, read_settings

ANSWERS_PER_BATCH = 16


def stand_in_for_torchaudio(folder: Path) -> None:
    """Let `import torchaudio` succeed: LLaMA-Factory does it at start and, for text, never uses it."""
    if importlib.util.find_spec("torchaudio") is None:
        (folder / "torchaudio").mkdir()
        (folder / "torchaudio" / "__init__.py").touch()
        sys.path.insert(0, str(folder))


def common(settings: Settings) -> dict[str, Any]:
    """Return the arguments of training and prediction."""
    quantized = {"quantization_bit": 4, "quantization_type": "nf4", "double_quantization": True}
    return {
        "model_name_or_path": settings.model,
        "stage": "sft",
        "finetuning_type": "lora",
        "template": "qwen",
        "default_system": "",
        "dataset_dir": settings.data,
        "cutoff_len": settings.max_length,
        "report_to": "none",
        "use_cpu": settings.device == "cpu",
        "bf16": settings.device == "cuda",
        "seed": settings.seed,
        **(quantized if settings.method == "qlora" else {}),
    }


def training(settings: Settings, output: Path) -> dict[str, Any]:
    """Return the arguments of the training."""
    return common(settings) | {
        "do_train": True,
        "dataset": "train",
        "lora_rank": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_target": "all",
        "output_dir": str(output),
        "logging_steps": settings.logging_steps,
        "save_strategy": "no",
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.batch // settings.micro_batch,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 1,
        "overwrite_cache": True,
        "disable_gradient_checkpointing": not settings.gradient_checkpointing,
        "disable_tqdm": True,
    }


def prediction(settings: Settings, adapter: Path, output: Path) -> dict[str, Any]:
    """Return the arguments of the prediction."""
    return common(settings) | {
        "do_predict": True,
        "predict_with_generate": True,
        "adapter_name_or_path": str(adapter),
        "eval_dataset": "eval",
        "max_new_tokens": settings.max_new_tokens,
        "do_sample": False,
        "per_device_eval_batch_size": ANSWERS_PER_BATCH,
        "output_dir": str(output),
        "disable_tqdm": True,
    }


def main(settings: Settings) -> None:
    """Train, predict and print the figures."""
    with tempfile.TemporaryDirectory() as place:
        stand_in_for_torchaudio(Path(place))
        from llamafactory.train.tuner import run_exp

        from scripts.benchmarks.stopwatch import GenerationTime, Stopwatch, memory

        stopwatch, adapter = Stopwatch(), Path(place) / "adapter"
        run_exp(training(settings, adapter), callbacks=[stopwatch])
        used = memory()
        metrics = json.loads((adapter / "train_results.json").read_text(encoding="utf-8"))
        predicted = None
        if settings.predict:
            with GenerationTime() as generation:
                run_exp(prediction(settings, adapter, Path(place) / "answers"))
            predicted = settings.eval_rows / generation.seconds
    print_figures(
        train_samples_per_second=stopwatch.samples_per_second(settings.batch),
        own_train_samples_per_second=metrics["train_samples_per_second"],
        mean_loss=metrics["train_loss"],
        predict_samples_per_second=predicted,
        **used,
    )


if __name__ == "__main__":
    main(read_settings(Path(sys.argv[1])))
