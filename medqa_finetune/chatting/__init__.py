"""Chat with the model of a run or any other: one question, a list of them, or a conversation."""
