"""Finds metrics in `evaluation/metrics/` and entry points, with the descriptions of their scores."""

import importlib
import logging
from collections.abc import Mapping
from functools import cache

from medqa_finetune.config.evaluation_checks import METRIC_GROUP, entry_points_of_metrics, metric_names, shipped_metrics
from medqa_finetune.config.schema import DEFAULT_METRICS
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.evaluation import metrics
from medqa_finetune.evaluation.metrics.base import Better, Metric, Prominence, ScoreInfo

log = logging.getLogger(__name__)

# Characters with a meaning in signatures and score names: counts, benchmarks, scores that are not comparable.
RESERVED = (".", "/", "=", ";", "#")


def find_metric(name: str) -> Metric:
    """Return the metric of a name: `METRIC` of `evaluation/metrics/<name>.py`, or the object of an entry point.

    Raises:
        ConfigError: there is no such metric (lists those that exist), or the object is not a metric.
    """
    if name not in metric_names():
        allowed = tuple(metric_names())
        hint = f"If a package of its own defines it (entry point {METRIC_GROUP}), install that."
        raise ConfigError(Fault("not-allowed", "no such metric", key="metrics", got=name, allowed=allowed, hint=hint))
    if name in shipped_metrics():
        place = f"{metrics.__name__}.{name}"
        found: object = getattr(importlib.import_module(place), "METRIC", None)
    else:
        point = entry_points_of_metrics()[name]
        place = point.value
        try:
            found = point.load()
        except Exception as error:
            problem = f"{place} cannot be loaded: {type(error).__name__}: {error}"
            raise ConfigError(Fault("not-a-metric", problem, key="metrics", got=name)) from error
    if not isinstance(found, Metric):
        raise ConfigError(Fault("not-a-metric", f"{place} has no METRIC that is a Metric", key="metrics", got=name))
    if wrong := [info.name for info in found.scores if not info.name or any(sign in info.name for sign in RESERVED)]:
        problem = f"{place} has a score {wrong[0]!r}; names must not be empty or contain {' '.join(RESERVED)}"
        raise ConfigError(Fault("not-a-metric", problem, key="metrics", got=name))
    return found


@cache
def default_scores() -> tuple[ScoreInfo, ...]:
    """Return the descriptions of the scores of `DEFAULT_METRICS`, in this order; tables always have their columns."""
    return tuple(info for name in DEFAULT_METRICS for info in find_metric(name).scores)


@cache
def all_scores() -> Mapping[str, ScoreInfo]:
    """Return the descriptions of the scores of all installed metrics, by name, the defaults first.

    An entry point that cannot be loaded is left out with a warning; its scores are shown by name only.
    """
    found = {info.name: info for info in default_scores()}
    for name in metric_names():
        if name in DEFAULT_METRICS:
            continue
        try:
            metric = find_metric(name)
        except ConfigError as error:
            log.warning("%s", error)
            continue
        for info in metric.scores:
            if found.setdefault(info.name, info) is not info:
                log.warning("the score %s of the metric %s has the name of another score", info.name, name)
    return found


def describe(name: str) -> ScoreInfo:
    """Return the description of a score; for a metric that is not installed it contains only the name."""
    return all_scores().get(name) or ScoreInfo(name, Better.NEITHER, low=float("-inf"))


def headlines() -> tuple[ScoreInfo, ...]:
    """Return the scores that verdicts are based on, by priority: the first that the runs have is used."""
    return tuple(info for info in all_scores().values() if info.prominence is Prominence.HEADLINE)


def shortlist(*, running_text: bool = False) -> tuple[ScoreInfo, ...]:
    """Return the few scores shown where space is limited: the headlines, and those that records store as fields."""
    keys = {score.key for score in headlines()}
    return tuple(score for score in all_scores().values() if score.running_text is running_text and score.key in keys)
