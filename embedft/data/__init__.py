"""From a JSONL file to packed batches: records, splits, tokens, batches."""
