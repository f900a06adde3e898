"""What a plan says of a card that is not here: which cells do not fit, and what decides their time."""

from collections.abc import Mapping, Sequence
from typing import Any

from medqa_finetune.languages.translate import say
from medqa_finetune.memory import in_units
from medqa_finetune.planning.cost_model import Workload
from medqa_finetune.planning.examples import listed


def describe_fit(rows: Sequence[Mapping[str, Any]], workload: Workload) -> list[str]:
    """Return which cells need more memory than the card has, what decides their time, and how good the figures are."""
    if workload.gpu is None:
        return []
    machine = workload.machine
    large = [each for each in rows if each["fits"] is False]
    room, names = in_units(machine.memory_bytes), listed([each["name"] for each in large], rows)
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
