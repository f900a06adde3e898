"""The embedded default corpus: Chinese medical questions and answers that need no download.

A table of conditions is crossed with a list of wordings. Every choice is arithmetic on positions in those files, so the
rows are byte-identical on every machine. NOT MEDICAL ADVICE: for demonstration only.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypedDict

GENERATOR_VERSION = 1
"""Raise this whenever the code below changes what it yields from the same data files."""

DATA_FILES = ("conditions.jsonl", "phrasings.json")

QUESTIONS_PER_ASPECT = {"symptoms_department": 2, "causes_prevention": 2, "vignette": 4}
"""How many questions one condition gets per aspect, where it is not `DEFAULT_QUESTIONS_PER_ASPECT`."""

DEFAULT_QUESTIONS_PER_ASPECT = 3

PASSAGES_PER_CONDITION = 6

PASSAGES_OF_ASPECT = {
    "symptoms_department": ("symptoms", "department"),
    "causes_prevention": ("causes", "prevention"),
    "vignette": ("symptoms", "department", "examinations"),
}
"""What of a passage answers a question about an aspect, where it is not the sentence of that aspect."""

# Of the conditions, in the order of their digests, the first are asked about in the test part alone, the next in the
# validation part.
HELD_OUT_CONDITIONS = 25

# Findings without complaints, which never appear in a vignette.
SILENT_FINDINGS = ("无症状", "无感觉", "无明显不适", "体检发现")


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of the table of conditions.

    Attributes:
        name: Name of the condition.
        department: The hospital department that treats it.
        overview: One full sentence that defines it.
        causes: 2 to 4 short phrases.
        symptoms: 4 to 6 short phrases.
        examinations: 2 to 4 short phrases.
        treatment: 2 to 4 short phrases, without doses.
        care: 3 to 5 short phrases on daily life.
        prevention: 2 or 3 short phrases.
        urgent: 2 to 4 signs that require immediate help.
    """

    name: str
    department: str
    overview: str
    causes: tuple[str, ...]
    symptoms: tuple[str, ...]
    examinations: tuple[str, ...]
    treatment: tuple[str, ...]
    care: tuple[str, ...]
    prevention: tuple[str, ...]
    urgent: tuple[str, ...]

    def slots(self) -> dict[str, str]:
        """Values of the placeholders in the answer and passage templates."""
        return {
            "name": self.name,
            "department": self.department,
            "overview": self.overview,
            "causes": "、".join(self.causes),
            "causes2": "、".join(self.causes[:2]),
            "cause": self.causes[0],
            "symptoms": "、".join(self.symptoms),
            "symptoms2": "、".join(self.symptoms[:2]),
            "symptoms3": "、".join(self.symptoms[:3]),
            "examinations": "、".join(self.examinations),
            "examinations2": "、".join(self.examinations[:2]),
            "examination": self.examinations[0],
            "treatment": "、".join(self.treatment),
            "treatment1": self.treatment[0],
            "care": "、".join(self.care),
            "prevention": "、".join(self.prevention),
            "urgent": "、".join(self.urgent),
        }


class _Phrasings(TypedDict):
    """`phrasings.json`: templates by aspect, and what fills them."""

    questions: dict[str, list[str]]
    answers: dict[str, list[str]]
    closings: dict[str, list[str]]
    durations: list[str]
    patients: dict[str, list[str]]
    patient_groups: dict[str, list[str]]
    passages: dict[str, list[str]]


def _read_bytes(name: str) -> bytes:
    return files("medqa_finetune.data").joinpath("embedded_corpus", name).read_bytes()


@cache
def conditions() -> tuple[Condition, ...]:
    """The table of conditions, in the order of the file."""
    lines = _read_bytes("conditions.jsonl").decode("utf-8").splitlines()
    return tuple(_condition(json.loads(line)) for line in lines)


def _condition(record: Mapping[str, Any]) -> Condition:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Condition(**fields)


@cache
def _phrasings() -> _Phrasings:
    loaded: _Phrasings = json.loads(_read_bytes("phrasings.json"))
    return loaded


@cache
def _departments() -> tuple[str, ...]:
    return tuple(sorted({condition.department for condition in conditions()}))


def embedded_sha256() -> str:
    """The SHA-256, in hexadecimal, of the data files and the generator's version."""
    digest = hashlib.sha256(f"generator {GENERATOR_VERSION}\n".encode())
    for name in DATA_FILES:
        content = _read_bytes(name)
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def embedded_rows() -> Iterator[dict[str, str]]:
    """Yield every example of the corpus in its fixed order.

    Yields:
        Rows with the keys `id`, `question`, `answer` and `department`; no question occurs twice.
    """
    return (row for _, row in embedded_rows_of_parts())


