"""Copies to a device and back; on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlfilter.models.device import download, upload, upload_pixels

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_go_there_and_back(device: str) -> None:
    waits = []
    for number in range(20):  # each copy is asked for when others are queued behind it
        there = upload(torch.full((50, 40), number), device)
        assert there.device.type == device
        assert upload(there, device) is there
        waits.append(download(there + 1))
    for number, wait in enumerate(waits):
        found = wait()
        assert found.device.type == "cpu"
        assert torch.equal(found, torch.full((50, 40), number + 1))


@pytest.mark.parametrize("device", DEVICES)
def test_pictures_become_one_tensor(device: str) -> None:
    pictures = [np.full((6, 8, 3), number, np.uint8) for number in range(5)]
    for picture in pictures:
        picture.setflags(write=False)  # as Pillow gives them
    with torch.inference_mode():
        found = upload_pixels(pictures, device)
    assert (found.dtype, found.device.type) == (torch.uint8, device)
    np.testing.assert_array_equal(found.cpu().numpy(), np.stack(pictures))
