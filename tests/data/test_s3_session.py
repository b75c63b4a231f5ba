"""Times in S3's answers are read as botocore reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.s3_session import read_time, s3_session

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(MOMENTS)
def test_all_forms_of_a_time_are_read(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    milli = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert read_time(milli.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milli.microsecond // 1000:03d}Z") == milli
    assert read_time(whole.strftime("%Y-%m-%dT%H:%M:%SZ")) == whole
    assert read_time(format_datetime(whole, usegmt=True)) == whole
    assert read_time(str(int(whole.timestamp()))) == whole
    for text in (whole.isoformat(), format_datetime(whole, usegmt=True)):
        assert read_time(text) == parse_timestamp(text)


def test_what_is_no_time_is_refused_as_botocore_does() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        read_time("soon")


def test_the_session_s_clients_use_it() -> None:
    parser = s3_session().get_component("response_parser_factory").create_parser("rest-xml")
    assert parser._timestamp_parser is read_time
