"""What the folder of a base model says: its modules, settings and configuration."""
