"""Identities and folder names of trainings and evaluations.

A training is identified by what changes the weights: model, corpus, data size and splits, method, training settings,
seed. An evaluation is identified by what changes the scores of given weights: number of test questions, generation
settings, backend, metrics, benchmarks. The identities are separate, so that another evaluation never trains again.
"""

import copy
import dataclasses
import json
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from itertools import chain, combinations
from pathlib import PurePath
from typing import Any

from omegaconf import MISSING

from medqa_finetune.config.folder_names import SEPARATOR, digest_of, plain, setting_in_name, shortened
from medqa_finetune.config.ranges import AUTO
from medqa_finetune.config.schema import Config
from medqa_finetune.methods.registry import described, method_of

# Increase the first when the same settings give other weights, the second when the same weights get other scores.
RESULTS_VERSION = 5
EVALUATION_VERSION = 1
# Results version since which `corpus.system=null` leaves out system prompts among messages; before, null was `auto`.
NULL_LEAVES_OUT_SINCE = 5
# The same arithmetic in fewer launches; before, adapters had the plain one where CUDA is.
SAME_ON_CUDA = {"adamw_torch_fused": "adamw_torch"}
# Settings that are in no identity while they have this value, so that runs from before they existed keep theirs.
LEFT_OUT_AS = {"fp32_blocks": AUTO, "train.validation_samples": None, "corpus.group": None}
DEFAULT_EVALUATION = "default"

# Where they are `auto`, a run keeps what it began with; the values change dropout's random numbers and rounding.
LEFT_TO_CHOICE = ("train.micro_batch", "train.gradient_checkpointing")
# Where they are `auto`, they follow from the size of the data, by a rule that later versions may change.
LEFT_TO_SIZE = ("train.validations", "train.validation_samples")
# Their defaults before `auto`, which names of older runs are relative to; None for a setting that did not exist.
CHOSEN_BEFORE: Mapping[str, object] = {
    "train.micro_batch": 4,
    "train.gradient_checkpointing": True,
    "train.validations": 5,
    "train.validation_samples": None,
}

# Settings that cannot change the result: locations, names, trackers.
NOT_IDENTITY = (
    "outputs",
    "study",
    "run_name",
    "evaluation_name",
    "overwrite",
    "threads",
    "time_limit",
    "storage",
    "tracker",
    "method.name",
    "data.name",
    "data.scale",
    "data.train_size",
    "data.validation_size",
    "data.test_size",
    "corpus.name",
    "corpus.path",
    "corpus.hub",
    "corpus.repository",
    "corpus.revision",
    "corpus.files",
    "corpus.max_reject_share",
    # What it comes to is `corpus.effective_parts`.
    "corpus.parts",
    "model.name",
    "model.path",
    "model.repository",
    "model.modelscope_repository",
    "model.revision",
    "model.chat_template",
    "train.sharding",
    "train.logging_steps",
    "train.warmup_steps_unmetered",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    "evaluate.text_path",
)

EVALUATE = "evaluate"
# Evaluation settings that change speed, and scores by rounding at most; and the location of the text.
NOT_EVALUATION = ("evaluate.batch_size", "evaluate.batch_tokens", "evaluate.cuda_graphs", "evaluate.text_path")
# Settings without effect on the likelihood of running text.
ANSWERS_ONLY = ("evaluate.max_new_tokens", "evaluate.backend", "evaluate.metrics", "evaluate.timeout_seconds")
# Evaluation settings that change a prediction, or the likelihood of a block of running text.
ANSWER_SETTINGS = ("evaluate.max_new_tokens", "evaluate.backend", "evaluate.timeout_seconds")
BLOCK_SETTINGS = ("evaluate.stride",)


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """sha256 of the files that the settings refer to: the corpus, the model and a text.

    Attributes:
        corpus: Over the bytes of the corpus.
        model: Over the model's files and chat template.
        text: Of `evaluate.text`; None where that is null.
        parts: What `corpus.parts` comes to where that changes the sets (`data.parts.division_of`); None elsewhere.
    """

    corpus: str
    model: str
    text: str | None = None
    parts: str | None = None


