"""Retrieval quality: metrics from ranks, and the search that gives the ranks."""
