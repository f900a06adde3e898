"""What to do where a hub of models and data sets cannot be reached."""

import os
import sys
from importlib.util import find_spec

MIRROR = "https://hf-mirror.com"
ENDPOINT, OFFLINE = "HF_ENDPOINT", "HF_HUB_OFFLINE"
# Values that Hugging Face's client takes for true.
TRUE = ("1", "ON", "YES", "TRUE")


def is_offline() -> bool:
    """Return whether Hugging Face's client is told to use no network."""
    return os.environ.get(OFFLINE, "").upper() in TRUE


def other_ways(hub: str, option: str) -> str:
    """Return a hint with what else to try.

    Args:
        hub: The hub that cannot be reached.
        option: Key that chooses a hub: `source`, `corpus.hub`.
    """
    if hub == "modelscope":
        return f"Try the other hub: {option}=huggingface."
    if is_offline():
        return f"{OFFLINE} forbids the network: unset {OFFLINE}."
    extra = (
        ""
        if "modelscope" in sys.modules or find_spec("modelscope")
        else " (pip install 'medqa-finetune[modelscope]' first)"
    )
    if endpoint := os.environ.get(ENDPOINT, "").rstrip("/"):
        mirror = "" if endpoint == MIRROR else f"export {ENDPOINT}={MIRROR}, "
        return (
            f"{ENDPOINT}={endpoint} names what does not answer. What helps, in this order: {mirror}{option}=modelscope"
            f"{extra}, unset {ENDPOINT}."
        )
    return f"Where it is blocked, export {ENDPOINT}={MIRROR}, or give {option}=modelscope{extra}."
