"""What can be seen to be wrong before anything is computed or paid for."""

from __future__ import annotations

import os

from vlfilter.data.receipts import exists
from vlfilter.data.storage import is_local
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge
from vlfilter.methods.self_filter.params import SelfFilterParams


def check_inputs(params: SelfFilterParams) -> None:
    """Raises `VlfilterError` for files that are not there, and for a judge that cannot be.

    That a step lacks what the one before it writes is told when its turn comes.
    """
    if params.preprocess is not None and not exists(params.preprocess.annotations):
        raise VlfilterError(f"there is no file {params.preprocess.annotations} with instructions.")
    folder = params.images
    if folder is not None and is_local(folder) and not os.path.isdir(os.path.expanduser(folder)):
        raise VlfilterError(f"there is no folder {folder} with the images.")
    if params.judge is not None:
        with Judge(params.judge.judge(params.output)):  # its name, address, limits and price
            pass
