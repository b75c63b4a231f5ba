"""MLM-Filter's flow in the terminal: parameters in, log lines while it works, one line a step at the end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import typer
import yaml

from vlfilter.cli.scoring import console, stop_on_interrupt, terminal_bar
from vlfilter.data.storage import check_writable, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.params import parse_params
from vlfilter.methods.mlm_filter.preflight import check_inputs

LOGGERS = ("vlfilter.methods", "vlfilter.training", "vlfilter.llm")
Flow = Callable[..., Any]


def run_steps(fields: Any, origin: str) -> None:
    """Run the flow. A step that fails ends it with one message, and leaves what was finished in its place."""
    params = parse_params(fields, origin)
    check_inputs(params)
    check_writable(params.output)

    def load() -> Flow:
        from flows.mlm_filter import mlm_filter

        return mlm_filter

    run_flow(load, params, scoring=params.score is not None)


def run_flow(load: Callable[[], Flow], params: Any, *, scoring: bool) -> None:
    """Run a method's flow, imported by `load` once Prefect is quiet, with a bar where it scores.

    Exit code 1 when it fails, 130 when it was stopped; a user's mistake is raised as `VlfilterError`.
    """
    from vlfilter.cli.prefect import check_server, quiet_prefect, start_server

    quiet_prefect()
    with console.status("starting Prefect …"):
        flow = load()
        check_server()
        start_server()
    before = signal.signal(signal.SIGINT, stop_on_interrupt)
    try:
        with terminal_bar("working") if scoring else nullcontext(), log_lines():
            state = flow(params, return_state=True)
    except KeyboardInterrupt:
        say("stopped: what was finished is kept, and the same command goes on.")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)
    if state.is_completed():
        say(state.message or "")
        return
    error = state.result(raise_on_failure=False)
    if isinstance(error, VlfilterError):
        raise error
    say(state.message or "the run failed")
    raise typer.Exit(1)


def estimate(fields: Any, origin: str) -> None:
    """The dry run: choose the pairs, and tell what grading them would take. Nothing is asked, no key is needed."""
    from vlfilter.llm.client import Judge
    from vlfilter.methods.mlm_filter.grading import requests_for
    from vlfilter.methods.mlm_filter.sampling import sample_pairs

    params = parse_params(fields, origin)
    check_inputs(params)
    check_writable(params.output)
    places, sample, grade = params.places, params.sample, params.grade
    assert sample is not None
    assert grade is not None
    with log_lines():
        found = sample_pairs(sample.shards, places.images, places.pairs, places.captions, sample.settings())
    say(f"{found['pairs']} of {found['samples']} pairs chosen, in {places.pairs}")
    with Judge(grade.judge(params.output)) as judge:
        counted = judge.estimate(
            requests_for(places.pairs, places.images, places.grades, grade.settings(params.version))
        )
    say(str(counted))
    if grade.max_usd is not None and counted.usd_most is not None and counted.usd_most > grade.max_usd:
        say(f"at worst that is more than --max-usd {grade.max_usd:g}: the run would stop there, and go on when raised.")


def read_config(path: str) -> Any:
    """The content of a YAML file. Raises `VlfilterError` when it is missing or no YAML."""
    try:
        return yaml.safe_load(read_bytes(path))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {path}.") from None
    except yaml.YAMLError as error:
        raise VlfilterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def read_settings(given: Sequence[str]) -> dict[str, Any]:
    """`learning_rate=1e-5` → {"learning_rate": 1e-5}; values are YAML. Raises `VlfilterError`."""
    settings: dict[str, Any] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            raise VlfilterError(f"--set {entry!r}: write NAME=VALUE, e.g. epochs=2.")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise VlfilterError(f"--set {entry!r}: the value is not YAML, e.g. epochs=2.") from None
    return settings


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _ToConsole(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def log_lines() -> Iterator[None]:
    """What the library says of its progress, in the terminal."""
    handler = _ToConsole(logging.INFO)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
