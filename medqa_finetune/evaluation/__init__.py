"""From a trained model to answers, and from answers to scores."""
