"""Retrieval quality: exact search, metrics from ranks, confidence intervals, the verdict."""
