"""Films that GDCM unpacks: a crash of its code costs one film, never the command that reads it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pneumolit.data.film import ImageError
from pneumolit.data.gdcm_process import _Decoder
from tests.data.dicom_files import dicom_bytes

pytest.importorskip("gdcm")
from pydicom.uid import JPEG2000Lossless

FILM = np.arange(32 * 24, dtype=np.uint8).reshape(32, 24)
# Takes in a film and dies of what C++ code dies of, as a damaged one can make GDCM do.
CRASHING = "import os, signal, sys; sys.stdin.buffer.read(9); os.kill(os.getpid(), signal.SIGSEGV)"


def packed_film() -> bytes:
    out = io.BytesIO()
    Image.fromarray(FILM).save(out, "JPEG2000", irreversible=False)
    return dicom_bytes(FILM, syntax=JPEG2000Lossless, PixelData=out.getvalue()[out.getvalue().index(b"\xff\x4f") :])


@pytest.fixture
def decoder() -> Iterator[_Decoder]:
    found = _Decoder()
    yield found
    found.close()


def test_pixels_come_back_as_they_are_stored_and_one_process_reads_one_film_after_another(decoder: _Decoder) -> None:
    np.testing.assert_array_equal(decoder.decode(packed_film()), FILM)
    first = decoder._process
    np.testing.assert_array_equal(decoder.decode(packed_film()), FILM)
    assert decoder._process is first


def test_a_crash_is_told_as_a_damaged_film_and_the_next_film_is_read(
    decoder: _Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = subprocess.Popen

    def crashing(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return whole([sys.executable, "-c", CRASHING], **options)  # type: ignore[call-overload, no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr("pneumolit.data.gdcm_process.subprocess.Popen", crashing)
        with pytest.raises(ImageError, match="its compressed pixels are damaged: the decoder crashed on them"):
            decoder.decode(packed_film())
    assert decoder._process is None
    np.testing.assert_array_equal(decoder.decode(packed_film()), FILM)


def test_a_process_that_died_between_two_films_is_started_again(decoder: _Decoder) -> None:
    decoder.decode(packed_film())
    assert decoder._process is not None
    decoder._process.kill()
    decoder._process.wait()
    np.testing.assert_array_equal(decoder.decode(packed_film()), FILM)


def test_a_film_that_cannot_be_unpacked_gives_its_reason_and_leaves_the_process_alive(decoder: _Decoder) -> None:
    with pytest.raises(ImageError) as told:
        decoder.decode(packed_film()[:-200])
    assert "crashed" not in str(told.value) and "\n" not in str(told.value)
    process = decoder._process
    assert process is not None and process.poll() is None
    np.testing.assert_array_equal(decoder.decode(packed_film()), FILM)
    assert decoder._process is process
