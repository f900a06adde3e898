"""Bad input 25 to 35: keys, values, and where results go."""

import json
import os
from pathlib import Path

from tests.bad_inputs.case import BRIEF, LORA, Case
from tests.bad_inputs.rows import line
from tests.commands import ROOT

# A package that stands before the installed one, whose native part does not load, as on a machine without it.
BROKEN_BITSANDBYTES = 'raise ImportError("libbitsandbytes_cuda.so: cannot open shared object file")\n'
ANSWER = {"id": "a", "question": "头痛怎么办？", "reference": "多休息。", "prediction": "休息。"}


def setting(number: int, what: str, argument: str, *says: str, faults: int = 1, prepared: bool = False) -> Case:
    """Return the case of one argument that is refused while the configuration is composed."""
    return Case(number, what, (*LORA, *argument.split(" ")), says, faults=faults, prepared=prepared)


def own_file(number: int, what: str, text: str, *says: str, faults: int = 1) -> Case:
    """Return the case of a file of the user's own, `mine/train/mine.yaml`, that is refused."""

    def write(folder: Path) -> None:
        (folder / "mine" / "train").mkdir(parents=True)
        (folder / "mine" / "train" / "mine.yaml").write_text(text, encoding="utf-8")

    arguments = ("--config-dir", "mine", *LORA, "train=mine")
    return Case(number, what, arguments, ("train/mine.yaml", *says), write, faults=faults)


def broken_bitsandbytes(folder: Path) -> None:
    """Write the package that cannot be imported."""
    (folder / "site" / "bitsandbytes").mkdir(parents=True)
    (folder / "site" / "bitsandbytes" / "__init__.py").write_text(BROKEN_BITSANDBYTES, encoding="utf-8")


def pending_run(folder: Path) -> None:
    """Write the record of a run that a matrix announced and never came to."""
    record = {
        "name": "lora_20k", "identity": "0" * 16, "status": "pending", "method": "lora", "data": "20k", "model": "tiny",
        "seed": 0, "config": {"evaluate": {"max_samples": None}}, "schema_version": 1,
    }  # fmt: skip
    (folder / "lora_20k").mkdir()
    (folder / "lora_20k" / "record.json").write_text(json.dumps(record), encoding="utf-8")


def file_called_outputs(folder: Path) -> None:
    """Write a file where the folder of results should go."""
    (folder / "outputs").write_text("", encoding="utf-8")


def predictions(folder: Path) -> None:
    """Write one answer."""
    (folder / "predictions.jsonl").write_text(line(ANSWER), encoding="utf-8")


def one_run(folder: Path) -> None:
    """One run was made."""
    assert len(list(folder.rglob("record.json"))) == 1


