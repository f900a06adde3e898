"""Chinese medical question answering: what do more data and the method buy, and what do they cost?

`finetune`, `evaluate` and `chat` are the commands as functions; see `medqa_finetune/api.py`. Torch is loaded when one
of them is called, not when this package is imported.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medqa_finetune.api import chat, evaluate, finetune

if sys.platform == "win32":
    # Signal handling, process groups and positional reads need POSIX.
    print("error: medqa_finetune runs on Linux and macOS; on Windows, run it in WSL2 (wsl --install).", file=sys.stderr)
    raise SystemExit(2)

__version__ = "0.1.0"
__all__ = ["chat", "evaluate", "finetune"]


class _Package(ModuleType):
    """Keeps the functions `evaluate` and `chat`, although the modules of these commands have the same names.

    Importing `medqa_finetune.evaluate` makes Python set that module as an attribute of the package. Without this class,
    `from medqa_finetune import evaluate` would return the function or the module, depending on earlier imports. `from
    medqa_finetune.evaluate import …` and `python -m` still find the module; `import … as` does not.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from medqa_finetune import api

    return getattr(api, name)


sys.modules[__name__].__class__ = _Package
