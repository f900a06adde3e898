"""All cases, in the order of their numbers."""

from tests.bad_inputs import chat_cases, config_cases, data_cases, model_cases, more_data_cases

CASES = [*data_cases.CASES, *more_data_cases.CASES, *config_cases.CASES, *model_cases.CASES, *chat_cases.CASES]
