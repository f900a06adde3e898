"""Lists all cases by number."""

from scripts.bad_input_cases import chat_cases, config_cases, data_cases, dialogue_cases, model_cases, more_data_cases

_ALL = [data_cases, more_data_cases, dialogue_cases, config_cases, model_cases, chat_cases]
CASES = sorted((case for room in _ALL for case in room.CASES), key=lambda case: case.number)
