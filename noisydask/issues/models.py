"""The scan of several models, run by its client: all are read in one step, then weighed, and the
evidence of their mean is made, from which issues are found as from that of one model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Why
from noisydask.core import model_weights
from noisydask.core.row_kernel import FIXED_POINT
from noisydask.core.thresholds import confident_thresholds
from noisydask.engine.inputs import plan_pass
from noisydask.engine.progress import Reporter, listening
from noisydask.engine.tasks import SCAN_TASKS, run_over_all
from noisydask.issues import aligned, mean
from noisydask.issues.aligned import AlignedSource, AlignedState, model_name
from noisydask.issues.blocks import LabeledSource
from noisydask.issues.ensemble import Ensemble
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.mean import MeanData, MeanSource, MeanState
from noisydask.issues.model_evidence import ModelBlock, ModelState
from noisydask.issues.passes import IssueData, evidence_changed
from noisydask.issues.rereading import Rereading
from noisydask.issues.scan import Scanned
from noisydask.stores.arrays import DaskRows, Rows
from noisydask.text import counted

Floats = npt.NDArray[np.float64]
Weights = str | Sequence[float]


@dataclass
class ModelsScan:
    """The scan of several models, whole or in part.

    Attributes
    ----------
    data : IssueData
        Where the evidence of the mean is kept.
    models : tuple of IssueData
        Where that of each model is.
    labels : Rows or DaskRows
        Given labels.
    probs : tuple of Rows or DaskRows
        The models' rows.
    sources : sequence of AlignedSource
        All blocks.
    weights : str or sequence of float
        How models are weighed.
    reporter : Reporter
        Shows progress.
    rebuilt : str, optional
        Why evidence that was there is not used.
    why : Counter of str
        Blocks of models read, by the reason.
    bytes_read : dict of str to int
        Stored bytes read of each model.
    """

    data: IssueData
    models: tuple[IssueData, ...]
    labels: Rows | DaskRows
    probs: tuple[Rows | DaskRows, ...]
    sources: Sequence[AlignedSource]
    weights: Weights
    reporter: Reporter
    rebuilt: str | None = None
    why: Counter[str] = field(default_factory=Counter)
    bytes_read: dict[str, int] = field(default_factory=dict)
    bytes_again: int = 0
    blocks_again: int = 0
    ensemble: Ensemble | None = None
    _states: tuple[ModelState, ...] = ()
    _shares: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def num_blocks(self) -> int:
        """Blocks of all models."""
        return len(self.sources) * len(self.models)

    @property
    def rereading(self) -> Rereading:
        """The mean of the models, as it is read again."""
        return Rereading(self.data.grid, self.probs, self._shares)

    def all(self) -> Scanned:
        """Scan all blocks of all models, weigh the models, and make the evidence of their mean."""
        state = self._scan(self.sources)
        self._states = state.models
        custom = self._weigh()
        self._shares = model_weights.shares(custom)
        found = self._mean(self._mean_sources())
        thresholds = tuple(confident_thresholds(model.totals) for model in state.models)
        self.ensemble = Ensemble(self.models, thresholds, custom)
        problems = [model.problems for model in state.models]
        return Scanned(found.totals, problems, found.stored, found.refused)

    def again(self, damaged: Sequence[int]) -> Scanned:
        """Make evidence of the mean anew that is not what it was."""
        found = self._mean([self._mean_sources()[block] for block in damaged])
        return Scanned(found.totals, [], found.stored, found.refused)

    def _scan(self, sources: Sequence[AlignedSource]) -> AlignedState:
        inputs = {model_name(number): rows for number, rows in enumerate(self.probs)}
        planned = plan_pass({"labels": self.labels, **inputs}, self.data.grid, sources, SCAN_TASKS)
        unknown = [model for source in sources for model in source.models if not model.receipt]
        bounds = [self.data.grid.bounds(model.number) for model in unknown]
        rows = sum(stop - start for start, stop in bounds)
        size = sum(data.dtype.itemsize for data in self.models) * self.data.num_classes
        size = rows * size // len(self.models)
        blocks = counted(len(sources), "block")
        self.reporter.phase(f"reading {len(self.models)} models in {blocks}")
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            models = tuple(replace(data, notify=notify) for data in self.models)
            task = partial(aligned.scan_models, models=models)
            state: AlignedState = planned.run("scan", task)
        self.why += state.why
        for number, model in enumerate(state.models):
            name = model_name(number)
            self.bytes_read[name] = self.bytes_read.get(name, 0) + model.bytes_read
        return state

    def _weigh(self) -> Floats:
        """Return how much each model counts."""
        number = len(self.models)
        if not isinstance(self.weights, str):
            return model_weights.custom_weights(self.weights, number)
        if self.weights == "uniform":
            return np.full(number, 1 / number)
        if self.weights == "accuracy":
            return model_weights.accuracy_weights([state.agreeing for state in self._states])
        rows = [max(int(state.totals.counts.sum()), 1) for state in self._states]
        losses = [
            state.log_loss / (FIXED_POINT * count)
            for state, count in zip(self._states, rows, strict=True)
        ]
        candidates = model_weights.temperature_weights(losses)
        task = partial(mean.mixtures, models=self.models, candidates=candidates)
        totals = list(run_over_all("mixtures", task, self._mean_sources()))
        return candidates[totals.index(min(totals))]

    def _mean_sources(self) -> list[MeanSource]:
        blocks = [_by_number(model.stored) for model in self._states]
        return [
            MeanSource(number, tuple(model[number] for model in blocks))
            for number in range(len(self.sources))
        ]

    def _mean(self, sources: Sequence[MeanSource]) -> MeanState:
        """Make the evidence of the mean; read blocks again that hold open rows."""
        self.reporter.phase("taking the mean of the models")
        data = MeanData(self.data, self.models, self._shares)
        task = partial(mean.mean, data=data)
        state: MeanState = run_over_all("mean", task, sources)
        if damaged := sorted(state.damaged):
            sources = self._read_damaged(damaged, sources)
            more = run_over_all("mean", task, [sources[number] for number in damaged])
            if more.damaged:
                raise evidence_changed(more.damaged[0], self.data)
            state += more
        if unread := sorted(state.unread):
            self.reporter.phase(f"reading {counted(len(unread), 'block')} again to resolve rows")
            inputs = {model_name(number): rows for number, rows in enumerate(self.probs)}
            some = [source for source in sources if source.number in unread]
            planned = plan_pass(inputs, self.data.grid, some, None)
            more = planned.run("remean", partial(mean.mean_of_rows, data=data))
            if more.unread:
                raise evidence_changed(more.unread[0], self.data)
            self.bytes_again += more.bytes_read
            self.blocks_again += len(unread)
            state += more
        return state

    def _read_damaged(
        self, damaged: Sequence[int], sources: Sequence[MeanSource]
    ) -> Sequence[MeanSource]:
        """Read blocks of all models whose evidence is not what it was; return all blocks."""
        again = [
            AlignedSource(
                number,
                tuple(
                    replace(source, receipt=False, why=Why.DAMAGED)
                    for source in self.sources[number].models
                ),
            )
            for number in damaged
        ]
        state = self._scan(again)
        kept = []
        for before, now in zip(self._states, state.models, strict=True):
            whole = [stored for stored in before.stored if stored.number not in damaged]
            kept.append(replace(before, stored=(*whole, *now.stored)))
        self._states = tuple(kept)
        return self._mean_sources() if len(sources) == len(self.sources) else sources


def _by_number(stored: Sequence[ModelBlock]) -> list[ModelBlock]:
    return sorted(stored, key=_number)


def _number(stored: StoredBlock) -> int:
    return stored.number


def aligned_sources(
    models: Sequence[Sequence[LabeledSource]], receipts: Sequence[set[int]]
) -> list[AlignedSource]:
    """Bring together what is known of the blocks of each model."""
    known = [
        [replace(source, receipt=source.number in there) for source in sources]
        for sources, there in zip(models, receipts, strict=True)
    ]
    return [AlignedSource(number, blocks) for number, blocks in enumerate(zip(*known, strict=True))]
