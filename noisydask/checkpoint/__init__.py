"""What an output keeps of each block, so that the next run reads only what changed."""
