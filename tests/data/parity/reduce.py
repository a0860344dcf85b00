"""Reduce a recorded run of the reference to what ships with the tests.

python tests/data/parity/reduce.py ../shared/parity/dev tests/data/parity

Weights are left out: they regenerate from ``weights_recipe.tsv``. Maps keep every second row and column of their last
two axes, under a name that ends in ``_s2``; no value is changed, so that every tolerance stays as it is. The tables at
published sizes are copied from the folder above.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

COPIED = ("config.json", "report.json", "weights_recipe.tsv")
TABLES = (
    "official_config.json",
    "official_constants.npz",
    "official_keys.tsv",
    "official_tables.json",
    "prompt_cases.json",
)
FOR_INFORMATION = {"video_gt_object"}
# Compared in full: two runs' logits, from which the final masks are computed again.
KEPT_WHOLE = {"fusion_nobf16_low_res_masks", "nofusion_nobf16_low_res_masks", "fusion_nobf16_multimask_low_res_frame0"}
STRIDED_FROM_BYTES = 60_000


def reduced(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Every second row and column of a large map; vectors and small arrays as they are."""
    is_map = array.ndim >= 3 and min(array.shape[-2:]) >= 16 and array.shape[-1] == array.shape[-2]
    if not is_map or array.nbytes < STRIDED_FROM_BYTES or name in KEPT_WHOLE:
        return name, array
    return f"{name}_s2", np.ascontiguousarray(array[..., ::2, ::2])


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(source / name, out / name)
    for name in TABLES:
        shutil.copyfile(source.parent / name, out / name)
    inputs = {name: array for name, array in np.load(source / "inputs.npz").items() if name not in FOR_INFORMATION}
    np.savez_compressed(out / "inputs.npz", **inputs)
    outputs = dict(reduced(name, array) for name, array in np.load(source / "outputs.npz").items())
    np.savez_compressed(out / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