CASES = [
    setting(25, "misspelt key", "train.epohcs=1", "train.epohcs", "Did you mean train.epochs"),
    setting(25, "key added with +", "+train.foo=1", "train.foo", "there is no such key"),
    setting(25, "unknown choice of a group", "method=qlor", "method=qlor: allowed are full, lora, none, qlora"),
    setting(25, "argument without =", "seed", "'seed'", "key=value is wanted"),
    own_file(25, "misspelt key in a file of one's own", "epohcs: 3\n", "train.epohcs", "Did you mean train.epochs"),
    Case(
        25, "misspelt key, evaluate", ("predictions=x", "frmat=json"),
        ("'frmat=json'", "did you mean format", "keys are"), program="evaluate",
    ),
    setting(26, "learning rate that is no number", "train.learning_rate=fast", "train.learning_rate=fast", "a number"),
    setting(26, "learning rate 0", "train.learning_rate=0", "train.learning_rate=0", "above 0"),
    setting(26, "learning rate negative", "train.learning_rate=-1e-4", "train.learning_rate=-0.0001", "above 0"),
    setting(26, "learning rate NaN", "train.learning_rate=nan", "train.learning_rate=nan", "above 0"),
    own_file(
        27, "YAML traps", "max_steps: 010\nscheduler: NO\nlogging_steps: 12:30:00\n", ":1: YAML reads 010 as 8",
        ":2: YAML reads NO as false", ":3: YAML reads 12:30:00 as 45000", "'NO' for the text", faults=3,
    ),
    own_file(27, "file that is not YAML", "epochs: [1\n", "not YAML", "line 2"),
    setting(
        28, "batch 0, epochs 0, 0 steps, seed -1", "train.batch_size=0 train.epochs=0 train.max_steps=0 seed=-1",
        "train.batch_size=0: a whole number of at least 1", "train.epochs=0.0: a number above 0",
        "train.max_steps=0: a whole number of at least 1", "seed=-1: a whole number of at least 0", faults=4,
    ),
    setting(28, "seed of more than 32 bits", "seed=4294967296", "seed=4294967296", "at most 4294967295"),
    setting(29, "rank 0", "method.rank=0", "method.rank=0", "at least 1"),
    setting(
        29, "DoRA without an adapter", "method.trains=all method.dora=true", "method.dora=True",
        "method.trains=adapter",
    ),
    setting(
        29, "precision of 4-bit products without 4 bits", "method.compute_dtype=fp32", "method.compute_dtype=fp32",
        "quantization=nf4 or fp4",
    ),
    setting(
        29, "8 bits answered by vLLM", "method.quantization=int8 evaluate.backend=vllm", "method.quantization=int8",
        "evaluate.backend=vllm: none, nf4, fp4", "evaluate.backend=transformers",
    ),
    setting(
        29, "running text answered by vLLM", "corpus=text corpus.path=book.txt evaluate.backend=vllm",
        "evaluate.backend=vllm", "nothing is generated", "transformers",
    ),
    setting(
        29, "running text scored as answers are", "corpus=text corpus.path=book.txt evaluate.metrics=[rouge]",
        "evaluate.metrics=[rouge]", "no answers to compare", "[perplexity]",
    ),
    setting(29, "LoRA+ ratio below 1", "method.loraplus_ratio=0.5", "method.loraplus_ratio=0.5", "at least 1", "null"),
    setting(29, "no module to train", "method.target_modules=[]", "method.target_modules=[]", "[q_proj,v_proj]"),
    setting(
        29, "modules the model has not", "method.target_modules=[no_such_layer]", "method.target_modules",
        "no_such_layer", "q_proj", prepared=True,
    ),
    Case(
        30, "4 bits without a working bitsandbytes", (*BRIEF, "method=qlora", "data=20k"),
        ("method.quantization=nf4", "bitsandbytes"), broken_bitsandbytes, faults=2, prepared=True,
        variables={"PYTHONPATH": f"site{os.pathsep}{ROOT}"},
    ),
    Case(
        30, "Liger's kernels without a GPU", (*LORA, "train.kernels=liger"),
        ("train.kernels=liger", "CUDA GPU", ": torch"), prepared=True,
        variables={"CUDA_VISIBLE_DEVICES": ""},
    ),
    Case(
        31, "evaluation of a run that was not trained", ("run=lora_20k",),
        ("lora_20k/predictions.jsonl", "0 predictions"), pending_run, "evaluate",
    ),
    Case(
        31, "evaluation of a folder without a run", ("run=lora_20k",), ("run=lora_20k", "no record.json"),
        program="evaluate",
    ),
    Case(
        32, "two points of a sweep are one run", ("-m", *BRIEF, "method=none", "data=20k,50k"),
        ("is the same run as none", "run once"), code=0, check=one_run, slow=True,
    ),
    Case(33, "outputs is a file", LORA, ("outputs=outputs", "not a folder"), file_called_outputs),
    Case(
        33, "outputs cannot be written", (*LORA, "outputs=/proc/none"),
        ("/proc/none", "cannot be kept here", "outputs=DIR"),
    ),
    Case(
        33, "output cannot be written, evaluate", ("predictions=predictions.jsonl", "output=/proc/none/scores.json"),
        ("output=/proc/none/scores.json", "cannot be written"), predictions, "evaluate",
    ),
    setting(
        34, "environment variable not set", "corpus=jsonl corpus.path=${oc.env:MEDQA_NOT_SET}", "corpus.path",
        "environment variable MEDQA_NOT_SET is not set",
    ),
    setting(35, "value left open", "corpus=jsonl", "corpus.path is missing", "corpus.path=FILE"),
    setting(35, "value typed as ???", "train.epochs=???", "train.epochs is missing", "train.epochs=VALUE"),
]  # fmt: skip
