"""What surrounds a training: folder, checkpoints, signals, logs, and its end."""
