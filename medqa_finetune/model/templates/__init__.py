"""Chat templates for models that have none: `model.chat_template=NAME`, or a Jinja file of one's own."""

from pathlib import Path

from medqa_finetune.errors import ModelError

SUFFIX = ".jinja"


def template_names() -> list[str]:
    """Return the names of the templates that ship with the package."""
    return sorted(path.stem for path in Path(__file__).parent.glob(f"*{SUFFIX}"))


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
        raise ModelError(
            f"model.chat_template={name}: no such file; allowed are {', '.join(template_names())}, or a Jinja file."
        ) from None
    except OSError as error:
        raise ModelError(f"model.chat_template={name}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"model.chat_template={name}: not UTF-8 (byte {error.start}).") from None
