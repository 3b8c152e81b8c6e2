"""What a fit would see: data, advice and an estimate, before a training."""
