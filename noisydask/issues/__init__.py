"""The main job: label issues of ``pred_probs`` and ``labels``."""
