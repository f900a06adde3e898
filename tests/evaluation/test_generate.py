import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medqa_finetune.config.schema import EvaluateConfig, MethodConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.data.examples import Example
from medqa_finetune.evaluation import generate
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.evaluation.generate import Generated, generate_predictions
from medqa_finetune.evaluation.predictions import Prediction, read_predictions
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.model.load import Device, LoadedModel, load_model
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.schema import Evaluation, Reused
from tests.training.trial import one_thread

CPU = Device("cpu", "CPU", "fp32")
UNTRAINED = MethodConfig(name="none", trains="nothing")
NEW_TOKENS = 12
END = 2  # <|im_end|> of the micro tokenizer
QUESTIONS = [
    "头痛",
    "感冒了，怎么办？",
    "发烧",
    "孩子发烧三天了，还咳嗽，需要去医院吗？",
    "腰痛要休息吗？",
    "好",
    "睡不着怎么办",
]
PAIRS = [Example(f"p{number}", question, "多休息。" * (1 + number % 3)) for number, question in enumerate(QUESTIONS)]


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    """On one thread, for waiting for busy cores takes most of so small a computation."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro model made talkative: larger weights, so that answers differ, and an end token that comes up."""
    folder = Path(shutil.copytree(micro_model, tmp_path_factory.mktemp("talkative") / "model"))
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight * 10 if "proj.weight" in name else weight for name, weight in weights.items()}
    weights["model.embed_tokens.weight"][END] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder, UNTRAINED, CPU, seed=0)


@pytest.fixture
def encoder(loaded: LoadedModel) -> Encoder:
    return Encoder(loaded.tokenizer, 512)


@pytest.fixture
def evaluation(tmp_path: Path) -> EvaluationDir:
    return EvaluationDir(tmp_path)


def one_by_one(model: Any, encoder: Encoder, question: str, new_tokens: int = NEW_TOKENS) -> list[int]:
    """What transformers' own generation answers, without a batch and without padding."""
    ids = torch.tensor(encoder.prompts([Example("", question, "")]))
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=encoder.end_ids[-1],
        pad_token_id=encoder.tokenizer.pad_token_id,
    )
    answer: list[int] = output[0, ids.shape[1] :].tolist()
    return answer


def batched(model: Any, encoder: Encoder, prompts: list[list[int]]) -> list[list[int]]:
    return decode_greedily(model, prompts, Ending((END,), int(encoder.tokenizer.pad_token_id), NEW_TOKENS))


def by_hand(model: Any, encoder: Encoder, pair: Example) -> tuple[float, int]:
    """The likelihood of the answer from the logits of the whole sequence, token by token."""
    item = next(iter(encoder.encode([pair])))
    with torch.no_grad():
        probabilities = model.eval()(input_ids=torch.tensor([item.input_ids])).logits[0].double().softmax(-1)
    places = range(item.answer_start, len(item.input_ids))
    return -sum(math.log(probabilities[place - 1, item.input_ids[place]]) for place in places), len(places)


def settings(**changes: Any) -> EvaluateConfig:
    return EvaluateConfig(**({"batch_size": 3, "max_new_tokens": NEW_TOKENS} | changes))


@pytest.mark.parametrize("batch_size", [2, 3, len(PAIRS)])
def test_padded_batches_answer_like_one_question_at_a_time(
    loaded: LoadedModel, encoder: Encoder, batch_size: int
) -> None:
    prompts = encoder.prompts(PAIRS)
    assert len({len(prompt) for prompt in prompts}) > 3
    expected = [one_by_one(loaded.model, encoder, question) for question in QUESTIONS]
    answers: list[list[int]] = []
    for begin in range(0, len(prompts), batch_size):
        answers += batched(loaded.model, encoder, prompts[begin : begin + batch_size])
    assert answers == expected
    assert len({tuple(answer) for answer in answers}) == len(QUESTIONS)