def embedded_rows_of_parts() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every example after its part: `train`, `validation` or `test`.

    A test question is about a condition that no training example is about, so no training answer contains what it asks
    for; the same holds for validation questions. The form of its answer is that of others, which can be learnt.
    """
    rows: dict[str, tuple[str, str, str]] = {}
    for condition_number, condition in enumerate(conditions()):
        part = _parts_of_conditions().get(condition.name, "train")
        for aspect_number, aspect in enumerate(_phrasings()["questions"]):
            answer = _answer(condition, aspect, aspect_number)
            for question in _questions(condition, condition_number, aspect, aspect_number):
                rows.setdefault(question, (part, answer, condition.department))
    # Ordered by digest, so that the first rows of the corpus are a representative sample without a random generator.
    for number, question in enumerate(sorted(rows, key=_digest)):
        part, answer, department = rows[question]
        row = {"id": f"embedded-{number:05d}", "question": question, "answer": answer, "department": department}
        yield part, row


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _parts_of_conditions() -> Mapping[str, str]:
    """Return the part of each held-out condition."""
    names = sorted((condition.name for condition in conditions()), key=_digest)
    test, validation = names[:HELD_OUT_CONDITIONS], names[HELD_OUT_CONDITIONS : 2 * HELD_OUT_CONDITIONS]
    return dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")


def _answer(condition: Condition, aspect: str, aspect_number: int) -> str:
    """Return the only answer about an aspect of a condition.

    Its form depends on the department and the aspect, not on the single condition, so a model can learn it from some
    conditions and apply it to others.
    """
    department_number = _departments().index(condition.department)
    templates = _phrasings()["answers"][aspect]
    closings = _phrasings()["closings"][aspect]
    closing = closings[(department_number * 2 + aspect_number) % len(closings)]
    template = templates[(department_number + aspect_number) % len(templates)]
    return template.format(**condition.slots(), closing=closing)


def _questions(condition: Condition, condition_number: int, aspect: str, aspect_number: int) -> Iterator[str]:
    """Yield the questions about an aspect of a condition."""
    templates = _phrasings()["questions"][aspect]
    count = QUESTIONS_PER_ASPECT.get(aspect, DEFAULT_QUESTIONS_PER_ASPECT)
    stride = len(templates) // count
    complaints = [item for item in condition.symptoms if not any(mark in item for mark in SILENT_FINDINGS)]
    patients = _patients(condition)
    durations = _phrasings()["durations"]
    for turn in range(count):
        position = condition_number * 5 + aspect_number * 3 + turn
        first, second, third = _three_complaints(complaints, turn)
        wording = (condition_number + aspect_number * 3 + turn * stride) % len(templates)
        question = templates[wording].format(
            name=condition.name,
            who=patients[position % len(patients)],
            duration=durations[position % len(durations)],
            s1=first,
            s2=second,
            s3=third,
        )
        yield question


def _three_complaints(complaints: Sequence[str], turn: int) -> tuple[str, str, str]:
    """Return three complaints for one vignette; every turn starts at another one."""
    count = len(complaints)
    step = 1 + turn % 2  # otherwise two turns could differ in their order alone
    first, second, third = (complaints[(turn + step * offset) % count] for offset in range(3))
    return first, second, third


def _patients(condition: Condition) -> Sequence[str]:
    """Return plausible patients for the condition: nobody asks about a grandfather's pregnancy."""
    phrasings = _phrasings()
    for group, names in phrasings["patient_groups"].items():
        if condition.name in names:
            return phrasings["patients"][group]
    return phrasings["patients"]["anyone"]


def pretraining_texts() -> Iterator[str]:
    """Yield encyclopedia-like passages, one line each, about the same conditions.

    They contain the same facts as the answers, without questions and without the frames and closings of the answers:
    a model learns the language and the facts from them, not how to answer.
    """
    passages = _phrasings()["passages"]
    for variant in range(PASSAGES_PER_CONDITION):
        for number, condition in enumerate(conditions()):
            slots = condition.slots()
            sentences = [
                templates[(variant + aspect_number) % len(templates)].format(**slots)
                for aspect_number, templates in enumerate(passages.values())
            ]
            start = (variant * 4 + number) % len(sentences)
            rotated = sentences[start:] + sentences[:start]
            yield "".join(rotated if variant % 2 == 0 else reversed(rotated))


def pretraining_sentences() -> Iterator[str]:
    """Yield every sentence of the passages on its own, in all its wordings.

    In a passage the sentences before it help to guess one; alone, each has to be known from the condition's name.
    """
    for condition in conditions():
        slots = condition.slots()
        for templates in _phrasings()["passages"].values():
            yield from (template.format(**slots) for template in templates)


def pretraining_questions() -> Iterator[str]:
    """Yield questions, each followed by what the passages say about it and a closing sentence, one text each.

    From them a model learns what is asked for, not the form of an answer: no sentence is that of an answer, the closing
    is one of the aspect's, and no held-out condition is among them.
    """
    passages, closings = _phrasings()["passages"], _phrasings()["closings"]
    for number, condition in enumerate(conditions()):
        if condition.name in _parts_of_conditions():
            continue
        slots = condition.slots()
        for aspect_number, aspect in enumerate(_phrasings()["questions"]):
            for question in _questions(condition, number, aspect, aspect_number):
                # A choice that follows neither the aspect nor the department, as that of the answers does.
                turn = int(_digest(question)[:8], 16)
                about = [passages[each] for each in PASSAGES_OF_ASPECT.get(aspect, (aspect,))]
                said = "".join(templates[turn % len(templates)] for templates in about).format(**slots)
                yield f"{question}\n{said}{closings[aspect][turn // 3 % len(closings[aspect])]}"
