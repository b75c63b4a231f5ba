"""Specs → shards: which, under which names, and one clear message for what is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data import listing
from vlfilter.data.braces import expand_braces
from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.storage import write_bytes
from vlfilter.errors import VlfilterError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 10)


def names(spec: str | list[str]) -> list[str]:
    return [shard.name for shard in list_shards(spec)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{000..004..2}", ["000", "002", "004"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("x{a,b{1..2},}y", ["xay", "xb1y", "xb2y", "xy"]),
        ("{a}.tar", ["{a}.tar"]),
        ("{a,b", ["{a,b"]),
        ("{{a,b}}", ["{a}", "{b}"]),
        ("", [""]),
    ],
)
def test_braces(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


@given(st.text("{},.01a", max_size=12))
def test_braces_of_any_text(text: str) -> None:
    assert len(expand_braces(text)) >= 1


@pytest.mark.parametrize("text", ["{0..1000000}", "{0..999}{0..999}{0..9}", "{0..99999999999999}"])
def test_too_many_names(text: str) -> None:
    with pytest.raises(VlfilterError, match="more than 1000000"):
        expand_braces(text)


def test_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "a.tar")
    status = os.stat(tmp_path / "a.tar")
    assert list_shards(str(tmp_path / "a.tar")) == [Shard("a", str(tmp_path / "a.tar"), 10, str(status.st_mtime_ns))]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "d/a.tar")
    monkeypatch.chdir(tmp_path)
    for spec in ("d/a.tar", "./d/*.tar", "d/", "d/{a,a}.tar", f"file://{tmp_path}/d"):
        assert [(s.name, s.url) for s in list_shards(spec)] == [("a", f"{tmp_path}/d/a.tar")]


def test_a_folder_with_all_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.tar", "a/00.tar", "a/01.tar.gz", "a/c/02.tgz", "notes.txt", "a/00_stats.json")
    touch(tmp_path, ".hidden.tar", ".cache/x.tar")
    assert names(str(tmp_path)) == ["a/00", "a/01", "a/c/02", "b"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.tar", "elsewhere/b.tar")
    (tmp_path / "data" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "gone.tar").symlink_to(tmp_path / "nowhere.tar")
    assert names(str(tmp_path / "data")) == ["a", "more/b"]


def test_globs_and_braces_are_named_below_their_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/0.tar", "x/b/0.tar", "x/b/1.tar", "x/c/0.tar")
    assert names(f"{tmp_path}/x/*/0.tar") == ["a/0", "b/0", "c/0"]
    assert names(f"{tmp_path}/x/**/1.tar") == ["b/1"]
    assert names(f"{tmp_path}/x/b/[01].tar") == ["0", "1"]
    assert names(f"{tmp_path}/x/{{a,b}}/0.tar") == ["a/0", "b/0"]
    assert names(f"{tmp_path}/x/{{a,b}}/*.tar") == ["a/0", "b/0", "b/1"]
    assert names(f"{tmp_path}/x/{{b,c}}") == ["b/0", "b/1", "c/0"]


def test_a_name_with_wildcards_that_is_there_is_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].tar", "{b,c}.tar")
    assert names([f"{tmp_path}/a[1].tar", f"{tmp_path}/{{b,c}}.tar"]) == ["a[1]", "{b,c}"]


def test_names_do_not_change_when_shards_are_added(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/0.tar")
    before = [names(spec) for spec in (f"{tmp_path}/x", f"{tmp_path}/x/*/*.tar")]
    touch(tmp_path, "x/1.tar", "x/b/0.tar")
    after = [names(spec) for spec in (f"{tmp_path}/x", f"{tmp_path}/x/*/*.tar")]
    assert all(set(b) <= set(a) for a, b in zip(after, before, strict=True))


def test_many_braces_take_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{i:05d}.tar" for i in range(300)))
    folders = []
    monkeypatch.setattr(listing, "_present", lambda folder: folders.append(folder) or set(os.listdir(folder)))
    assert names(f"{tmp_path}/{{00000..00299}}.tar") == [f"{i:05d}" for i in range(300)]
    assert folders == [str(tmp_path)]


def test_missing_ones_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "00.tar")
    with pytest.raises(VlfilterError, match=r"4 of 5 shards .* are missing: .*/01\.tar, .*/02\.tar, .*/03\.tar …$"):
        list_shards(f"{tmp_path}/{{00..04}}.tar")
    with pytest.raises(VlfilterError, match=r"99 of 100"):
        list_shards(f"{tmp_path}/{{00..99}}.tar")


@pytest.mark.parametrize(
    "spec", ["gone.tar", "gone", "*.tar", "empty", "gone/{0..9}.tar", "gone.txt", "file.tar/x.tar"]
)
def test_nothing_there(tmp_path: Path, spec: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "file.tar.part")
    with pytest.raises(VlfilterError, match=r"no shards|missing|no manifest") as caught:
        list_shards(f"{tmp_path}/{spec}")
    assert spec in str(caught.value)


def test_no_spec() -> None:
    for spec in ([], "", [""], " "):
        with pytest.raises(VlfilterError, match=r"no shards were given|empty"):
            list_shards(spec)


def test_a_file_of_zero_bytes_does_not_stop_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "a.tar")
    (tmp_path / "b.tar").touch()
    assert [(s.name, s.size) for s in list_shards(str(tmp_path))] == [("a", 10), ("b", 0)]


def test_two_shards_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.tar", "y/a.tar", "x/a.tgz")
    with pytest.raises(VlfilterError, match=r"called 'a': .*/x/a\.tar and .*/y/a\.tar"):
        list_shards([f"{tmp_path}/x/a.tar", f"{tmp_path}/y/a.tar"])
    with pytest.raises(VlfilterError, match=r"called 'a': .*/x/a\.tgz|called 'a': .*/x/a\.tar "):
        list_shards(f"{tmp_path}/x")


def test_a_shard_given_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.tar", "b.tar")
    assert names([f"{tmp_path}/a.tar", f"{tmp_path}/*.tar"]) == ["a", "b"]


def test_manifests(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/0.tar", "x/b/0.tar", "x/b/1.tar")
    lines = ["# all of it", "", "x/a/0.tar  # first", f"{tmp_path}/x/b/{{0..1}}.tar"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    (tmp_path / "list.json").write_text(json.dumps(["x/a/0.tar", "x/b/*.tar"]))
    (tmp_path / "list.jsonl").write_text('"x/a/0.tar"\n"x/b"\n')
    for kind in ("txt", "json", "jsonl"):
        assert names(f"{tmp_path}/list.{kind}") == ["a/0", "b/0", "b/1"]
    (tmp_path / "one.txt").write_text("x/a/0.tar")
    assert names(f"{tmp_path}/one.txt") == ["0"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.txt", "# nothing\n", "lists no shards"),
        ("a.json", "{broken", "cannot be read"),
        ("a.json", '{"a": 1}', "should hold a list"),
        ("a.jsonl", "1\n2\n", "should hold a list"),
        ("a.txt", "gone.tar", "gone.tar"),
        ("a.txt", "b.json", "another manifest"),
        ("a.txt", "caf\udce9", "cannot be read"),
    ],
)
def test_bad_manifests(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(VlfilterError, match=reason):
        list_shards(str(tmp_path / name))


def test_s3(s3: str) -> None:
    for key in ("x/a/0.tar", "x/b/0.tar", "x/b/1.tar.gz", "x/part-0.tar", "x/part-1.tar", "x/notes.txt"):
        write_bytes(f"{s3}/{key}", b"x" * 10)
    assert names(f"{s3}/x") == names(f"{s3}/x/") == ["a/0", "b/0", "b/1", "part-0", "part-1"]
    assert names(s3)[0] == "x/a/0"
    assert names(f"{s3}/x/part-") == ["part-0", "part-1"]
    assert names(f"{s3}/x/*/0.tar") == ["a/0", "b/0"]
    assert names(f"{s3}/x/{{a,b}}/0.tar") == ["a/0", "b/0"]
    (one,) = list_shards(f"{s3}/x/a/0.tar")
    assert (one.name, one.url, one.size) == ("0", f"{s3}/x/a/0.tar", 10)
    write_bytes(f"{s3}/x/a/0.tar", b"y" * 10)
    assert list_shards(f"{s3}/x/a/0.tar")[0].version != one.version != ""
    write_bytes(f"{s3}/list.txt", f"x/a/0.tar\n{s3}/x/b/0.tar\n".encode())
    assert names(f"{s3}/list.txt") == ["a/0", "b/0"]


def test_many_braces_on_s3(s3: str) -> None:
    for i in range(40):
        write_bytes(f"{s3}/x/{i:02d}.tar", b"x")
    assert len(names(f"{s3}/x/{{00..39}}.tar")) == 40
    with pytest.raises(VlfilterError, match=r"2 of 42 .* missing: .*/x/40\.tar, .*/x/41\.tar$"):
        list_shards(f"{s3}/x/{{00..41}}.tar")


def test_s3_says_no(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (f"{s3}/empty", f"{s3}/gone.tar", f"{s3}/*.tar", f"{s3}/gone.txt"):
        with pytest.raises(VlfilterError, match=spec.replace("*", r"\*")):
            list_shards(spec)
    for spec in ("s3://no-such-bucket-here/x", "s3://no-such-bucket-here/x/*.tar"):
        with pytest.raises(VlfilterError, match="no-such-bucket-here/x"):
            list_shards(spec)


def test_s3_without_credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import _forget_connections

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _forget_connections()
    with pytest.raises(VlfilterError, match=r"cannot be listed .*credentials"):
        list_shards(f"{s3}/x")
