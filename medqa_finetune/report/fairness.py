"""Whether two cells differ in anything but what is compared.

The axes are `data` (number of training pairs), `method` (every setting below `method`, the optimizer among them),
`model`, and `baseline`, where one of the two is not trained; or a single other setting that was varied on purpose, by
its key. What an axis changes by itself belongs to it:

- More data: other training pairs, and with them samples, tokens and steps as long as the passes over the data (epochs)
  are the same, or other epochs as long as the steps are. Neither the same is a difference. Tokens per step may vary by
  a tenth, as the mean length of pairs does.
- Another method: trainable parameters, optimizer, memory and time.
- Another model: tokens per step, for its tokenizer cuts text otherwise; its perplexity is not comparable.
- A baseline: everything about training; and where it loads no model, device, precision and library versions.

Steps, pairs and tokens of a step, epochs, precision, device, library versions, test set, number of questions and
signatures are never an axis. How the batch was cut to fit into memory changes rounding alone, and does not count.
"""

from collections.abc import Iterable
from typing import Any

from medqa_finetune.report.cells import Cell
from medqa_finetune.report.scores import OF_A_TOKENIZER
from medqa_finetune.report.words import Text

AXES = ("baseline", "model", "method", "data")
# Settings that change rounding, not results; of exams beside the answers; and those that the facts below say better, or
# signatures.
NO_DIFFERENCE = ("train.micro_batch", "train.gradient_checkpointing", "evaluate.batch_size", "evaluate.batch_tokens",
                 "evaluate.timeout_seconds", "evaluate.metrics", "evaluate.zero_shot", "evaluate.zero_shot_folder",
                 "evaluate.text", "evaluate.text_sha256", "evaluate.stride")  # fmt: skip
NEVER_AN_AXIS = ("train.epochs", "train.max_steps", "train.batch_size", "precision", "evaluate", "corpus",
                 "results_version", "data.split_seed", "data.effective_test_size")  # fmt: skip
SAID_BY_FACTS = ("train.epochs", "train.max_steps", "train.batch_size", "precision")
SIZE = "data.effective_train_size"
BETWEEN_METHODS, BETWEEN_SIZES = 0.01, 0.1
SHOWN = 4
ZH = {
    "test set": "测试集", "questions": "题数", "precision": "精度", "device": "设备", "steps": "训练步数",
    "epochs": "训练轮数", "pairs per step": "每步样本数", "tokens per step": "每步 token 数", "signature": "评分签名",
    "tokenizer": "分词器",
}  # fmt: skip


def axis_between(first: Cell, second: Cell) -> str:
    """Return what two cells are compared for: one or several of `AXES` joined with ` + `, or the key of a setting."""
    if not (first.trains and second.trains):
        return "baseline"
    keys = _differing(first, second)
    found = {
        "model": first.first.model != second.first.model or _any_below(keys, "model"),
        "method": first.first.method != second.first.method or _any_below(keys, "method"),
        "data": first.train_size != second.train_size,
    }
    named = [axis for axis in AXES if found.get(axis)]
    if named:
        return " + ".join(named)
    others = [key for key in keys if not _is_below(key, NO_DIFFERENCE)]
    varied = [key for key in others if not _is_below(key, NEVER_AN_AXIS)]
    return varied[0] if len(varied) == 1 else "" if others else " + ".join(keys)


def unfair(first: Cell, second: Cell, score: str) -> Text | None:
    """Return what two cells differ in beside the axis, in words; None where a winner may be called."""
    axis = axis_between(first, second)
    gaps = [*_of_tests(first, second, score)]
    if first.loads_model and second.loads_model:
        gaps += _of_places(first, second)
    if axis != "baseline":
        gaps += _of_training(first, second, axis)
    if score in OF_A_TOKENIZER and "model" in axis.split(" + "):
        gaps.append(_gap("tokenizer", first.first.model, second.first.model))
    said = ("model", "method", *NO_DIFFERENCE, *SAID_BY_FACTS, SIZE, axis)
    gaps += [
        _gap(key, first.settings.get(key), second.settings.get(key))
        for key in _differing(first, second)
        if not _is_below(key, said) and not (axis == "baseline" and _is_below(key, ("train", "data")))
    ]
    if not gaps:
        return None
    more = len(gaps) - SHOWN
    tail = Text(f"and {more} more", f"等共 {len(gaps)} 项") if more > 0 else Text("", "")
    return Text(
        "They differ in " + "; ".join(gap.en for gap in gaps[:SHOWN]) + (f"; {tail.en}" if more > 0 else "") + ".",
        "两者还有别的不同：" + "；".join(gap.zh for gap in gaps[:SHOWN]) + (tail.zh if more > 0 else "") + "。",
    )


