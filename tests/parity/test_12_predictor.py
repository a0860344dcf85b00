"""All stages at once: from the video's pixels to the final masks, by the predictor that people use."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.recorded_frames import RecordedFrames, recorded_predictor
from fixtures.recorded_runs import RecordedRun

from napari_virst.records import Job, Provenance, Query, Span

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", ["fusion_nobf16", "nofusion_nobf16"])
def test_reference_preset_gives_the_recorded_masks(recording, case):
    run = RecordedRun(recording, case)
    if not run.is_recorded:
        pytest.skip(f"{recording.name} holds no {case}")
    # None: the preset itself leaves the first fusion off, as released.
    fuse = True if run.case == "fusion" else None
    predictor = recorded_predictor(recording, preset="reference", use_initial_fusion=fuse)
    num_frames = len(recording.video)
    results = list(predictor.run(RecordedFrames(recording), Job(Query("it"), Span(0, num_frames)), lambda: False))
    assert sorted(result.frame for result in results) == list(range(num_frames))
    anchors = {result.frame for result in results if result.provenance is Provenance.PREDICTED}
    assert anchors == set(recording.array("cond_frames").tolist())
    masks = np.stack([result.mask for result in sorted(results, key=lambda r: r.frame)])
    packed = recording.array(f"{case}_video_masks_packed").numpy()
    expected = np.unpackbits(packed, axis=1)[:, : masks[0].size].reshape(masks.shape).astype(bool)
    assert np.count_nonzero(masks != expected) == 0