def settings_of(config: Config, fingerprints: Fingerprints, results_version: int = RESULTS_VERSION) -> dict[str, Any]:
    """Return the whole configuration as nested plain values, with effective sizes and fingerprints added.

    Args:
        config: The configuration.
        fingerprints: Hashes of the files that it refers to.
        results_version: That of the training; of trained weights, the one that they were trained with.
    """
    settings = dataclasses.asdict(config)
    del settings["interpolated"]
    settings["data"] |= {
        "effective_train_size": config.train_size,
        "effective_validation_size": config.validation_size,
        "effective_test_size": config.test_size,
    }
    settings["corpus"]["sha256"] = fingerprints.corpus
    if fingerprints.parts is not None:
        settings["corpus"]["effective_parts"] = fingerprints.parts
    settings["model"]["fingerprint"] = fingerprints.model
    if fingerprints.text is not None:
        settings["evaluate"]["text_sha256"] = fingerprints.text
    settings["results_version"] = results_version
    return settings


def as_written(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return settings as written to disk: interpolated texts (`${oc.env:TOKEN}`) unresolved, without their values."""
    kept = copy.deepcopy(dict(settings))
    for key, text in config.interpolated.items():
        section, _, name = key.rpartition(".")
        (kept[section] if section else kept)[name] = text
    return kept


def training_identity(settings: Mapping[str, object]) -> str:
    """Return 16 hexadecimal digits, equal if and only if no setting that can change the weights differs."""
    return _digest(training_settings(settings))


def evaluation_identity(settings: Mapping[str, object]) -> str:
    """Return 16 hexadecimal digits of the settings that can change the scores of given weights, whatever the method."""
    return _digest(evaluation_settings(settings))


def first_identity(settings: Mapping[str, object]) -> str:
    """Return the identity in records of schema version 1, which covers training and evaluation together."""
    return _digest(identity_settings(settings))


def _digest(settings: Mapping[str, object]) -> str:
    return digest_of(json.dumps(settings, sort_keys=True, ensure_ascii=False))[:16]


def training_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings that can change the weights, as dotted keys with plain values."""
    return {key: value for key, value in identity_settings(settings).items() if not _is_below(key, (EVALUATE,))}


def evaluation_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings that can change the scores of given weights, as dotted keys with plain values.

    They do not depend on the method, so that baselines and trained runs of one matrix share an evaluation. Left out are
    the order of metrics and tasks, a `max_samples` that is not below the number of questions, and null settings, which
    earlier versions did not have.
    """
    whole = _schema_defaults() | flatten(settings)
    of_text = whole.get("corpus.task") == "text"
    unused = [*NOT_EVALUATION, *(ANSWERS_ONLY if of_text else ())]
    # `max_samples` limits benchmarks too, whose number of items is not known here.
    benchmarks = of_text or whole.get("evaluate.text") is not None or bool(whole.get("evaluate.zero_shot"))
    most, questions = whole.get("evaluate.max_samples"), whole.get("data.effective_test_size")
    if not benchmarks and isinstance(most, int) and isinstance(questions, int) and most >= questions:
        unused.append("evaluate.max_samples")
    found = {
        key: _in_order(value)
        for key, value in whole.items()
        if _is_below(key, (EVALUATE,)) and not _is_below(key, tuple(unused)) and value is not None
    }
    return found | {"version": EVALUATION_VERSION}


def answer_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the evaluation settings that change a single prediction, or the likelihood of a single block.

    Predictions without a model depend on none of them.
    """
    whole = _schema_defaults() | flatten(settings)
    if not described(whole.get("method.trains")).loads_model:
        return {}
    kept = BLOCK_SETTINGS if whole.get("corpus.task") == "text" else ANSWER_SETTINGS
    return {key: whole.get(key) for key in kept}


def identity_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that can change weights or scores, as dotted keys with plain values.

    Settings that are newer than the run get the schema's default. A new default must keep the earlier behaviour;
    otherwise `RESULTS_VERSION` is raised.
    """
    method = described(settings["method"]["trains"])
    return {
        key: SAME_ON_CUDA.get(value, value) if key == "method.optimizer" else value
        for key, value in (_schema_defaults() | as_meant(flatten(settings))).items()
        if not _is_below(key, NOT_IDENTITY) and method.uses(key) and (key, value) not in LEFT_OUT_AS.items()
    }


def as_meant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a record, as dotted keys, with values that have another meaning since replaced."""
    is_before = settings.get("results_version", RESULTS_VERSION) < NULL_LEAVES_OUT_SINCE
    system = {"corpus.system": AUTO} if is_before and settings.get("corpus.system", "") is None else {}
    return {**settings, **system}


def is_same_training(record: Mapping[str, object], identity: str, settings: Mapping[str, object]) -> bool:
    """Return whether a run on disk has the same training as these settings.

    Args:
        record: Settings of the run on disk.
        identity: Its identity when it was started.
        settings: Settings of the requested training.
    """
    settings = as_begun(settings, record)
    wanted = training_identity(settings)
    # Identities of earlier versions cover fewer settings; those of version 1 include the evaluation.
    as_first = {**settings, EVALUATE: record.get(EVALUATE, {})}
    return identity in (wanted, first_identity(as_first)) or training_identity(record) == wanted


def as_begun(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return requested settings with what is `auto` among them as a run on disk has it.

    Runs of earlier versions, whose defaults were numbers, are thus continued with these.
    """
    section, begun = dict(settings["train"]), record.get("train")
    if isinstance(begun, Mapping):
        for key in (*LEFT_TO_CHOICE, *LEFT_TO_SIZE):
            name = key.removeprefix("train.")
            if section.get(name) == AUTO:
                section[name] = begun.get(name, CHOSEN_BEFORE[key])
    return {**settings, "train": section}


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return one `key: old -> new` per training setting in which a run on disk and a requested one differ."""
    before, after = training_settings(old), training_settings(as_begun(new, old))
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level of dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def default_settings(section: str) -> dict[str, Any]:
    """Return the default of every setting of a section that has one, keys without the section."""
    defaults = _schema_defaults()
    return {key.removeprefix(f"{section}."): value for key, value in defaults.items() if _is_below(key, (section,))}


@cache
def _schema_defaults() -> dict[str, Any]:
    values = {}
    for each in dataclasses.fields(Config):
        factory = each.default_factory
        made = each.default if factory is dataclasses.MISSING else factory()
        values[each.name] = dataclasses.asdict(made) if dataclasses.is_dataclass(made) else made  # type: ignore[arg-type]
    return {key: value for key, value in flatten(values).items() if value != MISSING}


# A summary asks this a thousand times a run, of the same few hundred keys.
@lru_cache(maxsize=1 << 14)
def _is_below(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


# Settings not in folder names: other parts of the name contain them, or they change no weights.
NOT_NAMED = (
    "outputs",
    "study",
    "run_name",
    "evaluation_name",
    "overwrite",
    "threads",
    "time_limit",
    "storage",
    "tracker",
    "corpus.path",
    "corpus.name",
    "method.name",
    "data.name",
    "model.name",
    "model.path",
    "train.sharding",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    EVALUATE,
)


def run_name(config: Config, defaults: Mapping[str, object], labels: Mapping[str, str]) -> str:
    """Return the folder name of a training: `<method>_<data>`, then `__key=value` for what differs from the defaults.

    Args:
        config: The run's settings.
        defaults: Values of the same groups without single overrides, as dotted keys.
        labels: Labels of a `model` and `corpus` that are not the default ones.
    """
    return _name_of(config, _named_settings(config, defaults), defaults, labels)


def _named_settings(config: Config, defaults: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings that a folder's name has where they differ from defaults, as dotted keys."""
    method = method_of(config.method)
    # The name of the size replaces it.
    renamed = ("data.train_size",) if config.data.name != defaults.get("data.name", config.data.name) else ()
    unnamed = (*NOT_NAMED, *renamed)
    settings = flatten(as_written(dataclasses.asdict(dataclasses.replace(config, interpolated={})), config))
    return {key: value for key, value in settings.items() if not _is_below(key, unnamed) and method.uses(key)}


def _name_of(
    config: Config, named: Mapping[str, Any], defaults: Mapping[str, object], labels: Mapping[str, str]
) -> str:
    trained_on_data = method_of(config.method).uses_training_data
    parts = [f"{config.method.name}_{config.data.name}" if trained_on_data else config.method.name]
    parts += [f"{kind}={plain(label)}" for kind, label in labels.items()]
    parts += [setting_in_name(key, value) for key, value in named.items() if value != defaults.get(key, value)]
    return shortened(SEPARATOR.join(parts))


def former_run_names(config: Config, defaults: Mapping[str, object], labels: Mapping[str, str]) -> list[str]:
    """Return the names that earlier versions, with other defaults of what is `auto` now, gave this training.

    Args:
        config: As in `run_name`, as are the others.
        defaults: Today's.
        labels: Labels.
    """
    changed = [key for key in CHOSEN_BEFORE if defaults.get(key) == AUTO]
    combined = chain.from_iterable(combinations(changed, number) for number in range(len(changed) + 1))
    named = _named_settings(config, defaults)
    names = [_name_of(config, named, _with_former(defaults, keys), labels) for keys in combined]
    return [name for name in dict.fromkeys(names) if name != names[0]]


def _with_former(defaults: Mapping[str, object], keys: Collection[str]) -> dict[str, object]:
    """Return defaults with those of earlier versions for some keys; a key that did not exist named no run."""
    former = {**defaults, **{key: CHOSEN_BEFORE[key] for key in keys}}
    return {key: value for key, value in former.items() if value is not None or key not in keys}


def evaluation_name(
    settings: Mapping[str, Any],
    defaults: Mapping[str, object],
    text: str | None = None,
    written: Mapping[str, Any] | None = None,
) -> str:
    """Return the folder name of an evaluation: `key=value` for what differs from the defaults, joined with `__`.

    Settings outside its identity are left out, so that one evaluation has one name.

    Args:
        settings: All settings.
        defaults: Default settings of the section `evaluate`, keys without the section.
        text: Label of `evaluate.text`; None without a text.
        written: The section `evaluate` as written to disk, where that differs.
    """
    own = settings[EVALUATE]
    usual = evaluation_settings({**settings, EVALUATE: {"text_sha256": own.get("text_sha256"), **defaults}})
    asked = evaluation_settings(settings)
    parts = []
    for key in sorted(asked.keys() | usual.keys()):
        name = key.removeprefix(f"{EVALUATE}.")
        if name == "text_sha256" or asked.get(key) == usual.get(key):
            continue
        value = text if name == "text" and text is not None else (own if written is None else written).get(name)
        parts.append(setting_in_name(name, _in_order(value)))
    return shortened(SEPARATOR.join(parts)) or DEFAULT_EVALUATION


def _in_order(value: object) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def file_label(name: str, path: str | None, sha256: str) -> str:
    """Return the label of a corpus or text in names; for a user's file, its name and a digest of its content.

    Args:
        name: Name of the corpus.
        path: Its configured path; None where the name identifies it.
        sha256: Over its bytes.
    """
    if path is None:
        return name
    # Of `shards/*.jsonl`, the folder.
    stems = (part.partition(".")[0] for part in reversed(PurePath(path).parts))
    stem = next((stem for stem in stems if stem.strip("*?[]")), name)
    return f"{stem}-{sha256[:6]}"
