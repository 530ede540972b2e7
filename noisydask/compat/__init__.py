"""Names of other programs over our kernels, for users who move over by changing an import."""

from noisydask.compat.cleanlab import LabelInspector, find_label_issues_batched

__all__ = ["LabelInspector", "find_label_issues_batched"]
