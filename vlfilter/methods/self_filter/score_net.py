"""The score net of a trained model, read alone: the language model beside it is neither loaded nor downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import WEIGHT_NAMES, hub_file, local_folder, read_json

FILE = "score_net.safetensors"
KEY = "score_net.weight"


def score_net_weight(model: str) -> npt.NDArray[np.float32]:
    """float32 [d], from `score_net.safetensors` or from a published checkpoint's shard that holds `score_net.weight`.

    `model` is a local folder or a hub name. Raises `VlfilterError` when there is no such weight, or it is no vector of
    finite numbers.
    """
    from vlfilter.models.weights import open_weights

    stored = open_weights([_file(model)]).get(KEY)
    if stored is None:
        raise VlfilterError(f"{model} holds no {KEY}: it is not a model that Self-Filter's stage 1 trained.")
    weight: npt.NDArray[np.float32] = stored.read().float().numpy()
    if weight.ndim != 2 or len(weight) != 1 or not np.isfinite(weight).all():
        raise VlfilterError(f"{model}: {KEY} should be one row of finite numbers, it is {list(weight.shape)}.")
    return weight[0]


def _file(model: str) -> Path:
    """The one file that holds the weight, or should; of a hub model, no other is downloaded."""
    folder = local_folder(model)

    def there(name: str) -> Path | None:
        path = folder / name if folder else hub_file(model, name)
        return path if path.is_file() else None

    if alone := there(FILE):
        return alone
    for name in WEIGHT_NAMES:
        if index := there(f"{name}.index.json"):
            shard = read_json(index).get("weight_map", {}).get(KEY)
            if not isinstance(shard, str):
                raise VlfilterError(f"{model} holds no {KEY}: it is not a model that Self-Filter's stage 1 trained.")
            if found := there(shard):
                return found
            raise VlfilterError(f"{model} lacks {shard}, which holds {KEY}: download it again.")
        if single := there(name):
            return single
    raise VlfilterError(f"{model} has no weights (looked for {FILE}, {', '.join(WEIGHT_NAMES)} and their indexes).")
