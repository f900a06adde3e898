"""Chat templates for models that have none: `model.chat_template=NAME`, or a Jinja file of one's own."""

from pathlib import Path

from medqa_finetune.errors import Fault, ModelError

TEMPLATE_KEY = "model.chat_template"
SUFFIX = ".jinja"


def template_names() -> list[str]:
    """Return the names of the templates that ship with the package."""
    return sorted(path.stem for path in Path(__file__).parent.glob(f"*{SUFFIX}"))


def allowed_templates() -> tuple[str, ...]:
    """Return what `model.chat_template` may be, for a fault."""
    return (*template_names(), "a Jinja file")


def read_template(name: str | None) -> str | None:
    """Return the text of a chat template: one of ours by name, else a file; None for none.

    Raises:
        ModelError: there is neither, or the file is no text.
    """
    if name is None:
        return None
    path = Path(__file__).parent / f"{name}{SUFFIX}" if name in template_names() else Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _unusable("file-missing", "no such file", name, allowed_templates()) from None
    except OSError as error:
        raise _unusable("not-readable", f"cannot be read ({error.strerror})", name) from None
    except UnicodeDecodeError as error:
        raise _unusable("not-utf8", f"is not UTF-8 (byte {error.start})", name) from None


def _unusable(code: str, problem: str, name: str, allowed: tuple[str, ...] = ()) -> ModelError:
    return ModelError(Fault(code, problem, key=TEMPLATE_KEY, got=name, allowed=allowed))
