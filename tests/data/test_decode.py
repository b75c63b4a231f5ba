"""Members → content: what counts as a sample, which caption, which uid, and every reason why not."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import document, jpeg, make_tar, pair, pairs, png, uid_of
from vlfilter.data.decode import Limits, decode_sample, read_pair, sample_uid
from vlfilter.data.reader import read_shard
from vlfilter.data.samples import ImageText, Interleaved, Member, RawSample, Sample, SampleError, Status
from vlfilter.data.shards import Shard


def raw(members: dict[str, bytes], key: str = "k") -> RawSample:
    return RawSample(key, tuple(Member(f"{key}.{e}", e, data) for e, data in members.items()))


def decode(members: dict[str, bytes], **limits: int) -> Sample:
    return decode_sample(raw(members), Limits(**limits))


def problem(members: dict[str, bytes], **limits: int) -> tuple[Status, str]:
    sample = decode(members, **limits)
    assert sample.content is None
    assert sample.problem is not None
    return sample.problem.status, sample.problem.reason


def caption(members: dict[str, bytes]) -> str:
    sample = decode(members)
    assert isinstance(sample.content, ImageText), sample.problem
    return sample.content.caption


def interleaved(members: dict[str, bytes], **limits: int) -> Interleaved:
    sample = decode(members, **limits)
    assert isinstance(sample.content, Interleaved), sample.problem
    return sample.content


def test_a_pair_from_a_tar(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", pairs(3), tarfile.PAX_FORMAT)
    samples = [decode_sample(r) for r in read_shard(Shard("a", str(path), 0, ""))]
    assert [(s.key, s.uid) for s in samples] == [(k, uid_of(k)) for k, _ in pairs(3)]
    for sample, (key, members) in zip(samples, pairs(3), strict=True):
        assert isinstance(sample.content, ImageText)
        assert sample.content.caption == f"a picture called {key}"
        expected = Image.open(io.BytesIO(members["jpg"])).convert("RGB")
        assert np.array_equal(np.asarray(sample.content.image), np.asarray(expected))


def test_images_in_the_order_of_the_published_scripts() -> None:
    images = {e: png(i, (10 + i, 5)) for i, e in enumerate(["bmp", "webp", "jpeg", "png", "jpg"])}
    for expected in ("jpg", "png", "jpeg", "webp", "bmp"):
        sample = decode({**images, "txt": b"x"})
        assert isinstance(sample.content, ImageText)
        assert sample.content.image.width == 10 + ["bmp", "webp", "jpeg", "png", "jpg"].index(expected)
        del images[expected]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"txt": b"from txt", "json": b'{"caption": "from json"}'}, "from txt"),
        ({"json": b'{"caption": "from json", "text": "other"}'}, "from json"),
        ({"json": b'{"caption": null, "text": "other"}'}, "other"),
        ({"txt": b"\xef\xbb\xbfwith a mark"}, "with a mark"),
        ({"txt": b" a <image> b\n"}, " a <image> b\n"),
        ({"txt": b"fine", "json": b"{broken"}, "fine"),
        ({"txt": b"fine", "json": b"[" * 100_000}, "fine"),
        ({"json": b'{"caption": "half \\ud800 a pair"}'}, "half � a pair"),
        ({"txt": b"x" * 100_000}, "x" * 100_000),
    ],
)
def test_captions(members: dict[str, bytes], expected: str) -> None:
    assert caption({"jpg": jpeg(), **members}) == expected


@pytest.mark.parametrize(
    ("members", "status", "reason"),
    [
        ({}, Status.MISSING_TEXT, "no caption"),
        ({"txt": b""}, Status.MISSING_TEXT, "empty"),
        ({"txt": b" \n"}, Status.MISSING_TEXT, "empty"),
        ({"json": b"{}"}, Status.MISSING_TEXT, "no caption"),
        ({"json": b'{"caption": null}'}, Status.MISSING_TEXT, "no caption"),
        ({"json": b'{"caption": 5}'}, Status.UNSUPPORTED, "a number, not text"),
        ({"json": b"{broken"}, Status.UNSUPPORTED, "json is broken: Expecting"),
        ({"json": b"[1]"}, Status.UNSUPPORTED, "a list, not an object"),
        ({"json": b"[" * 100_000}, Status.UNSUPPORTED, "nested too deeply"),
        ({"json": b'{"caption": ' + b"9" * 5000 + b"}"}, Status.UNSUPPORTED, "broken"),
        ({"json": b"\xff\xfe\x00"}, Status.UNSUPPORTED, "broken"),
        ({"txt": b"caf\xe9"}, Status.UNSUPPORTED, "not UTF-8"),
        ({"txt": b"x" * 1_000_001}, Status.TOO_LARGE, "1000001 characters"),
    ],
)
def test_captions_that_cannot_be_used(members: dict[str, bytes], status: Status, reason: str) -> None:
    found, why = problem({"jpg": jpeg(), **members})
    assert found is status
    assert reason in why


@pytest.mark.parametrize(
    ("members", "status", "reason"),
    [
        ({"txt": b"x"}, Status.MISSING_IMAGE, "(txt)"),
        ({"pth": b"\x80\x04.", "pyd": b"x"}, Status.MISSING_IMAGE, "(pth, pyd)"),
        ({"jpg": b"", "txt": b"x"}, Status.CORRUPT_IMAGE, "zero bytes"),
        ({"jpg": jpeg()[:300], "txt": b"x"}, Status.CORRUPT_IMAGE, "cannot be decoded"),
        ({"json": b'{"texts": ["a"]}'}, Status.UNSUPPORTED, "no `image_info`"),
        ({"json": b"{broken"}, Status.UNSUPPORTED, "json is broken"),
    ],
)
def test_images_that_cannot_be_used(members: dict[str, bytes], status: Status, reason: str) -> None:
    found, why = problem(members)
    assert found is status
    assert reason in why


def test_the_pixel_limit_is_passed_on() -> None:
    assert problem({"jpg": jpeg(0, (20, 20)), "txt": b"x"}, max_pixels=399)[0] is Status.TOO_LARGE


def test_a_readers_problem_stands() -> None:
    bad = RawSample("k", raw(pair("k")).members, SampleError(Status.FAILED, "cut"))
    sample = decode_sample(bad)
    assert (sample.content, sample.problem, sample.uid) == (None, bad.problem, uid_of("k"))


def test_uid_is_datacomps_where_there_is_one() -> None:
    assert decode({"json": b'{"uid": "00A3c6f2d1b94e55a0ff12345678abcd"}'}).uid == "00a3c6f2d1b94e55a0ff12345678abcd"


@pytest.mark.parametrize("uid", [b"5", b"null", b'"short"', b'"' + b"g" * 32 + b'"', b'"' + b"0" * 33 + b'"'])
def test_other_uids_are_derived(uid: bytes) -> None:
    members = {"jpg": b"123", "json": b'{"uid": ' + uid + b"}"}
    parts = [b"k", b"jpg", members["jpg"], b"json", members["json"]]
    expected = hashlib.blake2b(b"".join(len(p).to_bytes(8, "little") + p for p in parts), digest_size=16)
    assert sample_uid(raw(members)) == decode(members).uid == expected.hexdigest()


def test_derived_uids_tell_samples_apart() -> None:
    samples = [raw({"a": b"bc"}), raw({"ab": b"c"}), raw({"a": b"bc"}, "other"), raw({"a": b"b", "c": b""})]
    assert len({sample_uid(s) for s in samples}) == 4


def test_interleaved_document() -> None:
    given = document(["a", None, "", None], [None, jpeg(1, (20, 10)), None, png(2, (8, 8))], uid=uid_of("doc"))
    sample = decode(given)
    assert sample.uid == uid_of("doc")
    content = interleaved(given)
    assert content.texts == ("a", None, "", None)
    assert [image and image.size for image in content.images] == [None, (20, 10), None, (8, 8)]
    assert [image and image.mode for image in content.images] == [None, "RGB", None, "RGB"]
    assert content.broken == (None,) * 4


def test_broken_slots_have_reasons_and_stay_in_place() -> None:
    given = document([None, None, None, "text"], [png(0, (1, 9)), b"garbage", None, jpeg()])
    record = json.loads(given["json"])
    record["texts"] += [None] * 4
    record["image_info"] += [{}, {"image_base64": "ä"}, {"image_base64": "abc"}, [1]]
    content = interleaved({"json": json.dumps(record).encode()})
    assert content.texts == (None, None, None, "text", None, None, None, None)
    assert content.images == (None,) * 8
    reasons = ["1 pixel", "begins with", "neither", "holds a text too", "no image_base64", "not base64", "not base64"]
    for found, expected in zip(content.broken, [*reasons, "no image_base64"], strict=True):
        assert found is not None
        assert expected in found


def test_a_document_without_images_is_left_to_the_scorer() -> None:
    assert interleaved(document(["a"], [None])).texts == ("a",)
    assert interleaved(document([], [])) == Interleaved((), (), ())


def test_a_document_goes_before_the_image_beside_it() -> None:
    assert interleaved({"jpg": jpeg(), "txt": b"x", **document(["a"], [None])}).texts == ("a",)
    assert caption({"jpg": jpeg(), "json": b'{"texts": ["a"], "caption": "c"}'}) == "c"


@pytest.mark.parametrize(
    ("record", "status", "reason"),
    [
        ({"texts": ["a"], "image_info": []}, Status.UNSUPPORTED, "`texts` has 1 entries, `image_info` 0"),
        ({"texts": "a", "image_info": []}, Status.UNSUPPORTED, "should be lists"),
        ({"image_info": []}, Status.UNSUPPORTED, "`texts` is null"),
        ({"texts": [5], "image_info": [None]}, Status.UNSUPPORTED, "texts[0] is a number"),
        ({"texts": [None] * 10_001, "image_info": [None] * 10_001}, Status.TOO_LARGE, "10001 slots"),
        ({"texts": ["x" * 600_000] * 2, "image_info": [None] * 2}, Status.TOO_LARGE, "1200000 characters"),
    ],
)
def test_documents_that_cannot_be_used(record: dict[str, Any], status: Status, reason: str) -> None:
    found, why = problem({"json": json.dumps(record).encode()})
    assert found is status
    assert reason in why


def test_a_documents_pixels_are_bounded_in_all() -> None:
    content = interleaved(document([None] * 3, [png(0, (10, 10))] * 3), max_document_pixels=250)
    assert [image is not None for image in content.images] == [True, True, False]
    assert "limit is 50" in (content.broken[2] or "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
RECORD = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["uid", "caption", "text", "texts", "image_info"], JSON | st.lists(JSON, max_size=3))
)


@settings(max_examples=300, deadline=None)
@given(
    record=RECORD.map(lambda r: json.dumps(r).encode()) | st.binary(max_size=40),
    others=st.fixed_dictionaries({}, optional={"jpg": st.just(jpeg(0, (4, 4))), "txt": st.binary(max_size=8)}),
)
def test_any_members_give_content_or_a_reason(record: bytes, others: dict[str, bytes]) -> None:
    sample = decode({**others, "json": record})
    assert (sample.content is None) == (sample.problem is not None)
    assert len(sample.uid) == 32
    assert sample.problem is None or sample.problem.status is not Status.FAILED
    if isinstance(sample.content, ImageText):
        sample.content.caption.encode()


def test_a_pair_is_read_without_decoding_its_image() -> None:
    members = pair("k", caption="a cat", image=b"no image at all")
    found = read_pair(raw(members))
    assert (found.uid, found.image.data, found.image.extension, found.caption) == (
        uid_of("k"), b"no image at all", "jpg", "a cat",
    )  # fmt: skip
    assert problem(members)[0] is Status.CORRUPT_IMAGE


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"txt": b"a caption"}, Status.MISSING_IMAGE),
        ({"jpg": jpeg(0)}, Status.MISSING_TEXT),
        (document(["a text", None], [None, png(0)]), Status.UNSUPPORTED),
    ],
)
def test_what_is_no_pair_says_why(members: dict[str, bytes], status: Status) -> None:
    with pytest.raises(SampleError) as error:
        read_pair(raw(members))
    assert error.value.status is status