def unfair_costs(first: Cell, second: Cell) -> bool:
    """Say whether time or memory of two cells cannot be compared: other device or kernels, or a batch cut otherwise."""
    return _cost_facts(first) != _cost_facts(second)


def _cost_facts(cell: Cell) -> tuple[Any, ...]:
    train, place = cell.first.train, cell.first.environment
    device = place.device if place is not None else None
    if train is None:
        return (device,)
    return (device, train.micro_batch, train.gradient_checkpointing, cell.settings.get("train.kernels"))


def _of_tests(first: Cell, second: Cell, score: str) -> Iterable[Text]:
    manifests = [[run.record.data_manifest for run in cell.runs] for cell in (first, second)]
    hashes = [{m.test.sha256[:8] if m is not None else None for m in each} for each in manifests]
    yield from _unequal("test set", *hashes)
    yield from _unequal("questions", *({run.evaluation.n for run in cell.runs} for cell in (first, second)))
    yield from _unequal("signature", *(signatures_of(cell, score) for cell in (first, second)))


def signatures_of(cell: Cell, score: str) -> set[str]:
    """Return the signatures of a cell's score; one, where its runs agree."""
    return {run.scores[score].signature for run in cell.runs if score in run.scores}


def _of_places(first: Cell, second: Cell) -> Iterable[Text]:
    places = [[run.record.environment for run in cell.runs] for cell in (first, second)]
    for name in ("precision", "device"):
        yield from _unequal(name, *({getattr(place, name, None) for place in each} for each in places))
    versions = [[place.versions if place is not None else {} for place in each] for each in places]
    for package in sorted({package for each in versions for found in each for package in found}):
        yield from _unequal(package, *({found.get(package) for found in each} for each in versions))


def _of_training(first: Cell, second: Cell, axis: str) -> Iterable[Text]:
    trained = [[run.record.train for run in cell.runs if run.record.train is not None] for cell in (first, second)]
    steps, epochs = ([{getattr(t, name) for t in each} for each in trained] for name in ("steps", "epochs"))
    epochs = [{round(value, 2) for value in each} for each in epochs]
    gaps = {"steps": list(_unequal("steps", *steps)), "epochs": list(_unequal("epochs", *epochs))}
    if "data" not in axis.split(" + ") or all(gaps.values()):
        yield from (*gaps["steps"], *gaps["epochs"])
    yield from _unequal("pairs per step", *({t.batch_size for t in each} for each in trained))
    if "model" not in axis.split(" + "):
        share = BETWEEN_SIZES if "data" in axis.split(" + ") else BETWEEN_METHODS
        tokens = [[t.batch_tokens for t in each if t.batch_tokens is not None] for each in trained]
        every = [value for each in tokens for value in each]
        if every and max(every) > min(every) * (1 + share):
            yield _gap("tokens per step", *(round(sum(each) / len(each)) if each else None for each in tokens))


def _unequal(name: str, first: set[Any], second: set[Any]) -> Iterable[Text]:
    # Seeds of one cell that differ among themselves are a difference too.
    if len(first | second) > 1:
        yield _gap(name, *(" / ".join(sorted(map(_shown, values))) or "unknown" for values in (first, second)))


def _gap(name: str, first: Any, second: Any) -> Text:
    one, other = _shown(first), _shown(second)
    return Text(f"{name} ({one}, {other})", f"{ZH.get(name, name)}（{one}，{other}）")


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "unknown" if value is None else str(value)[:100]


def _differing(first: Cell, second: Cell) -> list[str]:
    one, other = first.settings, second.settings
    # A setting that one of the two does not depend on (training, for a baseline) is no difference.
    both = first.trains and second.trains
    keys = one.keys() | other.keys() if both else one.keys() & other.keys()
    return sorted(key for key in keys if one.get(key) != other.get(key))


def _any_below(keys: Iterable[str], root: str) -> bool:
    return any(_is_below(key, (root,)) for key in keys)


def _is_below(key: str, roots: tuple[str, ...]) -> bool:
    return any(root and (key == root or key.startswith(root + ".")) for root in roots)
