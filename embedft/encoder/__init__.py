"""From token ids to embeddings: base model, backbone, pooling."""
