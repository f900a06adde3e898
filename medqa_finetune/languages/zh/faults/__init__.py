"""Faults: what is wrong, and what to do; a text is a clause of a problem, or a sentence of a hint."""

from medqa_finetune.languages.zh.faults import command_line, data, evaluation, models, running, settings

TEXTS = {**settings.TEXTS, **command_line.TEXTS, **data.TEXTS, **models.TEXTS, **evaluation.TEXTS, **running.TEXTS}
