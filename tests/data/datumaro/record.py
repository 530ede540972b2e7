"""Writes the small datasets of this folder and records what Datumaro makes of them, in an
environment that has it::

pip install "datumaro==1.10.0" "numpy<2"
python record.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOSSES = ("cls", "bbox", "centerness", "bbox_refine")
ALPHA = 0.125


def dataset(task: str | None, purpose: str | None, items: list[dict[str, Any]]) -> dict[str, Any]:
    """One file of Datumaro's format."""
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("ant", "bee", "cat")]
    infos = {
        name: value for name, value in (("purpose", purpose), ("task", task)) if value is not None
    }
    categories = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
    return {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": infos,
        "categories": categories,
        "items": items,
    }


def annotation(
    rng: random.Random, ann_id: int, label: int, kinds: tuple[str, ...], most: int
) -> dict[str, Any]:
    """An annotation recorded at some of the iterations 0 to ``most - 1``."""
    iters = sorted(rng.sample(range(0, 10 * most, 10), rng.randint(1, most)))
    losses = {
        f"loss_dynamics{kind}": [round(rng.expovariate(0.5), 4) for _ in iters] for kind in kinds
    }
    found: dict[str, Any] = {
        "id": ann_id,
        "attributes": {"iters": iters, **losses},
        "group": 0,
        "label_id": label,
    }
    if kinds == ("",):
        return found | {"type": "label"}
    return found | {"type": "bbox", "bbox": [1.0, 2.0, 3.0, 4.0], "z_order": 0}


def make() -> dict[str, dict[str, Any]]:
    """All files, by path."""
    rng, files = random.Random(3), {}
    purpose = "noisy_label_detection"
    for subset, first, stop in (("train", 0, 8), ("val", 6, 10)):
        items = [
            {
                "id": f"dir/img {k}",
                "annotations": [annotation(rng, k % 2, rng.randrange(3), ("",), 9)],
            }
            for k in range(first, stop)
        ]
        files[f"classification/annotations/{subset}.json"] = dataset(
            "OTX-MultiClassCls", purpose, items
        )
    kinds = tuple(f"_{loss}" for loss in LOSSES)
    for subset, first, stop in (("train", 0, 5), ("val", 3, 6), ("test", 6, 7)):
        items = [
            {
                "id": f"{k:03d}",
                "annotations": [
                    annotation(rng, a, rng.randrange(3), kinds, 7) for a in range(k % 4)
                ],
            }
            for k in range(first, stop)
        ]
        files[f"detection/annotations/{subset}.json"] = dataset("OTX-Det", purpose, items)
    good = [{"id": "a", "annotations": [annotation(rng, 0, 0, ("",), 4)]}]
    bad = json.loads(json.dumps(good))
    bad[0]["annotations"][0]["attributes"]["iters"].append(10**6)
    bare = [
        {
            "id": "a",
            "annotations": [
                {"id": 0, "type": "label", "attributes": {}, "group": 0, "label_id": 0}
            ],
        }
    ]
    for name, content in {
        "no_purpose": dataset("OTX-MultiClassCls", None, good),
        "wrong_purpose": dataset("OTX-MultiClassCls", "training", good),
        "no_task": dataset(None, purpose, good),
        "wrong_task": dataset("OTX-Seg", purpose, good),
        "no_attributes": dataset("OTX-MultiClassCls", purpose, bare),
        "lengths_differ": dataset("OTX-MultiClassCls", purpose, bad),
        "no_items": dataset("OTX-MultiClassCls", purpose, []),
    }.items():
        files[f"{name}/annotations/train.json"] = content
    return files


def curve(series: Any) -> list[list[Any]]:
    """A series as pairs of iteration and value, without missing ones."""
    return [
        [key if isinstance(key, str) else int(key), float(value)]
        for key, value in series.dropna().items()
    ]


def analyse(name: str, **how: Any) -> dict[str, Any]:
    """What Datumaro gives for a dataset."""
    from datumaro.components.algorithms.noisy_label_detection import LossDynamicsAnalyzer  # noqa: PLC0415
    from datumaro.components.dataset import Dataset  # noqa: PLC0415

    try:
        found = LossDynamicsAnalyzer(Dataset.import_from(str(HERE / name), "datumaro"), **how)
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    frame = found.ema_dataframe
    return {
        "alpha": found.alpha,
        "index_names": list(frame.index.names),
        "columns": [c if isinstance(c, str) else int(c) for c in frame.columns],
        "ema": [[list(key), curve(row)] for key, row in frame.iterrows()],
        "mean": curve(found.mean_loss_dyns),
        # Its property mean_loss_dyns_per_label fails: its categories have no hash.
        "mean_per_label": {
            str(label): curve(mean) for label, mean in found._mean_loss_dyns_per_label.items()
        },
        "top": {
            str(k): [
                [c.id, c.subset, c.ann_id, c.label_id, c.metric] for c in found.get_top_k_cands(k)
            ]
            for k in (1, 3, 1000, 0)
        },
    }


def main() -> None:
    """Write all files and what Datumaro makes of them."""
    files = make()
    for path, content in files.items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_text(
            json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8"
        )
    cases: list[tuple[str, dict[str, Any]]] = [
        ("classification", {}),
        ("classification", {"alpha": ALPHA}),
    ]
    cases += [("detection", {"alpha": ALPHA, "tracking_loss_type": loss}) for loss in LOSSES]
    cases += [("detection", {}), ("detection", {"tracking_loss_type": "iou"})]
    cases += [
        (path.split("/")[0], {})
        for path in files
        if not path.startswith(("classification", "detection"))
    ]
    recorded = [{"dataset": name, "how": how, "found": analyse(name, **how)} for name, how in cases]
    (HERE / "recorded.json").write_text(
        json.dumps(recorded, indent=None, separators=(",", ":")) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
