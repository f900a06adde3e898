"""What an error of another package says, as a part of a sentence of ours."""

SHOWN_CHARACTERS = 300


def words_of(error: BaseException) -> str:
    """Return an error's message in one line without a full stop, or the name of its class where it has none."""
    return " ".join(str(error).split())[:SHOWN_CHARACTERS].rstrip(" .:") or type(error).__name__
