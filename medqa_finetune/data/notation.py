"""Values written as text: JSON, and Python's own notation, as tables hold them."""

import ast
import json
import warnings

# Python's notation takes a hundred times its length to read.
LITERAL_CHARS = 100_000


def python_value(text: str) -> object:
    """Return the value of a text in Python's notation, or None if it is not in that notation or is too long."""
    if len(text) > LITERAL_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            # Escapes such as \d in the data warn: a DeprecationWarning until Python 3.11.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def value_of(text: str) -> object:
    """Return the value of a text in JSON or in Python's notation, or None if it is in neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return python_value(text)
