"""The scan of the main job, run by its client: which blocks are known by their receipts, and which
are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from typing import Any

from noisydask.checkpoint.receipts import Why
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.engine.inputs import BlockPass, plan_pass
from noisydask.engine.progress import Reporter, listening
from noisydask.engine.tasks import EVIDENCE_TASKS, SCAN_TASKS, tasks_of
from noisydask.issues import scanning
from noisydask.issues.blocks import LabeledSource
from noisydask.issues.ensemble import Ensemble
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.passes import IssueData
from noisydask.issues.rereading import Rereading
from noisydask.issues.scanning import ScanState
from noisydask.stores.arrays import DaskRows
from noisydask.stores.rows import Rows
from noisydask.text import counted


@dataclass(frozen=True)
class Scanned:
    """What a scan found of the examples.

    Attributes
    ----------
    totals : ClassTotals
        Of valid rows.
    problems : sequence of Problems
        Rows that were refused, of each model.
    stored : sequence of StoredBlock
        Blocks of the evidence.
    refused : int
        Rows that were refused of any model.
    """

    totals: ClassTotals
    problems: Sequence[Problems]
    stored: Sequence[StoredBlock]
    refused: int

    @property
    def unreadable(self) -> int:
        """Rows that could not be read of a model."""
        return min(self.refused, sum(problems.unreadable for problems in self.problems))


@dataclass
class Scan:
    """The scan of blocks, whole or in part.

    Attributes
    ----------
    data : IssueData
        Where evidence is kept.
    inputs : mapping of str to Rows or DaskRows
        ``labels`` and ``pred_probs``.
    sources : sequence of LabeledSource
        All blocks.
    reporter : Reporter
        Shows progress.
    rebuilt : str, optional
        Why evidence that was there is not used.
    why : Counter of str
        Blocks read so far, by the reason.
    bytes_read : dict of str to int
        Stored bytes of ``pred_probs`` read so far.
    """

    data: IssueData
    inputs: Mapping[str, Rows | DaskRows]
    sources: Sequence[LabeledSource]
    reporter: Reporter
    rebuilt: str | None = None
    why: Counter[str] = field(default_factory=Counter)
    bytes_read: dict[str, int] = field(default_factory=lambda: {"pred_probs": 0})
    bytes_again: int = 0
    blocks_again: int = 0
    ensemble: Ensemble | None = None

    @property
    def models(self) -> tuple[IssueData, ...]:
        """Where the evidence of the one model is kept."""
        return (self.data,)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.sources)

    @property
    def rereading(self) -> Rereading:
        """The rows, as they are read again."""
        return Rereading(self.data.grid, (self.inputs["pred_probs"],))

    def all(self) -> Scanned:
        """Scan all blocks."""
        return self._scan(self.sources)

    def again(self, damaged: Sequence[int]) -> Scanned:
        """Read blocks whose evidence is not what it was."""
        blocks = [self.sources[block] for block in damaged]
        return self._scan([replace(each, receipt=False, why=Why.DAMAGED) for each in blocks])

    def _scan(self, sources: Sequence[LabeledSource]) -> Scanned:
        """Look at the receipts that there are, and read the blocks for which none counts."""
        states = []
        known = [source for source in sources if source.receipt]
        if known:
            new = [source for source in sources if not source.receipt]
            states.append(self._look(known, new))
            done = {stored.number for stored in states[0].stored}
            sources = [source for source in sources if source.number not in done]
        if sources:
            states.append(self._read(sources))
        state: ScanState = reduce(add, states)
        self.why += state.why
        self.bytes_read["pred_probs"] += state.bytes_read
        return Scanned(state.totals, [state.problems], state.stored, state.problems.total)

    def _look(self, known: Sequence[LabeledSource], new: Sequence[LabeledSource]) -> ScanState:
        """Look at receipts. A task that finds one that does not count reads that block at once, and
        so are few new ones.
        """
        self.reporter.phase(f"looking for what changed in {counted(len(known), 'block')}")
        inputs = self.inputs
        if any(isinstance(rows, DaskRows) for rows in inputs.values()):
            inputs = {"labels": inputs["labels"]}
        else:
            if len(new) <= len(tasks_of(len(known), EVIDENCE_TASKS)):
                known = [*known, *new]
            # What was appended, and what changed at once, lies side by side: deal it out.
            tasks = len(tasks_of(len(known), EVIDENCE_TASKS))
            known = [source for task in range(tasks) for source in known[task::tasks]]
        planned = plan_pass(inputs, self.data.grid, known, EVIDENCE_TASKS)
        return self._run("check", partial(scanning.check, data=self.data), planned)

    def _read(self, sources: Sequence[LabeledSource]) -> ScanState:
        data = self.data
        planned = plan_pass(self.inputs, data.grid, sources, SCAN_TASKS)
        bounds = [data.grid.bounds(source.number) for source in sources]
        rows = sum(stop - start for start, stop in bounds)
        size = rows * data.row.itemsize
        blocks = counted(len(sources), "block")
        classes = f"{data.num_classes:,}"
        if data.top is not None:
            classes = f"{data.top['classes'].shape[0]:,} of {classes}"
        self.reporter.phase(f"reading {rows:,} x {classes} {data.dtype} in {blocks}")
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            task = partial(scanning.scan, data=replace(data, notify=notify))
            return self._run("scan", task, planned)

    def _run(self, name: str, task: Any, planned: BlockPass) -> ScanState:
        probs = self.inputs["pred_probs"]
        state: ScanState = planned.run_reading(name, task, probs, self.data.evidence.stands)
        return state
