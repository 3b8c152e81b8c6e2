"""From a folder of texts to question/answer pairs, with the help of a language model."""
