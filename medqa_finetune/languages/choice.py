"""Decides the language of what users read."""

import os
from collections.abc import Mapping

LANGUAGES = ("en", "zh")
# Names the language for this process and those that it starts; `lang=` on a command line sets it.
VARIABLE = "MEDQA_LANG"
# Where the system names its language, the first that is set first (POSIX, "Environment Variables").
SYSTEM_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def chosen(environment: Mapping[str, str] = os.environ) -> str:
    """Return the language to speak: that of `MEDQA_LANG`, else of the system's locale, else English."""
    named = environment.get(VARIABLE)
    if named in LANGUAGES:
        return named
    locale = next((value for name in SYSTEM_VARIABLES if (value := environment.get(name))), "")
    code = locale.partition("_")[0].partition(".")[0].lower()
    return code if code in LANGUAGES else LANGUAGES[0]


def choose(language: str) -> None:
    """Speak a language from now on, in this process and those that it starts."""
    os.environ[VARIABLE] = language
