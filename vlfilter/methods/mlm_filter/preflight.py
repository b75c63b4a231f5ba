"""What can be seen to be wrong before anything is computed or paid for."""

from __future__ import annotations

import os

from vlfilter.data.receipts import exists
from vlfilter.data.shards import list_shards
from vlfilter.data.storage import is_local
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge
from vlfilter.methods.mlm_filter.params import MlmFilterParams


def check_inputs(params: MlmFilterParams) -> None:
    """Raises `VlfilterError` for shards or files of later steps that are not there, and for a judge that cannot be.

    That a step lacks what the one before it writes is told when its turn comes.
    """
    for step in (params.sample, params.score):
        if step is not None:
            list_shards(step.shards)
    if params.grade is not None:
        with Judge(params.grade.judge(params.output)):  # its name, address, limits and price
            pass
        if params.grade.descriptions is not None and not exists(params.grade.descriptions):
            raise VlfilterError(f"there is no file {params.grade.descriptions} with descriptions of the images.")
    if params.mix is not None:
        if params.mix.data is not None and not exists(params.mix.data):
            raise VlfilterError(f"there is no file {params.mix.data} to mix in.")
        folder = params.mix.images
        if folder is not None and is_local(folder) and not os.path.isdir(os.path.expanduser(folder)):
            raise VlfilterError(f"there is no folder {folder} with the images of the rows to mix in.")
    data = params.finetune.data if params.finetune is not None and params.mix is None else None
    if data is not None and not exists(data):
        raise VlfilterError(f"there is no file {data} to fine-tune on.")
