"""Fits the doubt of :mod:`napari_virst.evaluation.doubt` to the true error on scenes, and says how good it is.

    python tests/benchmarks/fit_doubt.py [--batches 4] [--model compact]

Every batch has 6 clips to follow and 6 with a query, each annotated twice: with its first mask alone and with 3 true
masks, or with the query alone and with 2 true masks. All frames that are not given are fitted: a logistic map from
certainty, change of area and distance to 1 - J. Quality is measured on clips that were left out of the fit.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from napari_virst.engine.predictor import load_segmenter
from napari_virst.evaluation.doubt import Evidence, distance_to, doubt
from napari_virst.evaluation.metrics import region_similarity
from napari_virst.io.video import open_video
from napari_virst.records import Anchor, Job, Query, Span
from napari_virst.training.scenes import follow_scenes, language_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

NUM_FRAMES, SIZE, PER_BATCH = 32, 160, 6
NAMES = ("bias", "certainty (logit)", "area change", "log distance")


def rows_of(segmenter, frames, truth, query: str, fixed: set[int]) -> tuple[NDArray, NDArray, NDArray]:
    """Features (N, 4), true error (N,), and the present doubt (N,) of the frames that are not given."""
    masks = np.zeros(truth.shape, np.bool_)
    presence, iou = np.full((2, NUM_FRAMES), np.nan)
    with open_video(frames, axes="TYXS") as video, video.reader() as reader:
        anchors = tuple(Anchor(frame, truth[frame]) for frame in sorted(fixed))
        for result in segmenter.run(reader, Job(Query(query, name="x"), Span(0, NUM_FRAMES), anchors), lambda: False):
            masks[result.frame] = result.mask
            presence[result.frame], iou[result.frame] = result.presence, result.predicted_iou
    masks[list(fixed)] = truth[list(fixed)]
    free = [frame for frame in range(NUM_FRAMES) if frame not in fixed]
    area = np.count_nonzero(masks, axis=(1, 2)).astype(float)
    seen, sure = np.nan_to_num(presence, nan=0.5), np.nan_to_num(iou, nan=1.0)
    certainty = np.clip(np.where(seen >= 0.5, seen * sure, 1 - seen), 0.02, 0.98)
    change = np.zeros(NUM_FRAMES)
    if fixed:
        nearest = [min(fixed, key=lambda f, t=t: abs(f - t)) for t in range(NUM_FRAMES)]
        change = 1 - (np.minimum(area, area[nearest]) + 1) / (np.maximum(area, area[nearest]) + 1)
    logit, distance = np.log(certainty / (1 - certainty)), np.log1p(distance_to(fixed, NUM_FRAMES))
    features = np.stack([np.ones(NUM_FRAMES), logit, change, distance], 1)
    errors = np.array([1 - region_similarity(masks[t], truth[t]) for t in free])
    present = doubt(Evidence(presence, iou, area, np.full(NUM_FRAMES, np.nan)), fixed)
    return features[free], errors, present[free]


def clips(num_batches: int) -> Iterator[tuple]:
    rng = np.random.default_rng(1)
    for number in range(num_batches):
        for draw, seed, counts in ((follow_scenes, 7100, (1, 3)), (language_scenes, 7200, (0, 2))):
            batch = draw(PER_BATCH, NUM_FRAMES, SIZE, seed=seed + number)
            for item in range(PER_BATCH):
                frames = batch.frames[item].permute(0, 2, 3, 1).contiguous().numpy()
                for count in counts:
                    first = {0} if counts[0] else set()
                    more = rng.choice(np.arange(len(first), NUM_FRAMES), count - len(first), replace=False)
                    yield frames, batch.masks[item].numpy(), batch.queries[item], first | set(more.tolist())


def fit(features: NDArray, errors: NDArray) -> NDArray:
    """Logistic regression on soft targets, by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (expected - errors) / len(errors) + 1e-3 * weights
        curvature = (features * (expected * (1 - expected))[:, None]).T @ features / len(errors)
        weights -= np.linalg.solve(curvature + 1e-3 * np.eye(len(weights)), gradient)
    return weights


def rank_correlation(a: NDArray, b: NDArray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def report(name: str, expected: list[NDArray], errors: list[NDArray]) -> None:
    together, truth = np.concatenate(expected), np.concatenate(errors)
    within = [
        rank_correlation(e, t) for e, t in zip(expected, errors, strict=True) if t.std() > 0.02 and e.std() > 1e-6
    ]
    mean_error = np.abs(together - truth).mean()
    print(
        f"{name}: rank correlation {rank_correlation(together, truth):.2f}, within a clip {np.mean(within):.2f}, "
        f"mean error {mean_error:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--model", default="compact")
    options = parser.parse_args()
    segmenter = load_segmenter(options.model, "cpu")
    found = [rows_of(segmenter, *clip) for clip in clips(options.batches)]
    features, errors, present = ([part[i] for part in found] for i in range(3))
    left_out = []
    for number in range(len(found)):
        rest = [i for i in range(len(found)) if i // 2 % PER_BATCH != number // 2 % PER_BATCH]
        weights = fit(np.concatenate([features[i] for i in rest]), np.concatenate([errors[i] for i in rest]))
        left_out.append(1 / (1 + np.exp(-features[number] @ weights)))
    weights = fit(np.concatenate(features), np.concatenate(errors))
    print(", ".join(f"{name} {weight:.2f}" for name, weight in zip(NAMES, weights, strict=True)))
    report("fitted, on clips left out", left_out, errors)
    report("as in the code", present, errors)
    report("certainty alone", [1 / (1 + np.exp(f[:, 1])) for f in features], errors)


if __name__ == "__main__":
    main()
