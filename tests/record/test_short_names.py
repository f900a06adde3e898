import pytest

from medqa_finetune.record.short_names import shared_settings, short_names, without_settings

LONG = "outputs/lora_20k__corpus=book-56326d__data.scale=0.005__train.learning_rate=0.0001__train.max_length="
NAMES = [f"{LONG[:97]}{number:03}" for number in range(40)]


def test_names_that_fit_stay() -> None:
    assert short_names(["lora_20k", "none"], 8) == ["lora_20k", "none"]


@pytest.mark.parametrize("width", [8, 20, 30])
@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        [f"{number:03}{LONG[:97]}" for number in range(40)],
        [f"{LONG[:50]}{number:03}{LONG[:47]}" for number in range(40)],
        [f"{LONG[:30]}{number:03}{LONG[:30]}{number % 7}{LONG[:36]}" for number in range(40)],
    ],
)
def test_different_names_of_a_hundred_characters_look_different(names: list[str], width: int) -> None:
    assert {len(name) for name in names} == {100}
    shown = short_names(names, width)
    assert len(set(shown)) == len(names)
    assert max(map(len, shown)) <= width


def test_the_beginning_and_what_differs_can_be_read() -> None:
    assert short_names(NAMES[:2], 20) == [f"output…{name[-13:]}" for name in NAMES[:2]]
    middle = [f"lora_20k__{'x' * 40}__seed={seed}__{'y' * 40}" for seed in (1, 2)]
    assert short_names(middle, 20) == ["lora_2…xxxx__seed=1…", "lora_2…xxxx__seed=2…"]


def test_equal_names_stay_equal() -> None:
    assert len(set(short_names([NAMES[0], NAMES[0]], 20))) == 1


def test_settings_that_all_share_are_left_out_of_names_and_sentences() -> None:
    names = [
        "s/lora_20k__seed=1__data.scale=0.1__train.epochs=1.0",
        "s/lora_20k__seed=2__data.scale=0.1__train.epochs=1.0",
    ]
    shared = shared_settings(names, [*names, "s/none__data.scale=0.1"])
    assert shared == ["data.scale=0.1", "train.epochs=1.0"]
    assert [without_settings(name, shared) for name in names] == ["s/lora_20k__seed=1", "s/lora_20k__seed=2"]
    assert without_settings("选 a__data.scale=0.1：b__data.scale=0.15, c__data.scale=0.1.", shared) == (
        "选 a：b__data.scale=0.15, c."
    )
    assert shared_settings(names, [*names, "s/none__data.scale=0.1", "s/none"]) == []
