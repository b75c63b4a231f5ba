"""Reading tars: one sample for every key, whatever the bytes are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import make_tar, pairs, tar_bytes
from vlfilter.data import tarstream
from vlfilter.data.reader import ShardReader, read_shard
from vlfilter.data.samples import RawSample, SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.storage import write_bytes
from vlfilter.errors import ShardError

GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT


def shard(path: Path | str) -> Shard:
    size = os.path.getsize(path) if os.path.exists(path) else 0
    return Shard("s", str(path), size, "1")


def write(path: Path, data: bytes) -> Shard:
    path.write_bytes(data)
    return shard(path)


def members(*entries: tarfile.TarInfo | tuple[str, bytes], format: int = GNU) -> bytes:
    """A tar of TarInfo objects (links and the like) and (name, data) files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return file.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(given: Shard) -> tuple[list[RawSample], list[str]]:
    reader = ShardReader(given)
    return list(reader), reader.warnings


def statuses(samples: list[RawSample]) -> list[tuple[str, str]]:
    return [(s.key, s.problem.status if s.problem else Status.OK) for s in samples]


@pytest.mark.parametrize("format", [USTAR, GNU, PAX])
def test_samples_come_in_order_with_all_their_bytes(tmp_path: Path, format: int) -> None:
    given = pairs(20)
    samples, warnings = read(shard(make_tar(tmp_path / "a.tar", given, format)))
    assert [(s.key, {m.extension: m.data for m in s.members}) for s in samples] == given
    assert not any(s.problem for s in samples)
    assert warnings == []


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tars_are_read_whatever_they_are_called(tmp_path: Path, compress: Any) -> None:
    samples, warnings = read(write(tmp_path / "a.tar", compress(tar_bytes(pairs(5)))))
    assert [s.key for s in samples] == [key for key, _ in pairs(5)]
    assert warnings == []


def test_long_names_and_raw_headers(tmp_path: Path) -> None:
    """Header, data and padding of the members, put together, are the tar itself."""
    for format in (USTAR, GNU, PAX):
        key = "ordner/" + "ä" * 40 if format == USTAR else "ordner/" + "ä" * 300
        data = tar_bytes([(key, {"jpg": b"1" * 700, "txt": b"", "json": b"{}"})], format)
        (sample,) = read_shard(write(tmp_path / "a.tar", data))
        assert sample.key == key
        again = b"".join(m.header + m.data + bytes(-len(m.data) % 512) for m in sample.members)
        assert data.startswith(again)
        assert not data[len(again) :].strip(b"\0")


def test_keys_and_extensions_are_webdatasets(tmp_path: Path) -> None:
    data = members(("v1.0/a.b.JPG", b"1"), ("v1.0/a.txt", b"2"), ("./b.seg.png", b"3"))
    samples = list(read_shard(write(tmp_path / "a.tar", data)))
    assert [(s.key, [m.extension for m in s.members]) for s in samples] == [
        ("v1.0/a", ["b.jpg", "txt"]),
        ("./b", ["seg.png"]),
    ]


def test_directories_are_no_samples(tmp_path: Path) -> None:
    data = members(special("d", tarfile.DIRTYPE), ("d/a.txt", b"1"), special("d/e/", tarfile.DIRTYPE), ("d/b.txt", b""))
    assert statuses(list(read_shard(write(tmp_path / "a.tar", data)))) == [("d/a", "ok"), ("d/b", "ok")]


