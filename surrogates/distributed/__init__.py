"""Training in processes of its own: the launcher, checkpoints."""
