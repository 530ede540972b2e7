"""How the inputs of the main job are cut into blocks, and what is known of these before any is
read: the scan of one model, or of several.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.evidence import columns_for
from noisydask.core.mean_rows import MEAN_COLUMNS
from noisydask.engine.progress import Reporter
from noisydask.engine.tasks import check_memory
from noisydask.issues.blocks import block_sources
from noisydask.issues.evidence import open_evidence
from noisydask.issues.filtering import wanted_columns
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.model_evidence import MODELS, open_model_evidence
from noisydask.issues.models import ModelsScan, aligned_sources
from noisydask.issues.options import IssueSettings
from noisydask.issues.passes import IssueData
from noisydask.issues.scan import Scan
from noisydask.runs.job import Listed
from noisydask.runs.store import Output


def plan_grid(inputs: IssueInputs, block_bytes: int) -> BlockGrid:
    """Plan the blocks: of several models, all rows of a block are held together."""
    rows = inputs.pred_probs.shape[0]
    row_bytes = sum(math.prod(probs.shape[1:]) * probs.dtype.itemsize for probs in inputs.models)
    chunks = {max(1, probs.chunk_rows) for probs in inputs.models}
    together = math.lcm(*chunks)
    if together * row_bytes > block_bytes:
        together = max(chunks)
    return plan_blocks(rows, row_bytes, together, block_bytes)


def plan_scan(
    inputs: IssueInputs,
    settings: IssueSettings,
    output: Output,
    listed: Listed,
    keep: bool,
    joint: bool,
    reporter: Reporter,
) -> Scan | ModelsScan:
    """Return the scan of all blocks.

    Parameters
    ----------
    inputs, settings, output
        What is read, how, and where evidence is kept.
    listed : mapping of str to Snapshot
        The inputs that lie in stores, as they were listed.
    keep : bool
        Whether evidence is kept for another run.
    joint : bool
        Whether the confident joint is made.
    reporter : Reporter
        Shows progress.
    """
    grid = plan_grid(inputs, settings.block_bytes)
    check_memory(grid.block_bytes)
    several = len(inputs.models) > 1
    plan = _several if several else _one
    scan = plan(inputs, settings, output, listed, (grid, keep, joint), reporter)
    if scan.rebuilt:
        reporter.phase(f"the evidence that is there is not used: {scan.rebuilt}")
    return scan


def _one(
    inputs: IssueInputs,
    settings: IssueSettings,
    output: Output,
    listed: Listed,
    planned: tuple[BlockGrid, bool, bool],
    reporter: Reporter,
) -> Scan:
    grid, keep, joint = planned
    probs = inputs.pred_probs
    num_classes = inputs.num_classes
    skip = settings.on_unreadable == "skip"
    sources = block_sources(listed, grid, num_classes, keep, skip)
    fresh = settings.full or sources[0].fingerprint is None
    score = settings.quality_score, settings.adjust_pred_probs
    columns = columns_for(num_classes, inputs.dtype, *score, joint, wanted_columns(settings))
    root = output.checkpoint("issues")
    evidence, rebuilt = open_evidence(root, grid, num_classes, inputs.dtype, columns, fresh)
    data = IssueData(grid, num_classes, inputs.dtype, columns, evidence, skip_unreadable=skip)
    if inputs.top is not None:
        data = replace(data, top=probs.dtype)
    receipts = set() if fresh else evidence.receipts()
    sources = [replace(source, receipt=source.number in receipts) for source in sources]
    rows = {"labels": inputs.labels, "pred_probs": probs}
    return Scan(data, rows, sources, reporter, rebuilt)


def _several(
    inputs: IssueInputs,
    settings: IssueSettings,
    output: Output,
    listed: Listed,
    planned: tuple[BlockGrid, bool, bool],
    reporter: Reporter,
) -> ModelsScan:
    grid, keep, _ = planned
    num_classes = inputs.pred_probs.shape[1]
    skip = settings.on_unreadable == "skip"
    score = settings.quality_score, settings.adjust_pred_probs
    models = []
    known = []
    there = []
    reasons = []
    for number, (name, probs) in enumerate(inputs.named_models.items()):
        some = {key: listed[key] for key in ("labels", "ids") if key in listed}
        if name in listed:
            some["pred_probs"] = listed[name]
        sources = block_sources(some, grid, num_classes, keep, skip)
        fresh = settings.full or sources[0].fingerprint is None
        columns = columns_for(num_classes, probs.dtype, *score, True, settings.keep_columns)
        root = output.place / MODELS / str(number)
        shape = num_classes, probs.dtype, columns, len(inputs.models)
        evidence, rebuilt = open_model_evidence(root, grid, *shape, fresh)
        models.append(IssueData(grid, num_classes, probs.dtype, columns, evidence, skip))
        known.append(sources)
        there.append(set() if fresh else evidence.receipts())
        reasons.append(rebuilt)
    double = np.dtype(np.float64)
    root = output.checkpoint("issues")
    mean, rebuilt = open_evidence(root, grid, num_classes, double, MEAN_COLUMNS, settings.full)
    reasons.append(rebuilt)
    return ModelsScan(
        IssueData(grid, num_classes, double, MEAN_COLUMNS, mean, skip),
        tuple(models),
        inputs.labels,
        inputs.models,
        aligned_sources(known, there),
        settings.weights,
        reporter,
        next((reason for reason in reasons if reason), None),
    )
