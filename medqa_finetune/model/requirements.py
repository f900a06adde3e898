"""Requirements that are checked before runs start, each once for all runs of a matrix that share it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from medqa_finetune.config.chat_form import PLAIN_FORM, ChatForm, form_of
from medqa_finetune.config.schema import Config, MethodConfig, ModelConfig
from medqa_finetune.methods.registry import method_of

# Counts from preparing a corpus, by name.
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Need:
    """Requirements of one run.

    Attributes:
        chats: Whether a chat template is needed, as for all but running text.
        form: In which form it renders dialogues.
        template: `model.chat_template`, for a model without one.
        backend: `evaluate.backend`.
        max_new_tokens: Maximum tokens of a prediction, for backends other than transformers; else 0.
        kernels: `train.kernels` if weights are trained, else `torch`.
        fp32_blocks: Blocks named by `fp32_blocks`.
        extra_fields: Known fields of examples in addition to question and answer: `system`, `history`.
    """

    folder: str
    method: MethodConfig
    precision: str
    max_length: int
    chats: bool = True
    form: ChatForm = PLAIN_FORM
    template: str | None = None
    extra_fields: tuple[str, ...] = ()
    backend: str = "transformers"
    max_new_tokens: int = 0
    kernels: str = "torch"
    fp32_blocks: tuple[str, ...] = ()


def distinct_needs(
    configs: Iterable[Config], counts: Iterable[Counts], folders: Mapping[ModelConfig, Path]
) -> list[Need]:
    """Return the distinct requirements of the runs.

    Args:
        configs: Configurations of the runs.
        counts: Counts from preparing the data of each run.
        folders: Folders of their models.
    """
    needs = [
        Need(
            folder=str(folders[each.model]),
            method=each.method,
            precision=each.precision,
            max_length=each.train.max_length,
            chats=each.chats,
            form=form_of(each.model, counted),
            template=each.model.chat_template,
            extra_fields=_extra_fields(counted),
            backend=each.evaluate.backend,
            max_new_tokens=each.evaluate.max_new_tokens if each.evaluate.backend != "transformers" else 0,
            kernels=each.train.kernels if method_of(each.method).trains_weights else "torch",
            fp32_blocks=() if isinstance(each.fp32_blocks, str) else tuple(each.fp32_blocks),
        )
        for each, counted in zip(configs, counts, strict=True)
    ]
    return list({json.dumps(asdict(need)): need for need in needs}.values())


def _extra_fields(counts: Counts) -> tuple[str, ...]:
    return tuple(name for name in ("system", "history") if counts.get(f"pairs_with_{name}"))
