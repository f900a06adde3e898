"""Train, evaluate and reload the methods below with every family of models; print one table.

python scripts/families.py [FAMILY …]

Each cell is a whole experiment on a random model of 100,000 parameters. What it left is then loaded by the code of the
README, in plain transformers and peft, and asked the same question as the model that answered in the run.
"""

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hydra
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.cell import Cell  # noqa: E402
from medqa_finetune.config.compose import CONFIG_NAME, register_schema  # noqa: E402
from medqa_finetune.config.groups import conf_folder  # noqa: E402
from medqa_finetune.config.schema import Config  # noqa: E402
from medqa_finetune.errors import EXIT_BAD_INPUT, EXIT_DONE, Fault  # noqa: E402
from medqa_finetune.evaluation import generate  # noqa: E402
from medqa_finetune.evaluation.decode import Ending, decode_greedily  # noqa: E402
from medqa_finetune.experiment import run_experiment  # noqa: E402
from medqa_finetune.launch.compose import make_cell  # noqa: E402
from medqa_finetune.launch.launcher import register_plugins  # noqa: E402
from medqa_finetune.methods.registry import method_of  # noqa: E402
from medqa_finetune.model.pruned import from_pretrained  # noqa: E402
from medqa_finetune.record.schema import Record  # noqa: E402
from scripts.small_models import FAMILIES, write_micro_model  # noqa: E402

METHODS = {
    "full": ("method=full",),
    "lora": ("method=lora",),
    "rslora": ("method=lora", "method.rslora=true"),
    "dora": ("method=lora", "method.dora=true"),
    "lora+": ("method=lora", "method.loraplus_ratio=16"),
    "pissa": ("method=pissa",),
    "qlora nf4": ("method=qlora",),
    "qlora fp4": ("method=qlora", "method.quantization=fp4"),
    "qlora 8-bit": ("method=qlora_8bit",),
}
BRIEF = (
    "model=local", "corpus=embedded", "data=20k", "data.train_size=24", "data.validation_size=4", "data.test_size=4",
    "train.batch_size=4", "train.micro_batch=2", "train.max_steps=4", "train.max_length=256", "train.validations=1",
    "train.learning_rate=0.01", "evaluate.max_new_tokens=8", "tracker=none", "threads=1",
)  # fmt: skip
QUESTION, TOKENS = "发烧怎么办？", 16
# Maximum difference of a logit between a run in fp32 and plain code.
TOLERANCE = 1e-5


class Said(NamedTuple):
    """A model's output for the question: its logits at every position, and the generated tokens."""

    ids: list[int]
    logits: torch.Tensor
    tokens: list[int]


class Outcome(NamedTuple):
    """A finished run, its model's output, and the output of the same model loaded by plain code."""

    record: Record
    in_process: Said
    again: Said

    @property
    def apart(self) -> float:
        """The largest difference of a logit between run and plain code."""
        return (self.in_process.logits - self.again.logits).abs().max().item()

    @property
    def agrees(self) -> bool:
        """Whether question and tokens are the same, and the logits too where weights are held in fp32."""
        quantized = self.record.config["method"]["quantization"] != "none"
        same = self.in_process.ids == self.again.ids and self.in_process.tokens == self.again.tokens
        return same and (quantized or self.apart <= TOLERANCE)


@torch.no_grad()
def ask(model: Any, ids: list[int], stops: tuple[int, ...]) -> Said:
    """Continue token ids greedily with a model."""
    model.eval()
    logits = model(input_ids=torch.tensor([ids])).logits[0].float().clone()
    return Said(ids, logits, decode_greedily(model, [ids], Ending(stops, 0, TOKENS))[0])


def composed_cell(*overrides: str) -> Cell:
    """Return the cell for these command-line arguments."""
    register_schema()
    register_plugins()
    with hydra.initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        composed = hydra.compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
        return make_cell(composed, composed.hydra, overrides)


def run_cell(family: str, method: str, base: Path, outputs: Path) -> Outcome:
    """Run one experiment in this process, then load what it left."""
    template = ["model.chat_template=instruct"] if family == "phi" else []
    cell = composed_cell(*BRIEF, *METHODS[method], *template, f"model.path={base}", f"outputs={outputs}")
    said: list[Said] = []
    answer = generate.generate_predictions

    def listen(model: Any, encoder: Any, *others: Any) -> Any:
        said.append(ask(model, encoder.dialogue(None, (), QUESTION), generate.stops_of(model, encoder)))
        return answer(model, encoder, *others)

    with mock.patch.object(generate, "generate_predictions", listen):
        record = run_experiment(cell)
    evaluation = cell.evaluation.read()
    assert evaluation is not None
    assert evaluation.stop_ids is not None
    again = load_again(cell.config, tuple(evaluation.stop_ids), uneven=record.layers is not None)
    return Outcome(record, said[0], again)


def load_again(config: Config, stops: tuple[int, ...], *, uneven: bool) -> Said:
    """Load a run's model with the README's code, and generate its output up to one of the run's end tokens."""
    code: dict[str, Any] = {}
    exec(readme_code(), code)  # noqa: S102 (it is the README's)
    method = config.method
    options: dict[str, Any] = {"dtype": torch.float32}
    if "lora" in method_of(method).variants:
        options |= {
            "base": config.model.path,
            "quantization": {"none": None}.get(method.quantization, method.quantization),
        }
    if uneven:
        options["from_pretrained"] = from_pretrained
    model, tokenizer = code["load"](config.run_path, **options)
    message = [{"role": "user", "content": QUESTION}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Said(ids, ask(model, ids, stops).logits, generated(model, tokenizer, ids, stops))


def generated(model: Any, tokenizer: Any, ids: list[int], stops: tuple[int, ...]) -> list[int]:
    """Return the tokens that transformers' `generate` appends."""
    found = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=TOKENS, do_sample=False,
        eos_token_id=list(stops), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    tokens: list[int] = found[0, len(ids) :].tolist()
    return tokens


def readme_code() -> str:
    """Return the code behind the README's marker `<!-- reload -->`."""
    block = re.search(r"<!-- reload -->\s*```python\n(.+?)\n```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert block is not None
    return block[1]


def main(families: list[str]) -> int:
    """Print the table; return 1 where a cell does not agree, 2 where a family is unknown."""
    if {"-h", "--help"} & {*families}:
        print(f"{__doc__}\nFamilies: {', '.join(FAMILIES)}")
        return EXIT_DONE
    for family in families:
        if family not in FAMILIES:
            fault = Fault("not-allowed", "unknown family", key="family", got=family, allowed=tuple(FAMILIES))
            print(fault.line(), file=sys.stderr)
            return EXIT_BAD_INPUT
    started, agreed = time.monotonic(), True
    print(f"| | {' | '.join(METHODS)} |\n|---|{'---|' * len(METHODS)}", flush=True)
    for family in families or FAMILIES:
        cells = []
        with tempfile.TemporaryDirectory() as folder:
            base = write_micro_model(Path(folder) / "base", family)
            for method in METHODS:
                outcome = run_cell(family, method, base, Path(folder) / "outputs")
                agreed &= outcome.agrees
                cells.append(f"{'' if outcome.agrees else 'NO '}{outcome.apart:.0e}")
        print(f"| {family} | {' | '.join(cells)} |", flush=True)
    print(f"\n{time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
