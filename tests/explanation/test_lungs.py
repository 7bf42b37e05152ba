"""A box of shares of the side, and masks of any size from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumolit.explanation.lungs import box_mask, read_masks
from pneumolit.report.explanation import USUAL_BOX


def test_a_box_is_top_left_bottom_right() -> None:
    mask = box_mask([0.0, 0.5, 0.25, 1.0], 8)
    assert mask[:2, 4:].all() and mask.sum() == 8
    assert 0.6 < box_mask(USUAL_BOX, 256).mean() < 0.7


def test_a_box_that_rounds_to_no_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lung_box=.* holds no pixel of 32 x 32; give a larger box"):
        box_mask([0.1, 0.1, 0.105, 0.9], 32)


def write(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_masks_lie_at_the_path_of_the_image_or_all_in_one_folder(tmp_path: Path) -> None:
    left = np.zeros((40, 60), dtype=np.uint8)
    left[:, :30] = 1  # 0 and 1: resized as gray values they would vanish
    write(tmp_path / "train" / "NORMAL" / "a.png", left)
    write(tmp_path / "b.png", 255 - 255 * left)
    write(tmp_path / "c.png", left.astype(np.uint16))  # of 16 bits: as a shade its 1 would be black
    masks = read_masks(tmp_path, ["train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg", "c.jpeg"], 16)
    np.testing.assert_array_equal(masks[2], masks[0])
    masks = masks[:2]
    assert masks.shape == (2, 16, 16)
    assert masks[0, :, :7].all() and not masks[0, :, 9:].any()
    assert masks[1, :, 9:].all() and not masks[1, :, :7].any()


def test_missing_and_useless_masks_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(FileNotFoundError, match=r"no mask for 1 of 2 images, the first \['x/b.jpeg'\]"):
        read_masks(tmp_path, ["x/a.jpeg", "x/b.jpeg"], 8)
    with pytest.raises(ValueError, match=r"a\.png is no lung"):
        read_masks(tmp_path, ["x/a.jpeg"], 8)
    write(tmp_path / "a.png", np.full((8, 8), 7, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a\.png is all lung"):
        read_masks(tmp_path, ["x/a.jpeg"], 8)


def test_one_mask_for_two_images_of_one_name_is_refused(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, :4] = 255
    write(tmp_path / "1.png", mask)
    with pytest.raises(
        ValueError, match=r"one mask, .*1\.png, for 2 images, NORMAL/1\.jpeg and PNEUMONIA/1\.jpeg among"
    ):
        read_masks(tmp_path, ["NORMAL/1.jpeg", "PNEUMONIA/1.jpeg"], 8)
    write(tmp_path / "PNEUMONIA" / "1.png", mask)
    assert read_masks(tmp_path, ["NORMAL/1.jpeg", "PNEUMONIA/1.jpeg"], 8).shape == (2, 8, 8)
