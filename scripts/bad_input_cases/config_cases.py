"""Bad inputs 25 to 35: keys, values, and output folders."""

import dataclasses
import json
import os
from pathlib import Path

from scripts.bad_input_cases.case import BRIEF, LORA, NONE, Case, Expected
from scripts.bad_input_cases.rows import line
from scripts.command_line import ROOT

# A package that shadows the installed one and fails to load its native part.
BROKEN_BITSANDBYTES = 'raise ImportError("libbitsandbytes_cuda.so: cannot open shared object file")\n'
ANSWER = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}


def setting(number: int, what: str, argument: str, *faults: Expected, prepared: bool = False) -> Case:
    """Case of arguments that are refused while the configuration is composed."""
    return Case(number, what, (*LORA, *argument.split(" ")), faults, prepared=prepared)


def own_file(number: int, what: str, text: str, *faults: Expected) -> Case:
    """Case of a user's file, `mine/train/mine.yaml`, that is refused."""

    def write(folder: Path) -> None:
        (folder / "mine" / "train").mkdir(parents=True)
        (folder / "mine" / "train" / "mine.yaml").write_text(text, encoding="utf-8")

    arguments = ("--config-dir", "mine", *LORA, "train=mine")
    in_it = tuple(dataclasses.replace(fault, file="mine/train/mine.yaml") for fault in faults)
    return Case(number, what, arguments, in_it, write)


def trap(line: int, key: str, written: str, read: str) -> Expected:
    """Fault of a value that YAML parses differently than it looks."""
    hint = f"Write {read} if that is meant, '{written}' for the text."
    return Expected("yaml-trap", key, written, names=(read,), hint=hint, line=line)


def broken_bitsandbytes(folder: Path) -> None:
    (folder / "site" / "bitsandbytes").mkdir(parents=True)
    (folder / "site" / "bitsandbytes" / "__init__.py").write_text(BROKEN_BITSANDBYTES, encoding="utf-8")


def pending_run(folder: Path) -> None:
    """Write the record of a run that a matrix announced and never started."""
    record = {
        "name": "lora_20k", "identity": "0" * 16, "status": "pending", "method": "lora", "data": "20k", "model": "tiny",
        "seed": 0, "config": {"evaluate": {"max_samples": None}}, "schema_version": 1,
    }  # fmt: skip
    (folder / "lora_20k").mkdir()
    (folder / "lora_20k" / "record.json").write_text(json.dumps(record), encoding="utf-8")


def file_called_outputs(folder: Path) -> None:
    (folder / "outputs").write_text("", encoding="utf-8")


def predictions(folder: Path) -> None:
    (folder / "predictions.jsonl").write_text(line(ANSWER), encoding="utf-8")


def one_run(folder: Path) -> None:
    assert len(list(folder.rglob("record.json"))) == 1


