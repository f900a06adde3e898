"""What the figures of a plan rest on, and whether its cells fit into the card."""

from collections.abc import Mapping, Sequence
from typing import Any

from medqa_finetune.languages.translate import say
from medqa_finetune.memory import in_units
from medqa_finetune.planning.cost_model import EFFICIENCY, Workload
from medqa_finetune.planning.plan_cells import Plan


def describe_fit(rows: Sequence[Mapping[str, Any]], workload: Workload) -> list[str]:
    """Return which cells need more memory than the card has, what decides their time, and how good the figures are."""
    if workload.gpu is None:
        return []
    machine = workload.machine
    large = [each for each in rows if each["fits"] is False]
    room, names = in_units(machine.memory_bytes), ", ".join(each["name"] for each in large)
    choices = {(each["batches"]["micro_batch"], each["batches"]["gradient_checkpointing"]) for each in large}
    smaller = "" if choices <= {(1, True)} else "train.micro_batch=1, train.gradient_checkpointing=true, "
    said = [
        say(
            "Do not fit into the {room} of the {machine}: {names}. Less is needed with {settings} or a shorter "
            "train.max_length.",
            room=room,
            machine=machine.name,
            names=names,
            settings=f"{smaller}method=qlora",
        )
        if large
        else say("All fit into the {room} of the {machine}.", room=room, machine=machine.name)
    ]
    limits = {str(each["training_limit"]): each["training_utilization"] for each in rows if each["training_limit"]}
    if limits:
        words = {
            "products": say("matrix products"),
            "memory": say("memory traffic"),
            "launches": say("launching kernels"),
        }
        parts = say(" or ").join(words[name] for name in limits)
        shares = [each["training_utilization"] or 0.0 for each in rows if each["training_limit"]]
        span = say(" to ").join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))
        said.append(say("Training is limited by {parts}; {span} of the data sheet's rate.", parts=parts, span=span))
    return said


def describe_basis(found: Plan) -> list[str]:
    """Return where the figures of a plan come from."""
    machine = found.workload.machine
    speed = ", ".join(f"{rate / 1e12:.3g} TFLOP/s ({name})" for name, rate in matrix_rates(found).items())
    on_gpu = machine.type == "cuda"
    lines = [
        say(
            "{machine}; memory is the peak of GPU memory; disk is the most a cell may take."
            if on_gpu
            else "{machine}; memory is the peak of resident memory; disk is the most a cell may take.",
            machine=f"{machine.name}{': ' if speed else ''}{speed}",
        )
    ]
    if found.without_model:
        lines.append(
            say(
                "Not trained, answers are looked up: {names}; measured here on a few questions.",
                names=", ".join(found.without_model),
            )
        )
    if len(found.without_model) == len(found.forecasts):
        return lines
    if found.workload.gpu is not None:
        lines.append(
            say(
                "Computed from that card's data sheet (docs/gpu.md), not measured: correct within about a factor "
                "of two."
            )
        )
    elif found.trials:
        lines.append(say("Measured here: a few steps and answers of {count} kind(s) of cells.", count=found.trials))
    else:
        lines.append(
            say(
                "Computed at {share} of that speed, correct within about a factor of two; plan.probe=true measures.",
                share=f"{EFFICIENCY:.0%}",
            )
        )
    if found.without_weights:
        lines.append(f"Random weights replace those of {', '.join(found.without_weights)}, which are not here.")
    return lines


def matrix_rates(found: Plan) -> dict[str, float]:
    """Return FLOP/s by precision, with the resolved name in place of `auto`."""
    precision = found.workload.machine.precision
    return {precision if name == "auto" else name: rate for name, rate in found.workload.matrix_rates.items()}