def test_duplicates_are_rows_of_their_own(tmp_path: Path) -> None:
    data = members(
        ("a.jpg", b"1"), ("a.txt", b"1"), ("a.JPG", b"2"), ("a.txt", b"2"), ("b.jpg", b"3"), ("a.json", b"4")
    )
    samples = list(read_shard(write(tmp_path / "a.tar", data)))
    assert statuses(samples) == [("a", "ok"), ("a", "unsupported"), ("b", "ok"), ("a", "unsupported")]
    assert [len(s.members) for s in samples] == [2, 2, 1, 1]
    assert "duplicate key 'a'" in samples[1].problem.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("entry", "key", "reason"),
    [
        (special("x.jpg", tarfile.SYMTYPE, "/etc/passwd"), "x", "symbolic link"),
        (special("x.jpg", tarfile.LNKTYPE, "a.jpg"), "x", "hard link"),
        (special("x.jpg", tarfile.CHRTYPE), "x", "device"),
        (special("x.jpg", tarfile.FIFOTYPE), "x", "pipe"),
        (special("x.jpg", b"Z"), "x", "entry of type b'Z'"),
        (("../x.jpg", b"1"), "../x", "'..'"),
        (("d/../x.jpg", b"1"), "d/../x", "'..'"),
        (("/x.jpg", b"1"), "/x", "absolute"),
        (("README", b"1"), "README", "no extension"),
        (("x.", b"1"), "x.", "no extension"),
        ((".hidden.jpg", b"1"), ".hidden.jpg", "no key"),
        (("caf\udce9.jpg", b"1"), "caf\\xe9", "not UTF-8"),
    ],
)
def test_what_is_no_plain_file_is_a_row_with_a_reason(tmp_path: Path, entry: Any, key: str, reason: str) -> None:
    data = members(("a.txt", b"1"), entry, ("z.txt", b"2"))
    samples = list(read_shard(write(tmp_path / "a.tar", data)))
    assert statuses(samples) == [("a", "ok"), (key, "unsupported"), ("z", "ok")]
    assert reason in samples[1].problem.reason  # type: ignore[union-attr]


def test_a_special_member_spoils_its_own_sample_only(tmp_path: Path) -> None:
    data = members(("a.txt", b"1"), special("a.jpg", tarfile.SYMTYPE, "b.jpg"), ("a.json", b"{}"), ("b.txt", b""))
    assert statuses(list(read_shard(write(tmp_path / "a.tar", data)))) == [("a", "unsupported"), ("b", "ok")]


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_members(tmp_path: Path, format: str) -> None:
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "b.txt").write_text("2")
    with open(tmp_path / "x.bin", "wb") as file:
        for i in range(12):  # more holes than the first header has room for
            file.seek(i * 100_000)
            file.write(b"x")
        file.truncate(5_000_000)
    made = subprocess.run(
        ["tar", "-S", f"--format={format}", "-cf", "s.tar", "a.txt", "x.bin", "b.txt"], cwd=tmp_path, check=False
    )
    if made.returncode or os.path.getsize(tmp_path / "s.tar") > 1_000_000:
        pytest.skip("this tar or file system makes no sparse archives")
    samples, warnings = read(shard(tmp_path / "s.tar"))
    assert statuses(samples) == [("a", "ok"), ("x", "unsupported"), ("b", "ok")]
    assert warnings == []  # its whole length was passed over
    assert "sparse" in samples[1].problem.reason  # type: ignore[union-attr]


