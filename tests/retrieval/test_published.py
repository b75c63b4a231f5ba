"""Published embeddings are data: a file that wants to run something is refused, and what it wanted is named."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlfilter.errors import VlfilterError
from vlfilter.retrieval.published import read_published


def embeddings(dtype: torch.dtype = torch.float32) -> dict[int, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {image: torch.randn(1, 8, generator=random).to(dtype) for image in (391895, 9, 25)}


def pickled(folder: Path, value: Any, protocol: int = 4) -> str:
    path = folder / "coco_image.pth"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return str(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_plain_pickle_of_tensors(tmp_path: Path, protocol: int, dtype: torch.dtype) -> None:
    wanted = embeddings(dtype)
    index = read_published(pickled(tmp_path, wanted, protocol))
    assert index.ids == (391895, 9, 25)
    expected = torch.nn.functional.normalize(torch.cat(list(wanted.values())).float(), dim=-1)
    np.testing.assert_allclose(index.vectors, expected.numpy(), atol=1e-6)
    assert index.model == "openai/clip-vit-base-patch32"


def test_slices_of_one_tensor_and_other_dicts(tmp_path: Path) -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    whole = OrderedDict((i, matrix[i : i + 1]) for i in range(3))
    index = read_published(pickled(tmp_path, whole))
    np.testing.assert_allclose(index.vectors, (matrix / matrix.norm(dim=1, keepdim=True)).numpy(), atol=1e-6)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "coco_image.pth"
    torch.save(embeddings(), path, _use_new_zipfile_serialization=zipped)
    assert read_published(str(path)).ids == (391895, 9, 25)


def test_digits_in_quotes_are_an_id(tmp_path: Path) -> None:
    named = {"000000000009": torch.ones(1, 2), "cat": torch.ones(1, 2)}
    assert read_published(pickled(tmp_path, named)).ids == (9, "cat")


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


class NestedRuns:
    """Hides a pickle that runs code where a tensor's storage would be."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (pickle.dumps(Runs(self.folder), protocol=2),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_the_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    path = pickled(tmp_path, {1: torch.ones(1, 2), 2: Runs(victim)}, protocol)
    with pytest.raises(VlfilterError, match=r"posix\.mkdir"):
        read_published(path)
    assert not victim.exists()
    pickle.loads(Path(path).read_bytes())  # it would have run
    assert victim.exists()


def test_code_in_a_storage_does_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = pickled(tmp_path, {1: NestedRuns(victim)})
    with pytest.raises(VlfilterError, match=r"posix\.mkdir|cannot be read"):
        read_published(path)
    assert not victim.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_what_torch_saved_does_not_run(tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim"
    path = tmp_path / "coco_image.pth"
    torch.save({1: Runs(victim)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(VlfilterError, match="mkdir"):
        read_published(str(path))
    assert not victim.exists()


class Oversized:
    """A tensor that says it is larger than the bytes it brings."""

    def __reduce__(self) -> Any:
        storage = torch.ones(4).storage()
        return torch._utils._rebuild_tensor_v2, (storage, 0, (1, 4000), (4000, 1), False, OrderedDict())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({}, "holds a dict of 0"),
        ([torch.ones(1, 2)], "holds a list of 1"),
        ({1: torch.ones(1, 2), 2: torch.ones(1, 3)}, "image 2 has 3 numbers"),
        ({1: torch.ones(2, 2)}, "not one vector"),
        ({1: torch.ones(1, 2, dtype=torch.int64)}, "not one vector"),
        ({1: "text"}, "not one vector"),
        ({1.5: torch.ones(1, 2)}, "no image id"),
        ({True: torch.ones(1, 2)}, "no image id"),
        ({1: np.ones(2)}, r"numpy\."),
        ({1: Oversized()}, "larger than its storage"),
    ],
)
def test_what_is_no_embeddings_file(tmp_path: Path, value: Any, why: str) -> None:
    with pytest.raises(VlfilterError, match=why):
        read_published(pickled(tmp_path, value))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = Path(pickled(tmp_path, embeddings()))
    data = path.read_bytes()
    for cut in (0, 1, 40, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(VlfilterError, match=r"coco_image\.pth"):
            read_published(str(path))
    with pytest.raises(VlfilterError, match="there is no file"):
        read_published(str(tmp_path / "none.pth"))
