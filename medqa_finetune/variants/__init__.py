"""What is made of a finished run: models in several forms, each measured as it will be used."""
