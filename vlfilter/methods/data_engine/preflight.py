"""What can be seen to be wrong before anything is computed or paid for."""

from __future__ import annotations

import os

from vlfilter.data.receipts import exists
from vlfilter.data.storage import is_local
from vlfilter.errors import VlfilterError
from vlfilter.llm.client import Judge
from vlfilter.llm.form import AskStep
from vlfilter.methods.data_engine.params import DataEngineParams
from vlfilter.retrieval.store import check_index
from vlfilter.training.mixture import read_mixture

FILES = ("captions", "instances", "regions", "image_data", "ocr", "annotations")


def check_inputs(params: DataEngineParams) -> None:
    """Raises `VlfilterError` for files and folders that are not there, for a mixture or an index that cannot be read,
    and for judges that cannot be."""
    if not exists(params.questions):
        raise VlfilterError(f"there is no file {params.questions} with questions.")
    for name in FILES:
        url = getattr(params.query, name)
        if url is not None and not exists(url):
            raise VlfilterError(f"there is no file {url} (query.{name}).")
    for folder, what in ((params.images, "the questions' images"), (params.query.images, "the images to ask about")):
        if is_local(folder) and not os.path.isdir(os.path.expanduser(folder)):
            raise VlfilterError(f"there is no folder {folder} with {what}.")
    if params.query.version == "v1" and params.query.captions is None and params.query.instances is None:
        raise VlfilterError("the teacher does not see the images: give query.captions and query.instances.")
    if params.query.version == "v2" and params.query.regions is None:
        raise VlfilterError("the teacher does not see the images: v2 needs query.regions.")
    if params.query.index is not None:
        check_index(params.query.index)
    base = read_mixture(params.train.mixture).datasets
    for entry in base:
        if lost := [url for url in entry.files if not exists(url)]:
            raise VlfilterError(f"{params.train.mixture}: there is no file {lost[0]} (data set {entry.name}).")
    taken = {entry.name for entry in base}
    if clash := taken & {round_name(number) for number in range(1, params.rounds + 1)}:
        raise VlfilterError(f"{params.train.mixture}: {min(clash)} is the name of a round's data: rename that entry.")
    asked: list[tuple[AskStep, str]] = [(params.generate, params.generate.model)]
    if params.classify:
        asked.append((params.classify, params.classify.model))
    if step := params.verify:
        asked += [(step, judge) for judge in (step.image_judge, step.text_judge) if judge]
    for asking, model in asked:
        with Judge(params.judge(asking, model)):  # its name, address, limits and price
            pass


def round_name(number: int) -> str:
    """What a mixture calls a round's data; nothing with "val" in it, which the original takes for validation data."""
    return f"gptvqa_round{number}"
