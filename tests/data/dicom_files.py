"""DICOM files of a film, as devices and archives write them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)


def dicom_bytes(
    pixels: np.ndarray, *, photometric: str = "MONOCHROME2", bits: int | None = None, syntax: Any = None, **tags: Any
) -> bytes:
    """A file of these pixels.

    Args:
        pixels: `(H, W)` or `(H, W, 3)` uint8, uint16 or int16, as they are stored.
        photometric: interpretation.
        bits: stored ones; None takes all.
        syntax: transfer syntax; None is plain. Of RLE the pixels are compressed here; of any other compressed one
            `PixelData` must be among the tags, as one frame of bytes.
        tags: further ones by keyword.
    """
    is_packed_here = syntax == RLELossless and "PixelData" not in tags
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if is_packed_here else syntax or ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    frame = tags.pop("PixelData", None)
    for name, value in tags.items():
        setattr(dataset, name, value)
    if frame is not None:
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
    else:
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    if is_packed_here:
        dataset.compress(RLELossless)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


__all__ = ["DeflatedExplicitVRLittleEndian", "RLELossless", "dicom_bytes"]
