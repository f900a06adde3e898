"""Faults: what is wrong, and what to do."""

TEXTS = {
    "unknown value": "没有这个值",
    "there is no such key": "没有这个键",
    "there is no such language": "没有这种语言",
}
