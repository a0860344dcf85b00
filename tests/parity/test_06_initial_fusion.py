"""Stage 7: the first fusion, from [SEG] embeddings and the segmenter's maps.

Tolerance: five times the recorded noise; the maps are our own image encoder's, since they are recorded in part only.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.parity


def test_initial_fusion(any_recording):
    embeddings = any_recording.model.language.st_embeddings(any_recording.input_ids)
    found = any_recording.model.initial_fusion(embeddings, any_recording.coarse_maps)
    any_recording.assert_close(found, "initial_seg_fusion_out")
