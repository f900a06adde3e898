"""Finds methods: every file of this folder, and entry points of other packages."""

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from medqa_finetune import methods
from medqa_finetune.compat.failures import words_of
from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.methods.base import MethodWithoutModel, ModelMethod
from medqa_finetune.methods.settings import MethodConfig

GROUP = "medqa_finetune.methods"
KEY = "method.trains"

AnyMethod = ModelMethod | MethodWithoutModel


@cache
def own_methods() -> dict[str, type[AnyMethod]]:
    """Return the methods of this package by kind, in alphabetical order."""
    modules = [
        importlib.import_module(f"{methods.__name__}.{each.name}")
        for each in pkgutil.iter_modules(methods.__path__)
        if not each.ispkg
    ]
    found = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, AnyMethod) and each.__module__ == module.__name__
        if hasattr(each, "kind")
    ]
    return {each.kind: each for each in sorted(found, key=lambda each: each.kind)}


def method_names() -> tuple[str, ...]:
    """Return the allowed values of `method.trains`; methods of other packages are not imported."""
    return (*own_methods(), *(each for each in _entry_points() if each not in own_methods()))


def find_method(kind: str) -> type[AnyMethod] | None:
    """Return the method of a kind; None where there is none.

    Raises:
        ConfigError: another package's method cannot be imported, or is not a method of this kind.
    """
    if kind in own_methods():
        return own_methods()[kind]
    entry = _entry_points().get(kind)
    return None if entry is None else _load(entry)


def described(kind: object) -> type[AnyMethod]:
    """Return the method of a kind in a record, for its class attributes.

    For an unknown kind, or one that cannot be imported, `ModelMethod` has the attributes of most methods.
    """
    try:
        return find_method(str(kind)) or ModelMethod
    except ConfigError:
        return ModelMethod


def method_of(settings: MethodConfig) -> AnyMethod:
    """Return the method that settings select.

    Raises:
        ConfigError: `method.trains` names no method, or one that cannot be imported.
    """
    found = find_method(settings.trains)
    if found is None:
        hint = f"If a package of its own defines it (entry point {GROUP}), install that."
        allowed = method_names()
        raise ConfigError(
            Fault("not-allowed", "unknown value", key=KEY, got=settings.trains, allowed=allowed, hint=hint)
        )
    return found(settings)


def can_fuse(settings: MethodConfig) -> bool:
    """Return whether `train.fused_adapters` can take effect; also where no method is found, or nothing is trained."""
    try:
        method = method_of(settings)
    except ConfigError:
        return True
    return not method.trains_weights or (isinstance(method, ModelMethod) and method.can_fuse)


def sharding_faults(settings: MethodConfig) -> list[Fault]:
    """Return why several processes cannot divide what a method trains; empty also where nothing is trained."""
    try:
        method = method_of(settings)
    except ConfigError:
        return []
    return list(method.sharding_faults()) if method.trains_weights and isinstance(method, ModelMethod) else []


def method_faults(settings: MethodConfig) -> list[Fault]:
    """Return why settings select no method, or the method's faults of them."""
    try:
        return list(method_of(settings).faults())
    except ConfigError as error:
        return list(error.faults)


def model_method(settings: MethodConfig) -> ModelMethod:
    """Return the method that settings select.

    Raises:
        TypeError: it loads no model.
    """
    method = method_of(settings)
    if not isinstance(method, ModelMethod):
        raise TypeError(f"{settings.trains} loads no model")
    return method


def _entry_points() -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)}


@cache
def _load(entry: EntryPoint) -> type[AnyMethod]:
    try:
        found: type[AnyMethod] = entry.load()
    except Exception as error:  # another package may raise anything at import
        problem = f"{entry.value}, which a package adds, cannot be imported ({words_of(error)})"
        raise ConfigError(Fault("not-importable", problem, key=KEY, got=entry.name)) from None
    is_method = isinstance(found, type) and issubclass(found, AnyMethod)
    if not is_method or getattr(found, "kind", None) != entry.name:
        problem = f"{entry.value}, which a package adds, is no method of this kind"
        hint = "It must be a subclass of ModelMethod or MethodWithoutModel whose `kind` is the entry point's name."
        raise ConfigError(Fault("not-a-method", problem, key=KEY, got=entry.name, hint=hint))
    return found