def test_answers_end_with_the_end_token_or_at_the_limit(loaded: LoadedModel, encoder: Encoder) -> None:
    answers = batched(loaded.model, encoder, encoder.prompts(PAIRS))
    ended = [answer for answer in answers if END in answer]
    assert 0 < len(ended) < len(answers)
    assert all(answer.index(END) == len(answer) - 1 for answer in ended)
    assert all(len(answer) == NEW_TOKENS for answer in answers if END not in answer)


def test_only_answers_without_an_end_token_hit_the_limit(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    expected = {pair.id: one_by_one(loaded.model, encoder, pair.question) for pair in PAIRS}
    for answer in read_predictions(evaluation.predictions_path):
        assert answer.hit_limit == (END not in expected[answer.id])
        assert answer.prediction_tokens == len(expected[answer.id])
    # One answer ends exactly at the limit, which is not hitting it.
    assert [tokens for tokens in expected.values() if len(tokens) == NEW_TOKENS and tokens[-1] == END]


def test_what_is_cut_is_marked_and_said(
    loaded: LoadedModel, evaluation: EvaluationDir, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = PAIRS[0].question, PAIRS[0].question * 40
    asked = {"neither": (short, "好的。"), "prompt": (long, "好的。"), "reference": (short, "多休息。" * 40),
             "both": (long, "多休息。" * 40)}  # fmt: skip
    pairs = [Example(name, *texts) for name, texts in asked.items()]
    generate_predictions(loaded.model, Encoder(loaded.tokenizer, 100), pairs, settings(max_new_tokens=1), evaluation)
    answers = read_predictions(evaluation.predictions_path)
    found = {answer.id: (answer.prompt_cut, answer.reference_cut) for answer in answers}
    assert found == {
        "neither": (False, False), "prompt": (True, False), "reference": (False, True), "both": (True, True)
    }  # fmt: skip
    assert "2 of 4 test questions (50.0 %) are asked cut" in caplog.text
    record, _ = score_predictions(answers, ["rouge"])
    assert (record.prompt_cut_rate, record.reference_cut_rate) == (0.5, 0.5)
    unknown, _ = score_predictions([*answers, Prediction("x", "", ("a",), "b")], ["rouge"])
    assert (unknown.prompt_cut_rate, unknown.reference_cut_rate) == (None, None)


def test_predictions_are_the_decoded_answers_without_special_tokens(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    for answer in read_predictions(evaluation.predictions_path):
        tokens = [token for token in one_by_one(loaded.model, encoder, answer.question) if token > END]
        assert answer.prediction == str(loaded.tokenizer.decode(tokens)).strip()


def test_every_pair_is_answered_once_with_its_own_question_and_reference(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    answers = read_predictions(evaluation.predictions_path)
    assert Counter((answer.id, answer.question, answer.references) for answer in answers) == Counter(
        (pair.id, pair.question, (pair.answer,)) for pair in PAIRS
    )


def test_longest_questions_are_asked_first(loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    lengths = [
        len(encoder.prompts([Example("", answer.question, "")])[0])
        for answer in read_predictions(evaluation.predictions_path)
    ]
    assert lengths == sorted(lengths, reverse=True)


def test_batches_have_room_for_so_many_tokens(loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir) -> None:
    lengths = sorted((len(prompt) for prompt in encoder.prompts(PAIRS)), reverse=True)
    # Room for two of the longest, less than three.
    tokens = 3 * (lengths[0] + NEW_TOKENS) - 1
    generate_predictions(loaded.model, encoder, PAIRS, settings(batch_size=5, batch_tokens=tokens), evaluation)
    ends = [row["answered"] for row in evaluation.read_answered()]
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert sizes[0] == 2
    assert max(sizes) > 2
    for begin, size in zip([0, *ends], sizes, strict=False):
        assert size * (lengths[begin] + NEW_TOKENS) <= tokens
        # One more question would be too many, or there is none.
        assert begin + size == len(PAIRS) or size == 5 or (size + 1) * (lengths[begin] + NEW_TOKENS) > tokens


def test_a_question_without_room_is_asked_alone(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(batch_tokens=1), evaluation)
    assert [row["answered"] for row in evaluation.read_answered()] == [1, 2, 3, 4, 5, 6, 7]
    expected = {pair.id: len(one_by_one(loaded.model, encoder, pair.question)) for pair in PAIRS}
    assert {answer.id: answer.prediction_tokens for answer in read_predictions(evaluation.predictions_path)} == expected


def test_batches_change_no_answer(loaded: LoadedModel, encoder: Encoder, tmp_path: Path) -> None:
    rows = []
    for size in (1, 4):
        evaluation = EvaluationDir(tmp_path / str(size))
        evaluation.path.mkdir()
        generate_predictions(loaded.model, encoder, PAIRS, settings(batch_size=size), evaluation)
        rows.append(sorted(read_predictions(evaluation.predictions_path), key=lambda answer: answer.id))
    assert [answer.prediction for answer in rows[0]] == [answer.prediction for answer in rows[1]]


def test_cost_counts_every_generated_token(loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir) -> None:
    cost = generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    assert cost.samples == len(PAIRS)
    assert cost.tokens == sum(len(one_by_one(loaded.model, encoder, question)) for question in QUESTIONS)
    assert cost.seconds > 0


def test_speed_is_per_second() -> None:
    assert Generated(seconds=4.0, samples=2, tokens=10).speed() == {
        "seconds": 4.0,
        "samples_per_second": 0.5,
        "tokens_per_second": 2.5,
    }


def test_where_nothing_was_generated_there_is_no_speed() -> None:
    assert Generated(seconds=0.0, samples=0, tokens=0).speed() == {
        "seconds": None,
        "samples_per_second": None,
        "tokens_per_second": None,
    }


@pytest.mark.parametrize("method", [UNTRAINED, MethodConfig(name="lora")], ids=["base", "lora"])
def test_generation_settings_of_the_folder_cannot_leak_in(
    loaded: LoadedModel, encoder: Encoder, folder: Path, tmp_path: Path, method: MethodConfig
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    leaky = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "max_length": 3, "min_new_tokens": 11}
    (copy / "generation_config.json").write_text(json.dumps(leaky | {"suppress_tokens": [END], "num_beams": 2}))
    model: Any = load_model(copy, method, CPU, seed=0).model
    expected = [one_by_one(loaded.model, encoder, question) for question in QUESTIONS]
    assert batched(model.eval(), encoder, encoder.prompts(PAIRS)) == expected


def test_dropout_is_off_while_answering(folder: Path, encoder: Encoder, evaluation: EvaluationDir) -> None:
    model = load_model(folder, MethodConfig(name="lora", dropout=0.9), CPU, seed=0).model.train()
    generate_predictions(model, encoder, PAIRS[:1], settings(), evaluation)
    assert not model.training


def test_likelihoods_are_in_the_rows_of_the_answers(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    generate_predictions(loaded.model, encoder, PAIRS, settings(), evaluation)
    by_id = {answer.id: answer for answer in read_predictions(evaluation.predictions_path)}
    for pair in PAIRS:
        nll, tokens = by_hand(loaded.model, encoder, pair)
        assert by_id[pair.id].reference_tokens == tokens
        assert by_id[pair.id].reference_nll == pytest.approx(nll, rel=1e-4)


def test_interrupted_generation_leaves_whole_batches(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def interrupted(*arguments: Any) -> list[list[int]]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return decode_greedily(*arguments)

    monkeypatch.setattr(generate, "decode_greedily", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_predictions(loaded.model, encoder, PAIRS, settings(batch_size=2), evaluation)
    answers = read_predictions(evaluation.predictions_path)
    assert len(answers) == 4
    assert len({answer.id for answer in answers}) == 4


def answered(evaluation: EvaluationDir, loaded: LoadedModel, encoder: Encoder, **changes: Any) -> Generated:
    return generate_predictions(loaded.model, encoder, PAIRS, settings(**changes), evaluation)


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("torn", [b"", b'{"id": "p3", "quest'], ids=["whole", "torn"])
def test_answering_goes_on_behind_the_last_whole_batch(
    loaded: LoadedModel, encoder: Encoder, tmp_path: Path, lines: int, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = EvaluationDir(tmp_path / "whole"), EvaluationDir(tmp_path / "stopped")
    for evaluation in (whole, stopped):
        evaluation.path.mkdir()
        answered(evaluation, loaded, encoder)
    content = whole.predictions_path.read_bytes()
    stopped.predictions_path.write_bytes(b"".join(content.splitlines(keepends=True)[:lines]) + torn)
    asked: list[int] = []
    original = generate.generate_in_time

    def counting(model: Any, encoder: Encoder, prompts: Any, *settings: Any) -> Any:
        asked.append(len(prompts))
        return original(model, encoder, prompts, *settings)

    monkeypatch.setattr(generate, "generate_in_time", counting)
    cost = answered(stopped, loaded, encoder)
    assert stopped.predictions_path.read_bytes() == content
    assert asked == [3, 3, 1][3 if lines == 7 else lines // 3 :]
    rows = stopped.read_answered()
    assert [row["answered"] for row in rows] == [3, 6, 7]
    assert cost.seconds == sum(row["seconds"] for row in rows)
    assert cost.tokens == sum(row["tokens"] for row in rows)
    assert cost.samples == 7


def test_a_batch_whose_cost_is_unknown_is_asked_again(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    answered(evaluation, loaded, encoder)
    content = evaluation.predictions_path.read_bytes()
    evaluation.answering_path.write_bytes(evaluation.answering_path.read_bytes().splitlines(keepends=True)[0])
    answered(evaluation, loaded, encoder)
    assert evaluation.predictions_path.read_bytes() == content
    assert len(evaluation.read_answered()) == 3


def test_answers_to_other_questions_are_not_kept(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    answered(evaluation, loaded, encoder)
    content = evaluation.predictions_path.read_bytes()
    rows = evaluation.predictions_path.read_text(encoding="utf-8").splitlines(keepends=True)
    evaluation.predictions_path.write_text("".join(rows[::-1]), encoding="utf-8")
    answered(evaluation, loaded, encoder)
    assert evaluation.predictions_path.read_bytes() == content


@pytest.mark.parametrize("lines", [3, 5, 6])
def test_only_what_no_other_evaluation_has_answered_is_asked(
    loaded: LoadedModel, encoder: Encoder, tmp_path: Path, lines: int
) -> None:
    whole, partly = EvaluationDir(tmp_path / "whole"), EvaluationDir(tmp_path / "partly")
    for evaluation in (whole, partly):
        evaluation.write(Evaluation("default", "i", "running", {}, reused=Reused("other", 3)))
    whole.update(reused=None)
    answered(whole, loaded, encoder)
    rows = whole.read_predictions()
    # The middle of a batch, in an order of its own.
    partly.append_predictions([rows[6], rows[1], rows[3]])
    cost = answered(partly, loaded, encoder, batch_size=2)
    assert partly.read_predictions()[:3] == [rows[6], rows[1], rows[3]]
    assert sorted(map(str, partly.read_predictions())) == sorted(map(str, rows))
    assert [(row["answered"], row["questions"]) for row in partly.read_answered()] == [(5, 7), (7, 7)]
    assert cost.samples == 4
    assert cost.tokens == sum(row["prediction_tokens"] for row in partly.read_predictions()[3:])
    # Stopped after so many lines, it goes on behind the last whole batch.
    content = partly.predictions_path.read_bytes()
    partly.predictions_path.write_bytes(b"".join(content.splitlines(keepends=True)[:lines]))
    again = answered(partly, loaded, encoder, batch_size=2)
    assert partly.predictions_path.read_bytes() == content
    assert again.samples == 4


def test_where_others_have_answered_everything_nothing_is_asked(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(evaluation, loaded, encoder)
    content = evaluation.predictions_path.read_bytes()
    evaluation.answering_path.unlink()
    evaluation.write(Evaluation("default", "i", "running", {}, reused=Reused("other", len(PAIRS))))
    monkeypatch.setattr(generate, "generate_in_time", None)
    cost = answered(evaluation, loaded, encoder)
    assert evaluation.predictions_path.read_bytes() == content
    assert cost == Generated(seconds=0, samples=0, tokens=0)


def test_answers_that_take_too_long_are_cut_off_and_marked(
    loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir
) -> None:
    answered(evaluation, loaded, encoder, timeout_seconds=1e-9)
    answers = read_predictions(evaluation.predictions_path)
    assert len(answers) == len(PAIRS)
    assert all(answer.prediction_tokens == 1 for answer in answers)
    assert {answer.timed_out for answer in answers if answer.prediction_tokens == 1} == {True}
    assert not any(answer.hit_limit for answer in answers)
    scored, _ = score_predictions(answers, ["rouge"])
    assert (scored.timed_out_rate, scored.truncated_rate) == (1.0, 0.0)


def test_generation_that_hangs_is_given_up(
    loaded: LoadedModel,
    encoder: Encoder,
    evaluation: EvaluationDir,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(generate, "decode_greedily", lambda *_: time.sleep(60))
    monkeypatch.setattr(generate, "HANG_SECONDS", 0.05)
    answered(evaluation, loaded, encoder, timeout_seconds=0.05, batch_size=len(PAIRS))
    answers = read_predictions(evaluation.predictions_path)
    assert [(answer.prediction, answer.timed_out) for answer in answers] == [("", True)] * len(PAIRS)
    assert "took longer than evaluate.timeout_seconds=0.05" in caplog.text


def test_in_time_nothing_is_marked(loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir) -> None:
    answered(evaluation, loaded, encoder)
    assert not any(answer.timed_out for answer in read_predictions(evaluation.predictions_path))


@pytest.fixture
def several(folder: Path, loaded: LoadedModel, encoder: Encoder, tmp_path: Path) -> Any:
    """The model with two end tokens more: two that its answers hold, one of them no special token."""
    copy = Path(shutil.copytree(folder, tmp_path / "several"))
    said = Counter(token for question in QUESTIONS for token in set(one_by_one(loaded.model, encoder, question)[2:]))
    more = [token for token, _ in said.most_common() if token != END][:2]
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [*more, END]}))
    return load_model(copy, UNTRAINED, CPU, seed=0).model


def plain_answer(model: Any, encoder: Encoder, question: str) -> list[int]:
    """What transformers' own generation answers with the settings of the model's folder."""
    ids = torch.tensor(encoder.prompts([Example("", question, "")]))
    pad = encoder.tokenizer.pad_token_id
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=pad
    )
    answer: list[int] = output[0, ids.shape[1] :].tolist()
    return answer


def test_answers_end_at_any_end_token_of_the_model(several: Any, encoder: Encoder, evaluation: EvaluationDir) -> None:
    evaluation.write(Evaluation("default", "i", "running", {}))
    stops = several.generation_config.eos_token_id
    generate_predictions(several, encoder, PAIRS, settings(), evaluation)
    answers = read_predictions(evaluation.predictions_path)
    ends = set()
    for answer in answers:
        tokens = plain_answer(several, encoder, answer.question)
        ended = tokens[-1] in stops
        ends |= {tokens[-1]} if ended else set()
        assert (answer.prediction_tokens, answer.hit_limit) == (len(tokens), not ended)
        text = encoder.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
        assert answer.prediction == str(text).strip()
    assert len(ends) > 1
    record = evaluation.read()
    assert record is not None
    assert record.stop_ids == sorted(stops)


def test_answers_that_other_tokens_ended_are_not_mixed_in(
    several: Any, loaded: LoadedModel, encoder: Encoder, evaluation: EvaluationDir, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation.write(Evaluation("default", "i", "running", {}))
    answered(evaluation, loaded, encoder)
    before = evaluation.predictions_path.read_bytes()
    # As an earlier version left it: nothing about end tokens, and the same ones are in use.
    evaluation.update(stop_ids=None)
    answered(evaluation, loaded, encoder)
    assert evaluation.predictions_path.read_bytes() == before
    assert "ended by other tokens" not in caplog.text
    generate_predictions(several, encoder, PAIRS, settings(), evaluation)
    assert "ended by other tokens" in caplog.text
    assert {row["id"]: row["prediction_tokens"] for row in evaluation.read_predictions()} == {
        pair.id: len(plain_answer(several, encoder, pair.question)) for pair in PAIRS
    }