def test_a_large_member_is_passed_over(tmp_path: Path) -> None:
    data = members(("a.txt", b"1"), ("b.txt", b"2"), ("b.jpg", bytes(3_000_000)), ("b.json", b""), ("c.txt", b"3"))
    reader = ShardReader(write(tmp_path / "a.tar", data), max_sample_bytes=1_000_000)
    tracemalloc.start()
    samples = list(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert statuses(samples) == [("a", "ok"), ("b", "too_large"), ("c", "ok")]
    assert peak < 2_000_000


def test_too_many_members_in_one_sample(tmp_path: Path) -> None:
    data = members(*[(f"a.{i}", b"1") for i in range(1500)], ("b.txt", b""))
    samples = list(read_shard(write(tmp_path / "a.tar", data)))
    assert statuses(samples) == [("a", "too_large"), ("b", "ok")]
    assert samples[0].members == ()


def test_a_tar_cut_in_a_member(tmp_path: Path) -> None:
    data = members(("a.txt", b"1" * 600), ("b.txt", b"2"), ("b.jpg", b"3" * 5000))
    samples, warnings = read(write(tmp_path / "a.tar", data[: 1536 + 1024 + 512 + 100]))
    assert statuses(samples) == [("a", "ok"), ("b", "failed")]
    assert "truncated at byte 3172 of 8072" in samples[1].problem.reason  # type: ignore[union-attr]
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1024 + 300, [("a", "ok"), ("b", "failed")]),  # the name of the cut header can still be read
        (1024 + 50, [("a", "ok"), ("b", "failed")]),
        (1024, [("a", "ok")]),
        (600, [("a", "ok")]),  # only padding is missing
        (512 + 3, [("a", "failed")]),
    ],
)
def test_a_tar_cut_elsewhere(tmp_path: Path, length: int, expected: list[tuple[str, str]]) -> None:
    samples, warnings = read(write(tmp_path / "a.tar", members(("a.txt", b"12345"), ("b.txt", b"2"))[:length]))
    assert statuses(samples) == expected
    assert len(warnings) == 1


def test_a_cut_in_the_first_bytes_of_a_header_marks_the_open_sample(tmp_path: Path) -> None:
    samples, _ = read(write(tmp_path / "a.tar", members(("a.txt", b"1"), ("b" * 90 + ".txt", b"2"))[: 1024 + 50]))
    assert statuses(samples) == [("a", "failed")]


