"""The version of embedft, which packaging, reports and checkpoints read."""

__version__ = "0.1.0"
