"""Question/answer pairs shipped for the quickstart and the tests."""
