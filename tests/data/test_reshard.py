"""Resharding: byte for byte, resumable, the same for any number of workers, and nothing of the user's is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import make_shards, make_tar, pair, pairs, tar_bytes, uid_of
from vlfilter.data.reader import read_shard
from vlfilter.data.reshard import ReshardSummary, reshard
from vlfilter.data.samples import RawSample
from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.data.subset import UID_DTYPE, pack_uid
from vlfilter.errors import VlfilterError

ROOT = Path(__file__).parents[2]


def write_npy(path: Path, uids: Iterable[str]) -> str:
    packed = np.array([pack_uid(uid) for uid in uids], UID_DTYPE)
    packed.sort()
    np.save(path, packed)
    return str(path)


def samples_below(output: Path | str) -> list[RawSample]:
    return [raw for shard in list_shards(str(output)) for raw in read_shard(shard)]


def contents(output: Path) -> dict[str, bytes]:
    """Every file of a reshard; meta.json without the seconds."""
    files = {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}
    meta = json.loads(files["meta.json"])
    files["meta.json"] = json.dumps({k: v for k, v in meta.items() if k != "seconds"}).encode()
    return files


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    """Four shards of 50 samples."""
    make_shards(tmp_path / "in", 4, 50)
    return list_shards(str(tmp_path / "in"))


@pytest.fixture
def subset(tmp_path: Path) -> str:
    """Every third sample of the four shards."""
    return write_npy(tmp_path / "kept.npy", (uid_of(f"{i:09d}") for i in range(0, 200, 3)))


def test_kept_samples_are_copied_byte_for_byte(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    summary = reshard(shards, subset, str(tmp_path / "out"), samples_per_shard=20)
    expected = [raw for shard in shards for raw in read_shard(shard) if int(raw.key) % 3 == 0]
    assert samples_below(tmp_path / "out") == expected  # headers included
    assert [p.name for p in sorted((tmp_path / "out").glob("*.tar"))] == [f"00000-0000{i}.tar" for i in range(4)]
    assert (summary.read, summary.written, summary.tars, summary.missing, summary.skipped) == (200, 67, 4, 0, 0)
    assert summary.bytes == sum(p.stat().st_size for p in (tmp_path / "out").glob("*.tar"))
    stats = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").glob("*_stats.json"))]
    assert stats == [{"successes": 20}] * 3 + [{"successes": 7}]
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["written"], meta["output_shards"]) == (67, [f"00000-0000{i}" for i in range(4)])


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_whole_tar_comes_out_as_it_was(tmp_path: Path, format: int) -> None:
    given = [(f"ordner/{'ä' * 120}{i}", pair(str(i))) for i in range(3)]
    path = make_tar(tmp_path / "in" / "a.tar", given, format)
    kept = write_npy(tmp_path / "kept.npy", (uid_of(str(i)) for i in range(3)))
    reshard(list_shards(str(path)), kept, str(tmp_path / "out"))
    assert (tmp_path / "out" / "00000-00000.tar").read_bytes() == path.read_bytes()


def test_standard_tools_read_the_result(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    import webdataset as wds

    reshard(shards, subset, str(tmp_path / "out"))
    dataset = wds.WebDataset(str(tmp_path / "out" / "00000-00000.tar"), shardshuffle=False)
    assert [sample["__key__"] for sample in dataset] == [f"{i:09d}" for i in range(0, 200, 3)]


def test_the_result_does_not_depend_on_the_workers(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    totals: list[tuple[int, int]] = []
    for name, workers in (("one", 1), ("three", 3)):
        totals.clear()
        reshard(
            shards,
            subset,
            str(tmp_path / name),
            samples_per_shard=7,
            shards_per_part=1,
            workers=workers,
            on_progress=lambda read, written: totals.append((read, written)),
        )
        assert totals[-1] == (200, 67)
        assert totals == sorted(totals)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_a_uid_that_is_listed_twice_is_written_twice(tmp_path: Path, shards: list[Shard]) -> None:
    uids = [uid_of(f"{i:09d}") for i in (5, 5, 5, 6, 60)]
    summary = reshard(shards, write_npy(tmp_path / "kept.npy", uids), str(tmp_path / "out"), samples_per_shard=2)
    found = samples_below(tmp_path / "out")
    keys = ["000000005", "000000005-1", "000000005-2", "000000006", "000000060"]
    assert [s.key for s in found] == keys
    assert [[m.data for m in s.members] for s in found[:3]] == [[m.data for m in found[0].members]] * 3
    assert (summary.written, summary.tars, summary.missing) == (5, 3, 0)


def test_a_key_that_the_tar_already_holds_gets_a_number(tmp_path: Path) -> None:
    for i, keys in enumerate((["k", "k-1"], ["k"])):
        make_tar(tmp_path / "in" / f"{i}.tar", [(key, pair(f"{i}{key}")) for key in keys])
    kept = write_npy(tmp_path / "kept.npy", (uid_of(x) for x in ("0k", "0k-1", "1k")))
    reshard(list_shards(str(tmp_path / "in")), kept, str(tmp_path / "out"))
    found = samples_below(tmp_path / "out")
    assert [s.key for s in found] == ["k", "k-1", "k-2"]
    assert [m.name for m in found[2].members] == ["k-2.jpg", "k-2.txt", "k-2.json"]


def test_a_list_of_keys(tmp_path: Path, shards: list[Shard]) -> None:
    (tmp_path / "kept.txt").write_text("000000150\n000000003\nnobody\n")
    summary = reshard(shards, str(tmp_path / "kept.txt"), str(tmp_path / "out"))
    assert [s.key for s in samples_below(tmp_path / "out")] == ["000000003", "000000150"]
    assert (summary.missing, summary.missing_examples) == (1, ("nobody",))


def test_uids_that_are_nowhere_are_reported(tmp_path: Path, shards: list[Shard]) -> None:
    absent = sorted(uid_of(f"absent {i}") for i in range(15))
    kept = write_npy(tmp_path / "kept.npy", [*absent, absent[0], uid_of("000000001")])
    summary = reshard(shards, kept, str(tmp_path / "out"))
    assert (summary.written, summary.missing, summary.missing_examples) == (1, 15, tuple(absent[:10]))


def test_samples_without_a_uid_are_found_by_the_derived_one(tmp_path: Path) -> None:
    from vlfilter.data.decode import sample_uid

    path = make_tar(tmp_path / "in" / "a.tar", [(str(i), {"txt": b"same"}) for i in range(4)])
    uids = [sample_uid(raw) for raw in read_shard(list_shards(str(path))[0])]
    reshard(list_shards(str(path)), write_npy(tmp_path / "k.npy", [uids[2]]), str(tmp_path / "out"))
    assert [s.key for s in samples_below(tmp_path / "out")] == ["2"]


def test_what_cannot_be_read_is_skipped_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_tar(folder / "a.tar", [*pairs(3), *pairs(1)])
    whole = tar_bytes(pairs(3, 10))
    (folder / "b.tar").write_bytes(whole[: len(whole.rstrip(b"\0")) - 10])
    (folder / "c.tar").touch()
    (folder / "d.tar").write_bytes(b"no tar" * 1000)
    make_tar(folder / "e.tar", pairs(1, 20))
    kept = write_npy(tmp_path / "kept.npy", (uid_of(f"{i:09d}") for i in range(30)))
    summary = reshard(list_shards(str(folder)), kept, str(tmp_path / "out"))
    keys = [f"{i:09d}" for i in (0, 1, 2, 10, 11, 20)]
    assert [s.key for s in samples_below(tmp_path / "out")] == keys
    assert (summary.read, summary.written, summary.skipped, summary.missing) == (8, 6, 1, 24)
    assert ["zero bytes" in summary.unreadable[0], "is no tar" in summary.unreadable[1]] == [True, True]
    assert summary.warnings[0].startswith("b: ")


def test_an_empty_result_is_none_the_less_complete(tmp_path: Path, shards: list[Shard]) -> None:
    summary = reshard(shards, write_npy(tmp_path / "k.npy", [uid_of("absent")]), str(tmp_path / "out"))
    assert (summary.written, summary.tars, summary.missing) == (0, 0, 1)
    assert (tmp_path / "out" / "meta.json").exists()


def test_a_finished_reshard_is_not_done_again(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    first = reshard(shards, subset, str(tmp_path / "out"), samples_per_shard=20)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tar")}
    again = reshard(shards, subset, str(tmp_path / "out"), samples_per_shard=20)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tar")} == before
    assert (again.read, again.written, again.tars, again.bytes) == (first.read, first.written, first.tars, first.bytes)


KILLED = """
import os, signal, sys
from vlfilter.data.reshard import reshard
from vlfilter.data.shards import list_shards

