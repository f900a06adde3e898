"""Retrieval, a baseline without a model: every question gets the answer of the most similar training question."""

from collections.abc import Callable, Sequence

from medqa_finetune.methods.base import MethodWithoutModel


class Retrieval(MethodWithoutModel):
    """Predicts the answer to the most similar training question."""

    kind = "lookup"
    # Settings of models alone.
    unused = (
        "seed", "fp32_blocks", "train", "method.rank", "method.alpha", "method.dropout", "method.target_modules",
        "method.target_parameters", "method.quantization", "method.double_quantization", "method.compute_dtype",
        "method.rslora", "method.dora", "method.loraplus_ratio", "method.optimizer", "method.optimizer_without_cuda",
        "evaluate.backend", "evaluate.zero_shot", "evaluate.zero_shot_folder", "evaluate.text", "evaluate.stride",
    )  # fmt: skip

    def predictor(
        self, examples: Sequence[tuple[str, str]], threads: int | None
    ) -> Callable[[Sequence[str]], list[str]]:
        """Return a function that predicts the answers to questions.

        Similarity is rapidfuzz's `ratio` of the questions: 2 · LCS / (length + length), i.e. a character ROUGE-L
        between questions. Of equally similar questions the first one is used, which larger training sets contain too.
        """
        import numpy as np
        from rapidfuzz import fuzz
        from rapidfuzz.process import cdist

        known = [question for question, _ in examples]

        def predict(questions: Sequence[str]) -> list[str]:
            similarity = cdist(questions, known, scorer=fuzz.ratio, dtype=np.float32, workers=threads or -1)
            return [examples[int(place)][1] for place in similarity.argmax(axis=1)]

        return predict
