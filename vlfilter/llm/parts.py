"""The judge's parts by what its settings say: where the account lies, and whose API is spoken."""

from __future__ import annotations

from vlfilter.data.storage import absolute, is_local, join
from vlfilter.llm.ledger import Ledger
from vlfilter.llm.s3_ledger import S3Ledger
from vlfilter.llm.sqlite_ledger import SqliteLedger
from vlfilter.llm.vendor import Vendor, Where


def open_ledger(place: str | None, cache: str | None) -> Ledger:
    """At `place`, else beside the cache, else in memory."""
    if place is None and cache is not None:
        place = join(cache, "ledger.sqlite" if is_local(cache) else "ledger")
    if place is None:
        return SqliteLedger(":memory:")
    if is_local(place):
        return SqliteLedger(absolute(place))
    return S3Ledger(place)


def make_vendor(where: Where, timeout_s: float) -> Vendor:
    if where.vendor == "anthropic":
        from vlfilter.llm.anthropic_vendor import AnthropicVendor

        return AnthropicVendor(where, timeout_s)
    from vlfilter.llm.openai_vendor import OpenAiVendor

    return OpenAiVendor(where, timeout_s)
