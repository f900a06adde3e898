"""Write the first part of docs/gpu.md: what cards are predicted to do, by the table of cards and the roofline.

python scripts/gpu_page.py                  write the page
python scripts/gpu_page.py --check          say whether it is what they compute; exit code 1 if it is not
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.config.ranges import AUTO  # noqa: E402
from medqa_finetune.config.schema import Config, TrainConfig  # noqa: E402
from medqa_finetune.methods.registry import model_method  # noqa: E402
from medqa_finetune.methods.settings import MethodConfig  # noqa: E402
from medqa_finetune.model.auto_batch import resolve_together  # noqa: E402
from medqa_finetune.model.cards import CARDS, Card  # noqa: E402
from medqa_finetune.model.estimate import Machine, training_memory  # noqa: E402
from medqa_finetune.model.roofline import (  # noqa: E402
    Passes,
    decoding_operations,
    flops_of,
    predict,
    training_operations,
)
from scripts.benchmarks import published  # noqa: E402
from scripts.benchmarks.published import ANSWER_SHARE, BATCH, HOUR, PAIR_TOKENS  # noqa: E402
from scripts.benchmarks.results import markdown  # noqa: E402
from scripts.benchmarks.roofline import METHODS, model_size, passes_of  # noqa: E402

PAGE = ROOT / "docs" / "gpu.md"
MARK = "\n<!-- What is above is written by scripts/gpu_page.py. -->\n"
SHOWN = ("t4", "4090", "a100", "h200")
CELLS = [(method, size) for method in ("lora", "qlora") for size in (20_000, 50_000, 100_000)]
EXAMPLES, LENGTH = 4, 1024
# Answering: questions of the test set, the tokens that a batch decodes, and rows of a batch.
QUESTIONS, DECODED, ROWS = 1000, 256, 256
# Before the GPU's path was mended: operators of the code of 2026-11-29, counted with fake tensors (scripts/fake_cuda),
# at the rates of today's table of cards. Seconds, tokens/s, MFU, launches, TFLOP and GB of a step of LoRA, and seconds
# of a step of decoding.
BEFORE: dict[str, tuple[float, int, int, int, float, int, float]] = {
    "t4": (7.243, 566, 11, 19_897, 81.7, 1040, 0.099),
    "4090": (1.370, 2991, 23, 12_587, 79.6, 771, 0.024),
    "a100": (0.734, 5583, 23, 12_587, 79.6, 771, 0.030),
    "h200": (0.283, 14_470, 19, 12_587, 79.6, 771, 0.030),
}
ROWS_BEFORE = 24
HEAD = """\
# What a card is predicted to do

`python -m medqa_finetune.plan gpu=CARD` and `python scripts/benchmark.py roofline --gpu CARD` compute times from a
card's data sheet ([`model/cards.py`](../medqa_finetune/model/cards.py)) and from the work of a step by kind of
operator ([`model/roofline.py`](../medqa_finetune/model/roofline.py)). Nothing of it was measured on a GPU by us;
the first GPU shows by `python scripts/check_gpu.py` how far it is off. Written by `python scripts/gpu_page.py`, all
for Qwen2.5-3B.
"""
STEP = f"""
## A step of training

LoRA on all linear layers, {EXAMPLES} × {LENGTH} tokens in one pass, with default settings. `auto` is what
`train.gradient_checkpointing` and `train.micro_batch` become on the card for a matrix of LoRA and QLoRA. "Before"
is the code of 2026-11-29: activations always computed again, adapters in fp32 around their products, and on a T4
attention in whole matrices in fp32.

"""
HOURS = f"""
## Hours of six cells

Training alone, of consultations of {PAIR_TOKENS} tokens in the mean, {BATCH} a step; and minutes for {QUESTIONS:,}
answers, each batch decoded for {DECODED} tokens, {ROWS_BEFORE} rows at a time before and {ROWS} now. "Before" is
LoRA, at the speed of the table above. Memory is that of a step with {LENGTH} tokens in every example.

"""
PUBLISHED = """
## Compared with published figures

A ratio over 1 says that less time is predicted here than was published. Batches, lengths and kernels of the
published runs are not known in full: peft's problems are taken as 250 tokens long, consultations as 148, in passes
of four as the defaults were. Code has become faster since: the row "before" of the T4 above is near what was
published for LoRA.

"""
T4 = """
## On a free T4

A free T4 is lent for some hours at a time. A run that was stopped goes on from its newest checkpoint, at most ten
minutes old, when the same command is given again with the same `outputs`. Nothing needs to be set: precision is
fp16, and `auto` computes activations again and takes as many pairs a pass as fit. Expect {lora} h for LoRA and
{qlora} h for QLoRA on 20,000 consultations, {lora_all} h and {qlora_all} h on 100,000, and {minutes} minutes more
for 1,000 answers; these figures may be off by a factor of two. `python -m medqa_finetune.plan -m
method=lora,qlora data=20k,50k,100k gpu=t4` says it for your own corpus.
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A method with its default settings on a card, `auto` resolved."""

    card: Card
    config: Config

    def training_seconds(self, work: Passes) -> float:
        """Return the seconds of training."""
        precision = self.card.precisions[0]
        operations = training_operations(model_size(), self.config, precision, work)
        return predict(self.card, operations, precision).seconds


def main(arguments: Sequence[str]) -> int:
    """Write or check the page, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    # What follows the mark is written by hand.
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK) if PAGE.is_file() else ("", "", "")
    text = page()
    if not options.check:
        PAGE.write_text(text + MARK + rest, encoding="utf-8")
    elif before != text:
        print("docs/gpu.md is not what is computed. Run `python scripts/gpu_page.py`.", file=sys.stderr)
        return 1
    return 0


