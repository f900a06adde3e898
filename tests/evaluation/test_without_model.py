import subprocess
import sys
from pathlib import Path

import pytest

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.examples import Example
from medqa_finetune.errors import DataError
from medqa_finetune.evaluation.predictions import read_predictions
from medqa_finetune.evaluation.without_model import predict_without_model
from medqa_finetune.methods.retrieval import Retrieval
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import find_runs
from medqa_finetune.record.schema import Evaluation, Reused
from tests.commands import ROOT, UNTRAINED, train
from tests.faulty import only_fault

RETRIEVAL = Retrieval(MethodConfig(name="retrieval", trains="lookup"))
TRAIN = [
    Example("1", "高血压患者能喝酒吗？", "不建议饮酒。"),
    Example("2", "感冒发烧怎么办？", "多休息，多喝水。"),
    Example("3", "发烧感冒怎么办？", "第二个答案。"),
]


def answers(tmp_path: Path, *questions: str, pairs: list[Example] = TRAIN) -> list[str]:
    evaluation = EvaluationDir(tmp_path)
    asked = [Example(f"q{place}", question, "参考") for place, question in enumerate(questions)]
    cost = predict_without_model(RETRIEVAL, pairs, asked, evaluation, threads=1)
    assert cost["samples_per_second"] * cost["seconds"] == pytest.approx(len(asked))
    found = read_predictions(evaluation.predictions_path)
    assert [answer.id for answer in found] == [pair.id for pair in asked]
    assert {answer.references for answer in found} == {("参考",)}
    return [answer.prediction for answer in found]


def test_the_most_similar_question_gives_its_answer(tmp_path: Path) -> None:
    assert answers(tmp_path, "高血压病人可以喝酒吗", "感冒发烧了怎么办呢") == ["不建议饮酒。", "多休息，多喝水。"]


def test_of_equally_similar_ones_the_first_counts(tmp_path: Path) -> None:
    # 2 and 3 share six of seven characters in order with it.
    assert answers(tmp_path, "发感冒烧怎么办", pairs=TRAIN[1:]) == ["多休息，多喝水。"]
    assert answers(tmp_path, "发感冒烧怎么办", pairs=[TRAIN[2], TRAIN[1]]) == ["第二个答案。"]
    assert answers(tmp_path, "xyz") == ["不建议饮酒。"]


def test_a_second_start_begins_anew_and_many_questions_are_all_answered(tmp_path: Path) -> None:
    answers(tmp_path, *["感冒怎么办"] * 3)
    assert len(answers(tmp_path, *["感冒怎么办"] * 70)) == 70


def test_answers_of_another_evaluation_stay_and_only_the_rest_is_looked_up(tmp_path: Path) -> None:
    evaluation = EvaluationDir(tmp_path)
    asked = [Example(f"q{place}", "感冒发烧怎么办", "参考") for place in range(3)]
    evaluation.write(Evaluation("default", "i", "running", {}, reused=Reused("other", 2)))
    taken = [
        {"id": f"q{place}", "question": "感冒发烧怎么办", "reference": "参考", "prediction": "旧"} for place in (2, 0)
    ]
    for _ in range(2):  # a second start looks the same ones up
        if not evaluation.read_predictions():
            evaluation.append_predictions(taken)
        cost = predict_without_model(RETRIEVAL, TRAIN, asked, evaluation, threads=1)
        assert cost["samples_per_second"] * cost["seconds"] == pytest.approx(1)
        assert evaluation.read_predictions()[:2] == taken
        assert [(row["id"], row["prediction"]) for row in evaluation.read_predictions()[2:]] == [
            ("q1", "多休息，多喝水。")
        ]
    evaluation.update(reused=Reused("other", 3))
    assert predict_without_model(RETRIEVAL, TRAIN, asked, evaluation, threads=1) == {}


def test_without_training_questions_there_is_nothing_to_predict_from(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        answers(tmp_path, "感冒怎么办", pairs=[])
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("no-training-pairs", "data.train_size", 0)


@pytest.mark.slow
def test_a_cell_of_the_matrix_without_torch(tmp_path: Path, micro_model: Path) -> None:
    arguments = [*UNTRAINED, f"model.path={micro_model}", "method=retrieval", "data=20k", f"outputs={tmp_path / 'o'}"]
    code = "import sys; from medqa_finetune.train import train; train(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    (run,) = find_runs(tmp_path / "o")
    record = run.read()
    assert record is not None
    assert record.evaluation is not None
    assert record.data_manifest is not None
    assert (record.status, record.method, record.data, record.train) == ("done", "retrieval", "20k", None)
    assert (record.evaluation.n, record.data_manifest.train.n) == (4, 20)
    assert {"rougeL", "bleu", "lf_bleu4"} <= record.evaluation.scores.keys()
    assert "perplexity" not in record.evaluation.scores
    (evaluation,) = evaluation_dirs(run, record)
    assert evaluation.read_item_scores() is not None
    # Neither a seed nor what concerns training makes it another run.
    again = train(*arguments, "seed=7", "train.learning_rate=1e-5", cwd=tmp_path)
    assert (again.returncode, "done" in again.stderr) == (0, True)
    assert len(list(find_runs(tmp_path / "o"))) == 1
