"""The ``check`` command: the data, advice and an estimate of the run, before training."""
