"""What makes two runs the same run, and what a run's folder is called."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import MISSING

from medqa_finetune.config.checks import FOLDER_NAME_BYTES
from medqa_finetune.config.schema import Config

# Raised when the code changes so that the same settings give other results.
RESULTS_VERSION = 3

# Settings that cannot change the result: where things lie, how they are called, who is told.
NOT_IDENTITY = (
    "outputs", "study", "run_name", "overwrite", "threads", "tracker", "method.name", "data.name", "data.scale",
    "data.train_size", "data.validation_size", "data.test_size", "corpus.name", "corpus.path", "corpus.hub",
    "corpus.repository", "corpus.revision", "corpus.files", "corpus.max_reject_share", "model.name", "model.path",
    "model.repository", "model.revision", "model.chat_template", "train.logging_steps", "train.warmup_steps_unmetered",
    "train.checkpoint_minutes", "train.checkpoint_steps", "evaluate.text_path",
)  # fmt: skip

# Settings that a run which trains nothing does not depend on, and what of them still shapes its answers: how the base
# is held, and how long a text may be.
TRAINING_ONLY = (
    "seed",
    "train",
    "method",
    "data.train_size",
    "data.effective_train_size",
    "data.near_duplicate_threshold",
)
# Looking answers up depends on the training pairs, and on nothing that a model needs.
MODEL_ONLY = (
    "seed", "train", "method.rank", "method.alpha", "method.dropout", "method.target_modules", "method.quantization",
    "method.double_quantization", "method.compute_dtype", "method.rslora", "method.dora", "method.loraplus_ratio",
    "method.optimizer", "method.optimizer_without_cuda", "evaluate.backend", "evaluate.zero_shot",
    "evaluate.zero_shot_folder", "evaluate.text", "evaluate.stride",
)  # fmt: skip
BASELINE = ("method.quantization", "method.double_quantization", "method.compute_dtype", "train.max_length")


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """What the settings point at: sha256 over the corpus bytes, over the model's files, and over those of a text.

    Attributes:
        text: Of `evaluate.text`; None where it is not asked for.
    """

    corpus: str
    model: str
    text: str | None = None


def settings_of(config: Config, fingerprints: Fingerprints) -> dict[str, Any]:
    """Return the whole configuration as nested plain values, with effective sizes and fingerprints beside it."""
    settings = dataclasses.asdict(config)
    del settings["interpolated"]
    settings["data"] |= {
        "effective_train_size": config.train_size,
        "effective_validation_size": config.validation_size,
        "effective_test_size": config.test_size,
    }
    settings["corpus"]["sha256"] = fingerprints.corpus
    settings["model"]["fingerprint"] = fingerprints.model
    if fingerprints.text is not None:
        settings["evaluate"]["text_sha256"] = fingerprints.text
    settings["results_version"] = RESULTS_VERSION
    return settings


def as_written(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return settings for the disk: interpolated texts (`${oc.env:TOKEN}`) as written, without their values."""
    kept = copy.deepcopy(dict(settings))
    for key, text in config.interpolated.items():
        section, _, name = key.rpartition(".")
        (kept[section] if section else kept)[name] = text
    return kept


def identity_of(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that two runs share exactly when nothing that can change their result differs."""
    canonical = json.dumps(identity_settings(settings), sort_keys=True, ensure_ascii=False)
    return _sha256(canonical)[:16]


def identity_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that can change the result, as dotted keys with plain values.

    A setting that is not there, for it came into being after the run, has the default of the schema: what a new setting
    does unless it is asked for is what was done before, or `RESULTS_VERSION` is raised.
    """
    trains = settings["method"]["trains"]
    return {
        key: value
        for key, value in (_schema_defaults() | flatten(settings)).items()
        if not _is_below(key, NOT_IDENTITY) and not _is_unused(key, trains)
    }


def is_same_run(record: Mapping[str, Any], identity: str, settings: Mapping[str, Any]) -> bool:
    """Say whether a run on disk is the one that settings ask for.

    Args:
        record: Settings of the run on disk.
        identity: Its identity, as it was when the run began.
        settings: What is asked for.
    """
    wanted = identity_of(settings)
    # Fewer settings made the identity of a run that an earlier version of this package began.
    return identity == wanted or identity_of(record) == wanted


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one `key: old -> new` per identity setting in which two runs differ."""
    before, after = identity_settings(old), identity_settings(new)
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level of dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


@cache
def _schema_defaults() -> dict[str, Any]:
    """Return the default of every setting that has one, as dotted keys."""
    values = {}
    for each in dataclasses.fields(Config):
        factory = each.default_factory
        made = each.default if factory is dataclasses.MISSING else factory()
        values[each.name] = dataclasses.asdict(made) if dataclasses.is_dataclass(made) else made  # type: ignore[arg-type]
    return {key: value for key, value in flatten(values).items() if value != MISSING}


def _is_unused(key: str, trains: str) -> bool:
    """Say whether a run that trains so does not depend on a setting."""
    if trains == "nothing":
        return _is_below(key, TRAINING_ONLY) and key not in BASELINE
    return trains == "lookup" and _is_below(key, MODEL_ONLY)


def _is_below(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


# Settings that are left out of a folder's name: other parts of the name say them, or they change no result.
NOT_NAMED = ("outputs", "study", "run_name", "overwrite", "threads", "tracker", "corpus.path", "corpus.name",
             "method.name", "data.name", "model.name", "model.path", "train.checkpoint_minutes",
             "train.checkpoint_steps", "evaluate.text", "evaluate.text_path")  # fmt: skip


def run_name(config: Config, defaults: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return the folder name of a run: `<method>_<data>`, then `__key=value` for what differs from the defaults.

    Args:
        config: The run's settings.
        defaults: The values of the same groups without any single setting changed, as dotted keys.
        labels: Names of what is used in place of the default `model` and `corpus`, and of a `text` beside the answers.
    """
    trains_nothing = config.method.trains == "nothing"
    parts = [config.method.name if trains_nothing else f"{config.method.name}_{config.data.name}"]
    parts += [f"{kind}={_plain(label)}" for kind, label in labels.items()]
    # A size with a name of its own is said by that name.
    renamed = ("data.train_size",) if config.data.name != defaults.get("data.name", config.data.name) else ()
    settings = as_written(dataclasses.asdict(dataclasses.replace(config, interpolated={})), config)
    for key, value in flatten(settings).items():
        named = not _is_below(key, (*NOT_NAMED, *renamed)) and not _is_unused(key, config.method.trains)
        if named and value != defaults.get(key, value):
            parts.append(f"{key}={_plain(_as_text(value))}")
    return _short("__".join(parts))


def _as_text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(text: str) -> str:
    """Replace what a file system or a shell could trip over; a digest keeps two such texts apart."""
    plain = "".join("-" if c in "/\\:*?\"<>|' $&;()[]{}`!#~" or not c.isprintable() else c for c in text)
    # A name that ends in a dot is another one on Windows, and `.old-` marks a folder that was moved aside.
    plain = plain.rstrip(".").replace(".old-", "-old-")
    return plain if plain == text else f"{plain[:40]}-{_sha256(text)[:6]}"


def _short(name: str) -> str:
    """Cut a name to what file systems allow in UTF-8 bytes; a digest of the whole keeps two such names apart."""
    encoded = name.encode("utf-8")
    if len(encoded) <= FOLDER_NAME_BYTES:
        return name
    return encoded[: FOLDER_NAME_BYTES - 10].decode("utf-8", errors="ignore") + "__" + _sha256(name)[:8]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
