"""What can be seen to be wrong before anything is computed or paid for."""

from __future__ import annotations

from vlfilter.data.receipts import exists
from vlfilter.data.shards import list_shards
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge
from vlfilter.methods.unifilter.params import UniFilterParams


def check_inputs(params: UniFilterParams) -> None:
    """Raises `VlfilterError` for shards or files of later steps that are not there, and for a teacher that cannot be.

    That a step lacks what the one before it writes is told when its turn comes.
    """
    if params.synthesize is not None:
        with Judge(params.synthesize.judge(params.output)):  # its name, address, limits and price
            pass
    if params.score is not None:
        list_shards(params.score.shards)
    given: list[str | None] = [params.pretrain.data] if params.pretrain is not None else []
    given += [params.train.data, params.train.validation] if params.train is not None else []
    for url in given:
        if url is not None and not exists(url):
            raise VlfilterError(f"there is no file {url} to train on.")