def progress(read, written):
    if read >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    reshard(list_shards(sys.argv[1]), sys.argv[2], sys.argv[3], samples_per_shard=30, shards_per_part=2,
            workers=int(sys.argv[5]), on_progress=progress)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed(tmp_path: Path, workers: int) -> None:
    """Killed at several points, one after the other; then the same bytes as an undisturbed run."""
    make_shards(tmp_path / "in", 5, 220)
    shards = list_shards(str(tmp_path / "in"))
    # every second sample, each ninth of these in three copies, so that cuts fall between copies too
    uids = [uid_of(f"{i:09d}") for i in range(0, 1100, 2) for _ in range(3 if i % 9 == 0 else 1)]
    kept = write_npy(tmp_path / "kept.npy", uids)
    (tmp_path / "run.py").write_text(KILLED)
    out = tmp_path / "killed"
    progress = []
    for at in (100, 350, 720):
        command = [sys.executable, "run.py", str(tmp_path / "in"), kept, str(out), str(at), str(workers)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        killed = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (out / "meta.json").exists()
        progress.append(len(list(out.glob("*.tar"))))
    assert progress[0] < progress[-1]
    summary = reshard(shards, kept, str(out), samples_per_shard=30, shards_per_part=2)
    whole = reshard(shards, kept, str(tmp_path / "whole"), samples_per_shard=30, shards_per_part=2)
    assert contents(out) == contents(tmp_path / "whole")
    assert (summary.read, summary.written, summary.missing) == (whole.read, whole.written, 0)
    assert summary.written == len(uids)


def test_an_output_of_something_else_is_refused(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    out = str(tmp_path / "out")
    reshard(shards, subset, out)
    other = write_npy(tmp_path / "other.npy", [uid_of("000000001")])
    for arguments, message in (
        ((shards, other), "with other subset"),
        ((shards[:3], subset), "with other shards"),
        (([*shards[:3], Shard("00003", shards[3].url, 1, "changed")], subset), "with other shards"),
    ):
        with pytest.raises(VlfilterError, match=message):
            reshard(*arguments, out)
    with pytest.raises(VlfilterError, match="with other settings"):
        reshard(shards, subset, out, samples_per_shard=5)


def test_files_of_the_user_stay(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    for name in ("00000-00000.tar", "meta.json"):
        (tmp_path / name / "out").mkdir(parents=True)
        (tmp_path / name / "out" / name).write_text("mine")
        with pytest.raises(VlfilterError, match="use another output"):
            reshard(shards, subset, str(tmp_path / name / "out"))
        assert (tmp_path / name / "out" / name).read_text() == "mine"


def test_the_shards_own_folder_is_no_output(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    with pytest.raises(VlfilterError, match="lies in the output"):
        reshard(shards, subset, str(tmp_path / "in"))


def test_a_missing_subset(tmp_path: Path, shards: list[Shard]) -> None:
    with pytest.raises(VlfilterError, match=r"gone\.npy"):
        reshard(shards, str(tmp_path / "gone.npy"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output(tmp_path: Path, shards: list[Shard], subset: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VlfilterError, match="not writable"):
        reshard(shards, subset, str(tmp_path / "file" / "out"))


def on_s3(s3: str, subset: str, name: str, workers: int) -> ReshardSummary:
    return reshard(
        list_shards(f"{s3}/in"), subset, f"{s3}/{name}", samples_per_shard=20, shards_per_part=2, workers=workers
    )


def test_s3_to_s3(tmp_path: Path, s3: str, subset: str) -> None:
    for i in range(4):
        write_bytes(f"{s3}/in/{i:05d}.tar", tar_bytes(pairs(50, i * 50)))
    write_bytes(f"{s3}/kept.npy", Path(subset).read_bytes())
    summary = on_s3(s3, f"{s3}/kept.npy", "out", 1)
    assert (summary.read, summary.written, summary.tars) == (200, 67, 4)
    assert [s.key for s in samples_below(f"{s3}/out")] == [f"{i:09d}" for i in range(0, 200, 3)]
    assert json.loads(read_bytes(f"{s3}/out/00000-00000_stats.json")) == {"successes": 20}
    assert on_s3(s3, f"{s3}/kept.npy", "out", 1).written == 67
    on_s3(s3, f"{s3}/kept.npy", "again", 2)
    for shard in list_shards(f"{s3}/out"):
        assert read_bytes(shard.url) == read_bytes(shard.url.replace("/out/", "/again/"))