NO_LIGER = Expected(
    "not-installed", "train.kernels", "liger", allowed=("torch",), hint="pip install 'medqa_finetune[liger]'"
)
ALL_METHODS = ("full", "lora", "none", "qlora", "qlora_8bit", "retrieval")
CASES = [
    setting(25, "misspelt key", "train.epohcs=1", Expected("unknown-key", "train.epohcs", hint="train.epochs")),
    setting(25, "key added with +", "+train.foo=1", Expected("unknown-key", "train.foo", hint="train.epochs")),
    setting(
        25, "unknown choice of a group", "method=qlor", Expected("not-allowed", "method", "qlor", allowed=ALL_METHODS)
    ),
    setting(25, "argument without =", "seed", Expected("not-key-value", got="seed", names=("key=value",))),
    own_file(
        25, "misspelt key in a file of one's own", "epohcs: 3\n",
        Expected("unknown-key", "train.epohcs", 3, hint="train.epochs"),
    ),
    Case(
        25, "misspelt key, evaluate", ("predictions=x", "frmat=json"),
        (Expected("unknown-key", "frmat", "json", allowed=("run", "predictions", "format"), hint="format"),),
        program="evaluate",
    ),
    setting(
        26, "learning rate that is no number", "train.learning_rate=fast",
        Expected("wrong-type", "train.learning_rate", "fast", names=("number",)),
    ),
    setting(
        26, "learning rate 0", "train.learning_rate=0",
        Expected("out-of-range", "train.learning_rate", 0.0, names=("> 0",)),
    ),
    setting(
        26, "learning rate negative", "train.learning_rate=-1e-4",
        Expected("out-of-range", "train.learning_rate", -0.0001, names=("> 0",)),
    ),
    setting(
        26, "learning rate NaN", "train.learning_rate=nan",
        Expected("out-of-range", "train.learning_rate", "nan", names=("> 0",)),
    ),
    own_file(
        27, "YAML traps", "max_steps: 010\nscheduler: NO\nlogging_steps: 12:30:00\n",
        trap(1, "max_steps", "010", "8"), trap(2, "scheduler", "NO", "false"),
        trap(3, "logging_steps", "12:30:00", "45000"),
    ),
    own_file(27, "file that is not YAML", "epochs: [1\n", Expected("not-yaml", names=("',' or ']'",), line=2)),
    setting(
        28, "batch 0, epochs 0, 0 steps, seed -1", "train.batch_size=0 train.epochs=0 train.max_steps=0 seed=-1",
        Expected("out-of-range", "seed", -1, names=("≥ 0",)),
        Expected("out-of-range", "train.batch_size", 0, names=("≥ 1",)),
        Expected("out-of-range", "train.max_steps", 0, names=("≥ 1",)),
        Expected("out-of-range", "train.epochs", 0.0, names=("> 0",)),
    ),
    setting(
        28, "seed of more than 32 bits", "seed=4294967296",
        Expected("out-of-range", "seed", 4294967296, names=("≤ 4294967295",)),
    ),
    setting(29, "rank 0", "method.rank=0", Expected("out-of-range", "method.rank", 0, names=("≥ 1",))),
    setting(
        29, "DoRA without an adapter", "method.trains=all method.dora=true",
        Expected("conflict", "method.dora", True, names=("method.trains=adapter", "all")),
    ),
    setting(
        29, "precision of 4-bit products without 4 bits", "method.compute_dtype=fp32",
        Expected(
            "conflict", "method.compute_dtype", "fp32", names=("method.quantization=nf4 or fp4", "none"),
            allowed=("auto",),
        ),
    ),
    setting(
        29, "8 bits answered by vLLM", "method.quantization=int8 evaluate.backend=vllm",
        Expected(
            "conflict", "method.quantization", "int8", names=("evaluate.backend=vllm",), allowed=("none", "nf4", "fp4"),
            hint="evaluate.backend=transformers",
        ),
    ),
    setting(
        29, "running text answered by vLLM", "corpus=text corpus.path=book.txt evaluate.backend=vllm",
        Expected("conflict", "evaluate.backend", "vllm", names=("running text",), allowed=("transformers",)),
    ),
    setting(
        29, "running text scored as answers are", "corpus=text corpus.path=book.txt evaluate.metrics=[rouge]",
        Expected(
            "conflict", "evaluate.metrics", ["rouge"], names=("running text",), allowed=("perplexity",),
            hint="evaluate.metrics=[perplexity]",
        ),
    ),
    setting(
        29, "LoRA+ ratio below 1", "method.loraplus_ratio=0.5",
        Expected("out-of-range", "method.loraplus_ratio", 0.5, names=("≥ 1", "null")),
    ),
    setting(
        29, "no module to train", "method.target_modules=[]",
        Expected("wrong-type", "method.target_modules", [], names=("all_linear",), hint="[q_proj,v_proj]"),
    ),
    setting(
        29, "modules the model has not", "method.target_modules=[no_such_layer]",
        Expected(
            "no-such-module", "method.target_modules", ["no_such_layer"], names=("no_such_layer",),
            allowed=("q_proj", "v_proj", "down_proj"),
        ),
        prepared=True,
    ),
    Case(
        30, "4 bits without a working bitsandbytes", (*BRIEF, "method=qlora", "data=20k"),
        (
            Expected(
                "quantization-unusable", "method.quantization", "nf4", names=("libbitsandbytes_cuda.so",),
                hint="`python -m bitsandbytes`",
            ),
            Expected(
                "not-importable", "method.trains", "adapter", names=("libbitsandbytes_cuda.so",), hint="bitsandbytes"
            ),
        ),
        broken_bitsandbytes, prepared=True, variables={"PYTHONPATH": f"site{os.pathsep}{ROOT}"}, slow=True,
    ),
    Case(
        30, "Liger's kernels without a GPU", (*LORA, "train.kernels=liger"), (NO_LIGER,), prepared=True,
        variables={"CUDA_VISIBLE_DEVICES": ""},
    ),
    Case(
        31, "evaluation of a run that was not trained", ("run=lora_20k",),
        (Expected("no-evaluation", "run", "lora_20k", names=("pending",), hint="command that started it"),),
        pending_run, "evaluate",
    ),
    Case(
        31, "evaluation of a folder without a run", ("run=lora_20k",),
        (Expected("not-a-run", "run", "lora_20k", names=("record.json",), hint="folder of a run"),), program="evaluate",
    ),
    Case(
        32, "two points of a sweep are one run", ("-m", *NONE, "data=20k,50k"), code=0, check=one_run,
        says=("is the same run as none", "run once"), slow=True,
    ),
    Case(
        33, "outputs is a file", LORA, (Expected("not-a-folder", "outputs", "outputs", hint="outputs=DIR"),),
        file_called_outputs,
    ),
    Case(
        33, "outputs cannot be written", (*LORA, "outputs=/proc/none"),
        (Expected("not-writable", hint="outputs=DIR", file="/proc/none/cache"),),
    ),
    Case(
        33, "output cannot be written, evaluate", ("predictions=predictions.jsonl", "output=/proc/none/scores.json"),
        (Expected("not-writable", "output", "/proc/none/scores.json", hint="another file"),), predictions, "evaluate",
    ),
    setting(
        34, "environment variable not set", "corpus=jsonl corpus.path=${oc.env:MEDQA_NOT_SET}",
        Expected(
            "variable-not-set", "corpus.path", "${oc.env:MEDQA_NOT_SET}", names=("MEDQA_NOT_SET",),
            hint="export MEDQA_NOT_SET=VALUE",
        ),
    ),
    setting(
        35, "value left open", "corpus=jsonl",
        Expected("missing-key", "corpus.path", names=("corpus.source=file",), hint="corpus.path=FILE"),
    ),
    setting(
        35, "value typed as ???", "train.epochs=???",
        Expected("missing-key", "train.epochs", hint="train.epochs=VALUE"),
    ),
]  # fmt: skip