def page() -> str:
    """Return the page."""
    parts = [HEAD, STEP, steps(), HOURS, hours(), PUBLISHED, published.table(), _on_a_t4()]
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def cells_on(name: str) -> dict[str, Cell]:
    """Return LoRA and QLoRA on a card, with one choice of `auto` for both, as in a matrix."""
    card, size = CARDS[name], model_size()
    machine = Machine("cuda", card.title, card.memory_bytes, card.precisions[0])
    train = TrainConfig(micro_batch=AUTO, gradient_checkpointing=AUTO)
    configs = [Config(method=MethodConfig(**METHODS[method]), train=train) for method in ("lora", "qlora")]
    settled = resolve_together(configs, size, machine)
    return {each.method.name: Cell(card, dataclasses.replace(each, train=settled)) for each in configs}


def steps() -> str:
    """Return the table of a step of LoRA, before and now."""
    header = ("card", "", "settings", "s", "tokens/s", "MFU", "launches", "TFLOP", "GB", "limited by")
    return markdown(header, [row for name in SHOWN for row in _step_rows(name)])


def _step_rows(name: str) -> Iterator[list[str]]:
    seconds, speed, share, launches, flops, moved, _ = BEFORE[name]
    title = CARDS[name].title
    before = [f"{seconds:.2f}", f"{speed:,}", f"{share} %", f"{launches:,}", f"{flops:.0f}", f"{moved:,}"]
    yield [title, "before", "checkpointed", *before, ""]
    cell, size = cells_on(name)["lora"], model_size()
    work = passes_of(EXAMPLES, LENGTH, flash=cell.card.has_flash)
    precision = cell.card.precisions[0]
    operations = training_operations(size, cell.config, precision, work)
    said = predict(cell.card, operations, precision)
    model_flops = flops_of(model_method(cell.config.method).training_flops(size), work)
    train = cell.config.train
    settings = "checkpointed" if train.gradient_checkpointing else "no checkpointing"
    yield [
        title, "now", f"`auto`: {settings}, micro-batch {train.micro_batch}", f"{said.seconds:.2f}",
        f"{work.tokens / said.seconds:,.0f}", f"{model_flops / said.seconds / cell.card.datasheet_flops(precision):.0%}"
        .replace("%", " %"), f"{sum(each.launches for each in operations):,.0f}",
        f"{sum(each.flops for each in operations) / 1e12:.0f}", f"{sum(each.bytes for each in operations) / 1e9:,.0f}",
        said.limit,
    ]  # fmt: skip


def hours() -> str:
    """Return the table of the hours of the six cells."""
    header = ("card", "", *(f"{method} {size // 1000}k" for method, size in CELLS), "memory, GiB", "answers, min")
    rows = []
    for name in SHOWN:
        speed, decoding = BEFORE[name][1], BEFORE[name][-1]
        before = [_short(pairs * PAIR_TOKENS / speed / HOUR) if method == "lora" else "" for method, pairs in CELLS]
        answers = math.ceil(QUESTIONS / ROWS_BEFORE) * DECODED * decoding / 60
        rows.append([CARDS[name].title, "before", *before, "", f"{answers:.1f}"])
        cells = cells_on(name)
        now = [_short(training_hours(cells[method], pairs)) for method, pairs in CELLS]
        memory = " and ".join(f"{_memory(cells[method]):.1f}" for method in ("lora", "qlora"))
        rows.append([CARDS[name].title, "now", *now, memory, f"{answering_minutes(cells['lora']):.1f}"])
    return markdown(header, rows)


def _short(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"


def training_hours(cell: Cell, pairs: int) -> float:
    """Return the hours of training on so many consultations."""
    tokens, optimizer_steps, train = pairs * PAIR_TOKENS, pairs / BATCH, cell.config.train
    passes = optimizer_steps * math.ceil(BATCH * PAIR_TOKENS / (int(train.micro_batch) * train.max_length))
    squares = 2 * tokens * PAIR_TOKENS
    work = Passes(tokens, ANSWER_SHARE * tokens, squares, passes, optimizer_steps, cell.card.has_flash)
    return cell.training_seconds(work) / HOUR


def answering_minutes(cell: Cell) -> float:
    """Return the minutes of answering the questions of the test set."""
    precision, batches = cell.card.precisions[0], math.ceil(QUESTIONS / ROWS)
    tokens = QUESTIONS * DECODED
    work = decoding_operations(
        model_size(), cell.config, precision, steps=batches * DECODED, tokens=tokens, attended=tokens * PAIR_TOKENS
    )
    return predict(cell.card, work, precision).seconds / 60


def _memory(cell: Cell) -> float:
    machine = Machine("cuda", cell.card.title, cell.card.memory_bytes, cell.card.precisions[0])
    return training_memory(model_size(), cell.config, machine).total / 2**30


def _on_a_t4() -> str:
    cells = cells_on("t4")
    said = {
        "lora": training_hours(cells["lora"], 20_000), "qlora": training_hours(cells["qlora"], 20_000),
        "lora_all": training_hours(cells["lora"], 100_000), "qlora_all": training_hours(cells["qlora"], 100_000),
    }  # fmt: skip
    minutes = f"{answering_minutes(cells['lora']):.0f}"
    return T4.format(minutes=minutes, **{name: f"{value:.1f}" for name, value in said.items()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
