"""`vlfilter doctor`: whether this machine and the servers around it are fit for a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vlfilter.doctor.check import Check, Look

COLOURS = {"ok": "green", "note": None, "warn": "yellow", "fail": "red"}
Url = Annotated[
    str | None, typer.Option(help="A folder or s3://BUCKET/PREFIX: write, list, read and clear there.", metavar="URL")
]


def doctor(
    output: Url = None,
    vllm: Annotated[str | None, typer.Option(help="A vLLM server: http://HOST:8000/v1.", metavar="URL")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Fail where there is no GPU.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check Python, packages, disk, Prefect, work pools, keys, storage, vLLM and GPU; exit code 1 when one fails."""
    from vlfilter.doctor.check import examine, healthy, plain

    checks = []
    for check in examine(_looks(output, vllm, gpu)):
        checks.append(check)
        if not as_json:
            level = typer.style(f"{check.level:<5}", fg=COLOURS[check.level])
            typer.echo(f"{level} {check.line()}")
    if as_json:
        typer.echo(json.dumps(plain(checks), ensure_ascii=False, indent=1))
    if not healthy(checks):
        raise typer.Exit(1)


def _looks(output: str | None, vllm: str | None, gpu: bool) -> list[Look]:
    """The quick ones first. torch and Prefect are imported when it is their turn: that one cannot be is a finding."""
    from vlfilter.doctor.check import Look
    from vlfilter.doctor.machine import check_disk, check_packages, check_python

    looks = [
        Look("python", check_python),
        Look("packages", check_packages),
        Look("disk", lambda: check_disk(output)),
        Look("prefect", _prefect),
        Look("keys", _keys),
    ]
    if output:
        looks.append(Look("storage", lambda: _storage(output)))
    if vllm:
        looks.append(Look("vllm", lambda: _vllm(vllm)))
    return [*looks, Look("gpu", lambda: _gpu(gpu)), Look("flash-attention", _flash_attention)]


def _prefect() -> Iterable[Check]:
    from vlfilter.cli.prefect import quiet_prefect

    quiet_prefect()
    from vlfilter.cli.doctor_prefect import check_prefect

    return check_prefect()


def _keys() -> Iterable[Check]:
    from vlfilter.cli.doctor_prefect import secret_blocks
    from vlfilter.doctor.keys import check_keys

    return check_keys(secret_blocks())


def _storage(url: str) -> Check:
    from vlfilter.doctor.storage import check_storage

    return check_storage(url)


def _vllm(url: str) -> Check:
    from vlfilter.doctor.servers import check_vllm

    return check_vllm(url)


def _gpu(needed: bool) -> Iterable[Check]:
    from vlfilter.doctor.gpu import check_gpu

    return check_gpu(needed)


def _flash_attention() -> Check:
    from vlfilter.doctor.gpu import check_flash_attention

    return check_flash_attention()
