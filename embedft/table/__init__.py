"""Files of rows as columns on disk, memory-mapped."""
