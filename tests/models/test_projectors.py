"""Projectors against numbers computed by the published classes (27 × 27 patches to 12 × 12)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vlfilter.errors import VlfilterError
from vlfilter.models.projectors import AvgPoolProjector, ProjectorConfig, build_projector, image_tokens

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "data_engine" / "v2"

ROW = [28, 30, 32, 34, 37, 39, 41, 43, 46, 48, 50, 52]
COLUMN = [28, 82, 136, 190, 271, 325, 379, 433, 514, 568, 622, 676]


def test_windows_of_27_patches_pooled_to_12() -> None:
    projector = AvgPoolProjector(1, 1, 144)
    projector.mlp_projector = nn.Identity()  # type: ignore[assignment]
    grid = torch.arange(729, dtype=torch.float64).view(1, 729, 1)
    pooled = projector(grid).view(12, 12)
    assert pooled[0].tolist() == ROW
    assert pooled[:, 0].tolist() == COLUMN
    assert pooled[11, 11] == 700
    assert pooled.mean() == 364


def test_projected_numbers() -> None:
    projector = AvgPoolProjector(4, 3, 144)
    o3, i4, i3 = torch.arange(3), torch.arange(4), torch.arange(3)
    first, second = projector.mlp_projector[0], projector.mlp_projector[2]
    with torch.no_grad():
        first.weight.copy_(0.1 * ((o3[:, None] + 2 * i4[None]) % 5 - 2))
        first.bias.copy_(0.01 * o3)
        second.weight.copy_(0.05 * ((3 * o3[:, None] + i3[None]) % 7 - 3))
        second.bias.copy_(0.02 * o3)
    p, d = torch.arange(1, 730, dtype=torch.float64), torch.arange(1, 5, dtype=torch.float64)
    features = torch.sin(0.01 * p[:, None] * d[None]).float()[None]
    with torch.no_grad():
        out = projector(features)[0]
    expected = {
        0: [0.00047492, 0.02437272, 0.04023821],
        11: [0.00071553, 0.02594127, 0.03979192],
        77: [-0.02652257, 0.04471573, -0.0012031],
        143: [0.00128881, 0.02618746, 0.03710964],
    }
    for token, values in expected.items():
        assert out[token].tolist() == pytest.approx(values, abs=1e-6)
    assert float(out.sum()) == pytest.approx(8.00857345, abs=1e-4)


def test_four_neighbours_are_one_token() -> None:
    told = {name: torch.from_numpy(value) for name, value in np.load(PUBLISHED / "vit_concat4.npz").items()}
    width = told["vit_out_with_cls"].shape[-1]
    projector = build_projector(ProjectorConfig("concat4"), width, 4 * width)
    with torch.no_grad():
        projector.weight.copy_(torch.eye(4 * width))
        projector.bias.zero_()
        out = projector(told["vit_out_with_cls"][:, 1:])
    assert torch.equal(out, told["concat"])
    with pytest.raises(VlfilterError, match="a multiple of 4 patches, not 17"):
        projector(told["vit_out_with_cls"])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("linear", {"weight", "bias"}),
        ("concat4", {"weight", "bias"}),
        ("identity", set()),
        ("mlp2x_gelu", {"0.weight", "0.bias", "2.weight", "2.bias"}),
        ("mlp3x_gelu", {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"}),
        (
            "aapool_mlp",
            {"mlp_projector.0.weight", "mlp_projector.0.bias", "mlp_projector.2.weight", "mlp_projector.2.bias"},
        ),
    ],
)
def test_names_are_the_published_ones(kind: str, names: set[str]) -> None:
    assert set(build_projector(ProjectorConfig(kind, 4), 8, 8).state_dict()) == names


def test_tokens_per_image() -> None:
    assert image_tokens(ProjectorConfig("aapool_mlp", 144), 729) == 144
    assert image_tokens(ProjectorConfig("linear"), 729) == 729
    assert image_tokens(ProjectorConfig("concat4"), 1024) == 256


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ProjectorConfig("qformer"), "qformer"),
        (ProjectorConfig("mlp0x_gelu"), "mlp0x_gelu"),
        (ProjectorConfig("aapool_mlp", 150), "150"),
    ],
)
def test_unknown_projectors_are_refused(config: ProjectorConfig, message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        build_projector(config, 8, 8)


def test_identity_needs_equal_widths() -> None:
    with pytest.raises(VlfilterError, match="8 to 16"):
        build_projector(ProjectorConfig("identity"), 8, 16)