def test_a_cut_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(members(*[(f"{i}.bin", os.urandom(200_000)) for i in range(5)]))
    samples, warnings = read(write(tmp_path / "a.tar.gz", whole[: len(whole) // 2]))
    assert statuses(samples)[0] == ("0", "ok")
    assert statuses(samples)[-1][1] == "failed"
    assert "compressed data" in warnings[0]


def test_garbage_in_the_middle(tmp_path: Path) -> None:
    data = bytearray(members(("a.txt", b"1"), ("b.txt", b"2"), ("c.txt", b"3")))
    data[1024:1536] = b"\xff" * 512
    samples, warnings = read(write(tmp_path / "a.tar", bytes(data)))
    assert statuses(samples) == [("a", "failed")]
    assert "unreadable from byte 1024" in warnings[0]


def test_joined_tars_are_read_to_the_end(tmp_path: Path) -> None:
    samples, warnings = read(write(tmp_path / "a.tar", members(("a.txt", b"1")) + members(("b.txt", b"2"))))
    assert statuses(samples) == [("a", "ok"), ("b", "ok")]
    assert "goes on after an end marker" in warnings[0]


def test_garbage_after_the_end_is_a_warning(tmp_path: Path) -> None:
    samples, warnings = read(write(tmp_path / "a.tar", members(("a.txt", b"1")) + b"garbage"))
    assert statuses(samples) == [("a", "ok")]
    assert "was ignored" in warnings[0]


def test_an_empty_tar(tmp_path: Path) -> None:
    samples, warnings = read(write(tmp_path / "a.tar", members()))
    assert (samples, warnings) == ([], ["the tar holds no samples"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zero bytes"),
        (b"short", "no tar"),
        (b"PK\x03\x04" * 1000, "no tar"),
        (gzip.compress(b"no tar at all " * 100, mtime=0), "no tar"),
        (b"\x1f\x8b\x08broken", "no tar"),
        (b"\x28\xb5\x2f\xfd" + bytes(1000), "zstd"),
    ],
)
def test_a_file_that_is_no_tar(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message) as caught:
        read(write(tmp_path / "x.tar", data))
    assert str(tmp_path / "x.tar") in str(caught.value)


def test_a_missing_shard(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"gone\.tar does not exist"):
        read(shard(tmp_path / "gone.tar"))


def test_a_folder_in_place_of_a_shard(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="may not be read"):
        read(shard(tmp_path))


def test_a_storage_error_midway_is_not_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shard may be whole: the error goes up so that the task tries again."""

    class Flaky(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 300_000:
                raise ConnectionResetError("the network is gone")
            return super().read(size)

    for data in (members(("a.bin", os.urandom(900_000))), gzip.compress(members(("a.bin", os.urandom(900_000))))):
        monkeypatch.setattr(tarstream, "open_read", lambda url, data=data: Flaky(data))
        with pytest.raises(OSError, match="the network is gone"):
            read(shard(tmp_path / "a.tar"))


def test_reads_from_s3(s3: str) -> None:
    write_bytes(f"{s3}/a.tar", tar_bytes(pairs(30)))
    assert [s.key for s in read_shard(Shard("a", f"{s3}/a.tar", 0, ""))] == [key for key, _ in pairs(30)]
    with pytest.raises(ShardError, match="does not exist"):
        list(read_shard(Shard("b", f"{s3}/b.tar", 0, "")))


def test_memory_does_not_grow_with_the_tar(tmp_path: Path) -> None:
    image = os.urandom(40_000)

    def peak(count: int) -> int:
        path = make_tar(tmp_path / f"{count}.tar", ((f"{i:06d}", {"jpg": image, "txt": b"x"}) for i in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in read_shard(shard(path))) == count
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        path.unlink()
        return highest

    peak(10)
    small, large = peak(100), peak(2000)
    assert large < small + 2000 * 100  # a hash for each key


def test_a_problem_survives_a_trip_between_processes() -> None:
    error = pickle.loads(pickle.dumps(SampleError(Status.TOO_LARGE, "why")))
    assert (error.status, error.reason, str(error)) == (Status.TOO_LARGE, "why", "too_large: why")


KINDS = [
    members(("a.jpg", b"1" * 700), ("a.txt", b"2"), ("b.jpg", b"3" * 1500), ("b.txt", b"4"), format=USTAR),
    members(("a" * 150 + ".jpg", b"1"), ("ä" * 80 + ".txt", b"2"), ("c.txt", b"3"), format=GNU),
    members(("a" * 150 + ".jpg", b"1"), ("ä" * 80 + ".txt", b"2"), ("c.txt", b"3"), format=PAX),
    members(("a.txt", b"1"), special("b.txt", tarfile.SYMTYPE, "a.txt"), special("d", tarfile.DIRTYPE), ("c", b"")),
]
COMPRESSIONS: list[Any] = [bytes, gzip.compress, bz2.compress, lzma.compress]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    compress=st.sampled_from(COMPRESSIONS),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 10**6)),
)
def test_no_damage_escapes(
    tmp_path: Path, kind: bytes, compress: Any, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    """Any bytes give samples that each are well or have a reason, or one ShardError; never another exception."""
    data = bytearray(compress(kind.rstrip(b"\0") + bytes(1024 + -len(kind.rstrip(b"\0")) % 512)))
    for position, new in edits:
        position %= len(data)
        data[position : position + len(new)] = new
    if cut is not None:
        del data[cut % (len(data) + 1) :]
    given = write(tmp_path / "x.tar", bytes(data))
    try:
        samples = list(read_shard(given))
    except ShardError as error:
        assert given.url in str(error)  # noqa: PT017
        return
    for sample in samples:
        sample.key.encode()
        assert sample.members or sample.problem
        assert sample.problem is None or sample.problem.reason


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(512, len(KINDS[0].rstrip(b"\0")) - 1))
def test_a_cut_loses_no_sample_before_it(tmp_path: Path, cut: int) -> None:
    whole = {s.key: s.members for s in read_shard(write(tmp_path / "whole.tar", KINDS[0]))}
    samples, warnings = read(write(tmp_path / "cut.tar", KINDS[0][:cut]))
    assert len(warnings) == 1
    assert [s.key for s in samples] in (["a"], ["a", "b"])
    for sample in samples:
        assert sample.members == whole[sample.key][: len(sample.members)]
    if len(samples) == 2:
        assert statuses(samples)[0] == ("a", "ok")
        assert samples[0].members == whole["a"]
