from __future__ import annotations

import copy
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fixtures.movies import SIZE, decoded_in_order, drawn_frame, write_movie

from napari_virst.errors import VideoError
from napari_virst.io._movie import MovieDecoder, Player
from napari_virst.io._movie_index import MovieIndex, index_movie

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_left_open")

ALL = slice(None)
LONG_GROUP = {"g": "1000", "sc_threshold": "0"}

CLIPS = {
    "one keyframe": ("a.mp4", {"options": LONG_GROUP | {"bf": "0"}}),
    "one keyframe and B-frames": ("a.mp4", {"options": LONG_GROUP | {"bf": "3"}}),
    "open groups": ("a.mkv", {"options": {"g": "10", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
    "short closed groups": ("a.mp4", {"options": {"g": "7", "bf": "2"}}),
    "variable frame rate from 300 ms": ("a.mp4", {"time_ms": lambda n: 300 + n * n, "options": {"g": "10"}}),
    "variable frame rate in Matroska": ("a.mkv", {"time_ms": lambda n: 7000 + 40 * n + n % 3, "options": {"g": "10"}}),
    "transport stream": ("a.ts", {"options": {"g": "8", "bf": "2"}}),
    "AVI with B-frames": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
    "motion JPEG": ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "VP9": ("a.webm", {"codec": "libvpx-vp9", "options": {"g": "10", "deadline": "realtime"}}),
    "raw H.264 without time stamps": ("a.h264", {"options": {"bf": "2", "g": "10"}}),
    "MPEG program stream": ("a.mpg", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "animated GIF": ("a.gif", {"codec": "gif", "pixel_format": "rgb8"}),
}


def read(decoder: MovieDecoder, number: int) -> np.ndarray:
    return decoder.read((number, *[ALL] * (len(decoder.shape) - 1)))


def forget(decoder: MovieDecoder) -> None:
    """Make the decoder decode again."""
    if decoder._handle is not None:
        decoder._handle._cache.clear()


def check(decoder: MovieDecoder, expected: list[np.ndarray], order: list[int]) -> None:
    for number in order:
        np.testing.assert_array_equal(read(decoder, number), expected[number], err_msg=f"frame {number} of {order}")


@pytest.fixture(params=CLIPS.values(), ids=CLIPS.keys())
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, settings = request.param
    try:
        return write_movie(tmp_path / name, 36, **settings)
    except ValueError as error:  # PyAV's build has no such encoder
        pytest.skip(str(error))


def test_every_frame_equals_sequential_decoding_in_any_order(clip):
    expected = decoded_in_order(clip)
    decoder = MovieDecoder(clip)
    assert decoder.shape == (36, *SIZE, 3)
    jumps = random.Random(0).choices(range(36), k=30)
    check(decoder, expected, list(range(36)))
    check(copy_of := copy.copy(decoder), expected, list(range(35, -1, -1)))
    for number in jumps:
        forget(decoder)
        check(decoder, expected, [number, min(number + 1, 35)])
    decoder.close()
    copy_of.close()


def test_frames_come_in_the_order_they_were_drawn(tmp_path):
    decoder = MovieDecoder(write_movie(tmp_path / "a.mkv", 12, codec="ffv1", pixel_format="bgr0"))
    check(decoder, [drawn_frame(number) for number in range(12)], [11, 0, 5])
    decoder.close()


def test_stepping_back_in_a_long_group_decodes_it_once_for_several_frames(tmp_path):
    decoder = MovieDecoder(write_movie(tmp_path / "a.mp4", options=LONG_GROUP))
    read(decoder, 30)
    player = decoder._handle
    decoded = []
    player._decode_up_to = lambda number, go=player._decode_up_to: (decoded.append(number), go(number))
    for number in range(29, 18, -1):
        read(decoder, number)
    assert decoded == []
    del player._decode_up_to
    decoder.close()


def test_gray_movies_stay_gray_and_sixteen_bit(tmp_path):
    def draw(number: int) -> np.ndarray:
        return np.arange(48 * 64, dtype=np.uint16).reshape(SIZE) * 20 + number

    path = write_movie(
        tmp_path / "a.avi", 5, codec="ffv1", pixel_format="gray16le", frame=draw, frame_format="gray16le"
    )
    decoder = MovieDecoder(path)
    assert (decoder.shape, decoder.dtype, decoder.axes) == ((5, *SIZE), np.uint16, "TYX")
    check(decoder, [draw(number) for number in range(5)], [3, 0])
    decoder.close()


def test_ten_bit_colour_is_read_as_eight_bits_and_said(tmp_path):
    decoder = MovieDecoder(write_movie(tmp_path / "a.mkv", 3, codec="ffv1", pixel_format="yuv420p10le"))
    assert decoder.dtype == np.uint8
    assert "8 bits" in decoder.notes[0]
    decoder.close()


def test_movie_filmed_sideways_stands_upright(tmp_path):
    path = write_movie(tmp_path / "a.mp4", 4)
    expected = decoded_in_order(path)
    content = bytearray(path.read_bytes())
    matrix = content.rfind(b"tkhd") + 4 + 40  # the display matrix: a, b, u, c, d, v, x, y, w
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    decoder = MovieDecoder(path)
    assert decoder.shape == (4, 64, 48, 3)
    np.testing.assert_array_equal(read(decoder, 2), np.rot90(expected[2], -1))
    assert "filmed on its side" in decoder.notes[0]
    decoder.close()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_truncated_movie_offers_the_frames_it_holds(tmp_path, name):
    fast = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_movie(tmp_path / name, 60, options={"g": "10", "bf": "2"}, container_options=fast)
    whole = decoded_in_order(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    decoder = MovieDecoder(path)
    num_frames = decoder.shape[0]
    assert 20 <= num_frames < 60
    check(decoder, whole, list(range(num_frames - 4)))  # the last ones may refer to what was cut off
    for number in range(num_frames):
        forget(decoder)
        assert read(decoder, number).shape == (*SIZE, 3)
    if name == "a.mp4":
        assert "cut short" in decoder.notes[0]
    decoder.close()


def test_stream_cut_at_its_start_begins_at_the_first_whole_frame(tmp_path):
    path = write_movie(tmp_path / "a.ts", 60, options={"g": "10", "bf": "2"})
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 188 // 3 * 188 :])
    expected = decoded_in_order(path)
    decoder = MovieDecoder(path)
    assert decoder.shape[0] == len(expected)
    check(decoder, expected, [len(expected) - 1, 0, len(expected) // 2])
    decoder.close()


def test_frame_without_picture_raises_and_the_others_can_be_read(tmp_path):
    path = write_movie(tmp_path / "a.mp4", options={"g": "10"})
    honest = index_movie(path)
    stamps = (*honest.stamps[:25], honest.stamps[25] - 1, *honest.stamps[25:])
    player = Player(path, MovieIndex(stamps, tuple(stamps.index(honest.stamps[k]) for k in honest.keyframes), 41))
    with pytest.raises(VideoError, match=r"must be decodable; got damaged data at frame 25 of a\.mp4"):
        player.frame(25)
    expected = decoded_in_order(path)
    np.testing.assert_array_equal(player.frame(24), expected[24])
    np.testing.assert_array_equal(player.frame(26), expected[25])
    player.close()


def test_frames_damaged_near_the_start_are_told(tmp_path):
    import av

    path = write_movie(tmp_path / "a.mp4", options={"g": "1"})
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][5]
        start, stop = packet.pos, packet.pos + packet.size
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(stop - start) + content[stop:])
    decoder = MovieDecoder(path)
    assert decoder.shape[0] == 39
    assert "a.mp4 is damaged: 1 frame within it cannot be read" in decoder.notes[0]
    decoder.close()


def test_unpromising_index_is_replaced_by_decoding(tmp_path, monkeypatch):
    path = write_movie(tmp_path / "a.mp4", options={"g": "10"})
    honest = index_movie(path)
    lying = MovieIndex((*honest.stamps[:5], honest.stamps[5] - 1, *honest.stamps[5:]), honest.keyframes, 41)
    monkeypatch.setattr("napari_virst.io._movie_index._index_by_packets", lambda _: (lying, False))
    assert index_movie(path).stamps == honest.stamps


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"\x00" * 4096, "must be a movie", id="zeros"),
        pytest.param(b"not a movie at all, just words " * 50, "must", id="words"),
    ],
)
def test_file_that_is_no_movie_is_refused(tmp_path, content, message):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        MovieDecoder(path)


def test_movie_without_its_table_is_refused(tmp_path):
    path = write_movie(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"a\.mp4 must be a movie; got .*; check that the file is whole"):
        MovieDecoder(path)


def test_unknown_codec_is_named_as_the_problem(tmp_path):
    path = write_movie(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    where = content.rfind(b"avc1")
    content[where : where + 4] = b"zzzz"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="must use a known codec"):
        MovieDecoder(path)


def test_sound_without_pictures_is_refused(tmp_path):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="must hold a video"):
        MovieDecoder(path)


@pytest.mark.parametrize("clip_name", ["mp4_juggle", "mp4_spiders"])
@pytest.mark.shared
def test_random_access_to_a_real_clip_equals_sequential_decoding(shared_clips, clip_name):
    import av

    path = shared_clips / clip_name / "video.mp4"
    decoder = MovieDecoder(path)
    wanted = (3, 97, 60, 61)
    expected = {}
    with av.open(str(path)) as container:
        for number, picture in zip(range(max(wanted) + 1), container.decode(video=0), strict=False):
            if number in wanted:
                expected[number] = picture.to_ndarray(format="rgb24")
    for number in (97, 3, 61, 60):
        np.testing.assert_array_equal(read(decoder, number), expected[number])
    decoder.close()
