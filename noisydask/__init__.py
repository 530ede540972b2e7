"""noisydask: find mislabeled examples in classification data of any size, on Dask.

The program reads predicted probabilities once, keeps a few numbers of each row as evidence, and answers everything that
confident learning asks from them, exactly.
"""

from importlib.metadata import version

from noisydask.compat.cleanlab import LabelInspector, find_label_issues_batched
from noisydask.errors import GateError, InputError, JobError, LockedError, NoisydaskError
from noisydask.issues import find_label_issues
from noisydask.results import LabelIssues, open_run

__version__ = version("noisydask")

__all__ = [
    "GateError",
    "InputError",
    "JobError",
    "LabelInspector",
    "LabelIssues",
    "LockedError",
    "NoisydaskError",
    "find_label_issues",
    "find_label_issues_batched",
    "open_run",
]
