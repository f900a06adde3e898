"""What a plan does not cover of the evaluations, and what it computes in their place."""

import dataclasses
from collections.abc import Iterable, Sequence

from medqa_finetune.config.schema import Config
from medqa_finetune.languages.translate import say


def answered_by_transformers(config: Config) -> Config:
    """Return the settings with the backend `transformers`: a few questions do not show how fast another backend is."""
    return dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, backend="transformers"))


def notes_on(configs: Sequence[Config]) -> Iterable[str]:
    """Yield what the figures do not cover."""
    if any(config.evaluate.backend != "transformers" for config in configs):
        yield say("Evaluation is computed as evaluate.backend=transformers does it.")
    if any(config.evaluate.zero_shot for config in configs):
        yield say("The time of the tasks of evaluate.zero_shot is not in it.")
    if any(config.evaluate.text is not None for config in configs):
        yield say("The time of evaluate.text is not in it.")
