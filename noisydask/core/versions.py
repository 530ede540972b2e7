"""Versions of what checkpoints mean: what was kept by another version is made anew."""

#: Rises with every change of what evidence, or what is kept beside it, means.
EVIDENCE_VERSION = 4
#: Rises with every change of what states of losses, or what is kept beside them, mean.
STATE_VERSION = 3
