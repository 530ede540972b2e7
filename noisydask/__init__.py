"""noisydask: find mislabeled examples in classification data of any size, on Dask.

The program reads predicted probabilities once, keeps a few numbers of each row as evidence, and answers everything that
confident learning asks from them, exactly.
"""

from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.issues import find_label_issues
from noisydask.results import LabelIssues

__all__ = ["InputError", "JobError", "LabelIssues", "NoisydaskError", "find_label_issues"]
