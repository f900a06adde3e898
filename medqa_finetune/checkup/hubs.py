"""Which hubs answer, and which way they are reached: directly, through a mirror, through a proxy."""

import dataclasses
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.request import getproxies

from medqa_finetune.checkup.result import Check, State
from medqa_finetune.compat.failures import words_of
from medqa_finetune.config.hubs import ENDPOINT, MIRROR, TRUE
from medqa_finetune.errors import NO_VALUE, Fault
from medqa_finetune.languages.translate import say

HUGGING_FACE, MODELSCOPE = "https://huggingface.co", "https://www.modelscope.cn"
# With one of them, the hubs' clients use no network (huggingface_hub, transformers, datasets).
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# A name server that does not answer takes longer than any limit of a client, so threads are left behind.
SECONDS = 4.0
# A proxy that asks who we are, and what proxies and servers say that cannot answer.
PROXY_CODES, SERVER_ERROR = (407,), 500


@dataclasses.dataclass
class Answer:
    """What a hub said.

    Attributes:
        address: Its address.
        seconds: Time to its first answer; None where there was none.
        reason: Why there was none.
    """

    address: str
    seconds: float | None = None
    reason: str = "timed out"


def offline_by() -> str | None:
    """Return the environment variable that forbids the network; None for none."""
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in TRUE), None)


def endpoint() -> str:
    """Return the address that Hugging Face is reached by."""
    return os.environ.get(ENDPOINT, "").rstrip("/") or HUGGING_FACE


def check_hubs() -> Check:
    """Ask every hub for its first page, all at once."""
    if (variable := offline_by()) is not None:
        line = say("not asked: {variable}={value}", variable=variable, value=os.environ[variable])
        return Check("hubs", State.SKIPPED, line, {"offline": variable, "reachable": {}, "endpoint": endpoint()})
    answers = ask(dict.fromkeys([endpoint(), HUGGING_FACE, MIRROR, MODELSCOPE]))
    reached = {each.address: each.seconds for each in answers}
    proxies = sorted(name for name in getproxies() if name != "no")
    facts: dict[str, Any] = {"offline": None, "endpoint": endpoint(), "reachable": reached, "proxies": proxies}
    fault = _fault(reached, {each.address: each.reason for each in answers}, proxies)
    if fault is not None and not any(seconds is not None for seconds in reached.values()):
        return Check("hubs", State.WARNING, facts=facts, faults=[fault])
    shown = ", ".join(
        f"{_host(each.address)} {f'{each.seconds:.1f} s' if each.seconds is not None else say('no answer')}"
        for each in answers
    )
    line = say("{hubs} (by {proxies})", hubs=shown, proxies=", ".join(proxies)) if proxies else shown
    return Check("hubs", State.OK if fault is None else State.WARNING, line, facts, [] if fault is None else [fault])


def _fault(reached: Mapping[str, float | None], reasons: Mapping[str, str], proxies: Sequence[str]) -> Fault | None:
    """Return the fault of Hugging Face, as it is set, if it does not answer."""
    if reached[endpoint()] is not None:
        return None
    others = [address for address, seconds in reached.items() if seconds is not None]
    key = ENDPOINT if endpoint() != HUGGING_FACE else None
    problem = f"{_host(endpoint())} does not answer ({reasons[endpoint()]})"
    if HUGGING_FACE in others:
        hint = f"Unset it: unset {ENDPOINT}."
    elif MIRROR in others:
        hint = f"Use the mirror: export {ENDPOINT}={MIRROR}."
    elif MODELSCOPE in others:
        hint = "Download from ModelScope: source=modelscope for models, corpus.hub=modelscope for data."
    else:
        problem = f"none answers of {', '.join(map(_host, reached))} ({reasons[endpoint()]})"
        hint = "Behind a proxy, export HTTPS_PROXY=http://HOST:PORT; without a network, copy model and data here."
        if proxies:
            hint = f"Check the proxy of {proxies[0].upper()}_PROXY."
    return Fault("hub-unreachable", problem, key=key, got=NO_VALUE if key is None else endpoint(), hint=hint)


def download_hint(what: str, hub: str, reached: Mapping[str, float | None]) -> str:
    """Return what fetches a model or a corpus from here, by the hubs that answer.

    Args:
        what: Argument of `medqa-download`: `model=qwen2.5-3b`.
        hub: Its hub, `huggingface` or `modelscope`; a model is on both.
        reached: Seconds to the answer of each address, None for none; empty without a network.
    """
    command = f"medqa-download {what}"
    answers = {address for address, seconds in reached.items() if seconds is not None}
    ways = [
        (endpoint(), command),
        (HUGGING_FACE, f"env -u {ENDPOINT} {command}"),
        (MIRROR, f"{ENDPOINT}={MIRROR} {command}"),
    ]
    for address, way in ways:
        if hub == "huggingface" and address in answers:
            return f"Run `{way}`."
    if MODELSCOPE in answers and (hub == "modelscope" or what.startswith("model=")):
        first = "" if find_spec("modelscope") else "pip install 'medqa-finetune[modelscope]' && "
        return f"Run `{first}{command} source=modelscope`."
    return f"Run `{command}` on a machine with a network, and copy what it fetches here."


def ask(addresses: Iterable[str]) -> list[Answer]:
    """Return what hubs answer within `SECONDS`."""
    answers = [Answer(address) for address in addresses]
    threads = [threading.Thread(target=_ask, args=(each,), daemon=True) for each in answers]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS + 1
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    # What a thread that is left behind finds later counts no more.
    return [dataclasses.replace(each) for each in answers]


def _ask(answer: Answer) -> None:
    begun = time.monotonic()
    try:
        from huggingface_hub import get_session

        # The client of downloads: the same proxies and certificates.
        code = get_session().head(answer.address, timeout=SECONDS).status_code
        if code in PROXY_CODES or code >= SERVER_ERROR:
            answer.reason = f"HTTP {code}"
        else:
            answer.seconds = time.monotonic() - begun
    except Exception as error:  # whatever the network layers raise
        answer.reason = words_of(error)


def _host(address: str) -> str:
    return address.partition("://")[2]
