"""Texts to vectors outside a training loop: embedding, mining, search."""
