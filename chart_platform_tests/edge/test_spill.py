"""The spill on a real disk: what is acknowledged is read back, in order, whatever happens in between."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chart_platform.edge import spill as spill_module
from chart_platform.edge.records import Record
from chart_platform.edge.spill import Spill, SpillFull, SpillInUse, frame

MIB = 1024 * 1024


def record(number: int, size: int = 0) -> Record:
    return Record("events", b"k%d" % (number % 3), b"%d:" % number + bytes(size), (("n", b"%d" % number),))


def frames(records: list[Record]) -> bytes:
    return b"".join(map(frame, records))


def drain(spill: Spill, *, at_once: int = 1_000) -> list[Record]:
    """Everything, confirmed as it is read."""
    found: list[Record] = []
    while (window := spill.read(at_once, MIB)) is not None:
        found += window.records
        spill.confirm(window)
    return found


class Killed(BaseException):
    """The process ends in the middle of a system call."""


def abandon(spill: Spill) -> None:
    """What the kernel does for a process that is killed: close its files, no more."""
    for descriptor in (spill._lock, spill._file):
        if descriptor is not None:
            os.close(descriptor)


class SpillOfAnUnluckyProcess(RuleBasedStateMachine):
    """Appends, drains, is killed at any byte of a write, and starts again."""

    @initialize(segment=st.sampled_from([60, 400, MIB]))
    def begin(self, segment: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spill-"))
        self.segment = segment
        self.written = 0
        self.acknowledged: list[Record] = []
        self.attempted: set[Record] = set()
        self.open()

    def open(self) -> None:
        self.spill = Spill(self.folder / "0", MIB, self.segment)

    def some(self, number: int, size: int) -> list[Record]:
        made = [record(self.written + i, size) for i in range(number)]
        self.written += number
        self.attempted.update(made)
        return made

    @rule(number=st.integers(1, 5), size=st.sampled_from([0, 30, 300]))
    def append(self, number: int, size: int) -> None:
        records = self.some(number, size)
        self.spill.append(frames(records))
        self.acknowledged += records

    @rule(number=st.integers(1, 5), size=st.sampled_from([0, 300]), part=st.floats(0, 1))
    def be_killed_while_writing(self, number: int, size: int, part: float) -> None:
        data = frames(self.some(number, size))
        written = os.write

        def write_a_part(file: int, content: bytes) -> int:
            written(file, content[: int(len(content) * part)])
            raise Killed

        with mock.patch.object(spill_module.os, "write", write_a_part), pytest.raises(Killed):
            self.spill.append(data)
        abandon(self.spill)
        self.open()

    @rule()
    def be_killed(self) -> None:
        abandon(self.spill)
        self.open()

    @rule()
    def restart(self) -> None:
        self.spill.close()
        self.open()

    @rule(at_once=st.integers(1, 7), max_bytes=st.integers(1, 500), confirmed=st.booleans())
    def drain_a_window(self, at_once: int, max_bytes: int, confirmed: bool) -> None:
        window = self.spill.read(at_once, max_bytes)
        if window is None:
            assert not self.acknowledged
            return
        self.check(list(window.records))
        if confirmed:
            self.spill.confirm(window)
            gone = set(window.records)
            self.acknowledged = [kept for kept in self.acknowledged if kept not in gone]

    def check(self, read: list[Record]) -> None:
        assert set(read) <= self.attempted, "no record is invented"
        mine = [one for one in read if one in set(self.acknowledged)]
        assert mine == self.acknowledged[: len(mine)], "in order, from the first that was acknowledged"

    @invariant()
    def no_more_on_disk_than_counted(self) -> None:
        if hasattr(self, "spill"):
            assert self.spill.backlog_bytes <= self.spill.bytes_on_disk
            assert self.spill.damaged == 0, "a kill is no damage"

    def teardown(self) -> None:
        if not hasattr(self, "spill"):
            return
        self.spill.close()
        self.open()
        read = drain(self.spill, at_once=3)
        self.check(read)
        assert set(self.acknowledged) <= set(read)
        self.spill.close()
        assert not list((self.folder / "0").glob("*.seg")), "what is drained is deleted"
        shutil.rmtree(self.folder)


SpillOfAnUnluckyProcess.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSpillOfAnUnluckyProcess = SpillOfAnUnluckyProcess.TestCase


@given(
    sizes=st.lists(st.sampled_from([0, 20, 200]), min_size=1, max_size=12),
    bad=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=3),
    window=st.integers(1, 400),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_went_bad_cost_only_the_records_they_hit_and_are_kept_aside(
    sizes: list[int], bad: list[tuple[float, bytes]], window: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "0"
        records = [record(i, size) for i, size in enumerate(sizes)]
        with Spill(folder, MIB) as spill:
            spill.append(frames(records))
        (segment,) = folder.glob("*.seg")
        good = segment.read_bytes()
        content = bytearray(good)
        for place, garbage in bad:
            at = int(place * (len(content) - 1))
            content[at : at + len(garbage)] = garbage[: len(content) - at]
        segment.write_bytes(content)

        untouched, at = [], 0
        for one in records:
            end = at + len(frame(one))
            if content[at:end] == good[at:end]:
                untouched.append(one)
            at = end
        with Spill(folder, MIB) as spill:
            read = []
            while (found := spill.read(3, window)) is not None:
                read += found.records
                spill.confirm(found)
            assert read == untouched
            lost = len(untouched) < len(records)
            assert spill.damaged == int(lost)
        assert [kept.read_bytes() for kept in folder.glob("*.damaged")] == ([bytes(content)] if lost else [])
        assert not list(folder.glob("*.seg"))


def test_a_restart_goes_on_behind_what_was_confirmed(tmp_path: Path) -> None:
    records = [record(i) for i in range(10)]
    spill = Spill(tmp_path / "0", MIB)
    spill.append(frames(records))
    window = spill.read(4, MIB)
    assert window is not None
    spill.confirm(window)
    abandon(spill)

    with Spill(tmp_path / "0", MIB) as again:
        assert drain(again) == records[4:]


@pytest.mark.parametrize(
    "position",
    [
        b"",
        b"{",
        b'{"segment": 3}',
        b'{"offset": "x", "segment": "%s"}',
        b"[]",
        b"\xff",
        b'{"segment": "%s", "offset": -1}',
    ],
)
def test_an_unreadable_position_costs_duplicates_only(tmp_path: Path, position: bytes) -> None:
    records = [record(i) for i in range(10)]
    with Spill(tmp_path / "0", MIB) as spill:
        spill.append(frames(records))
    (segment,) = (tmp_path / "0").glob("*.seg")
    (tmp_path / "0" / "position").write_bytes(position.replace(b"%s", segment.name.encode()))
    with Spill(tmp_path / "0", MIB) as spill:
        assert drain(spill) == records


def test_the_quota_refuses_what_does_not_fit_and_opens_again_with_the_draining(tmp_path: Path) -> None:
    with Spill(tmp_path / "0", MIB) as spill:
        acknowledged = []
        with pytest.raises(SpillFull, match="CHART_EDGE_SPILL_MAX_BYTES"):
            for number in range(10_000):
                spill.append(frame(record(number, 1_000)))
                acknowledged.append(record(number, 1_000))
        assert MIB - 2_000 < spill.bytes_on_disk <= MIB
        assert sum(file.stat().st_size for file in spill.directory.glob("*.seg")) == spill.bytes_on_disk

        window = spill.read(200, MIB)
        assert window is not None
        spill.confirm(window)
        spill.append(frame(record(20_000, 1_000)))
        assert [*window.records, *drain(spill)] == [*acknowledged, record(20_000, 1_000)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    acknowledged = []
    spill = Spill(small_disk / "0", 100 * MIB, segment_bytes=64 * 1024)
    with pytest.raises(SpillFull, match="No space left"):
        for number in range(1_000):
            spill.append(frames([record(number * 2, 5_000), record(number * 2 + 1, 3_000)]))
            acknowledged += [record(number * 2, 5_000), record(number * 2 + 1, 3_000)]
    assert len(acknowledged) > 50
    window = spill.read(40, MIB)
    assert window is not None
    spill.confirm(window)
    gone = len(window.records)
    assert spill.read(1, MIB) is not None, "a full disk can still be drained"
    abandon(spill)
    with Spill(small_disk / "0", 100 * MIB) as again:
        rest = drain(again)
        # The position may not have fitted on the disk: then the first ones come again.
        assert rest in (acknowledged, acknowledged[gone:])
        again.append(frame(record(1)))
        assert drain(again) == [record(1)]


def test_a_failed_fsync_is_not_tried_again_on_the_same_file(tmp_path: Path) -> None:
    synced: list[str] = []
    fdatasync = os.fdatasync

    def fail_once(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
        if len(synced) == 2:
            raise OSError(errno.EIO, "Input/output error")
        fdatasync(file)

    with Spill(tmp_path / "0", MIB) as spill, mock.patch.object(spill_module.os, "fdatasync", fail_once):
        for number in range(4):
            spill.append(frame(record(number)))
        assert synced[0] == synced[1], "the second one failed"
        assert synced[1] not in synced[2:]
        assert drain(spill) == [record(number) for number in range(4)]


def test_a_disk_that_fails_for_good_acknowledges_nothing_more(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "0", MIB)
    spill.append(frame(record(0)))
    broken = OSError(errno.EIO, "Input/output error")
    with (
        mock.patch.object(spill_module.os, "fdatasync", side_effect=broken),
        pytest.raises(SpillFull, match="Input/output error"),
    ):
        spill.append(frame(record(1)))
    spill.append(frame(record(2)))
    abandon(spill)
    with Spill(tmp_path / "0", MIB) as again:
        assert drain(again) == [record(0), record(2)], "what was refused is not there"


def test_a_segment_that_cannot_be_read_is_kept_aside_and_the_next_ones_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    with Spill(folder, MIB, segment_bytes=1) as spill:
        for number in range(3):
            spill.append(frame(record(number)))
    first = min(folder.glob("*.seg"))
    real = spill_module._read_file

    def fail(path: Path, start: int, length: int) -> bytes:
        if path == first:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, start, length)

    with mock.patch.object(spill_module, "_read_file", fail), Spill(folder, MIB) as spill:
        assert drain(spill) == [record(1), record(2)]
        assert spill.damaged == 1
    with Spill(folder, MIB) as spill:
        assert spill.damaged == 1, "it is told until somebody has seen to it"
    assert first.with_suffix(".damaged").read_bytes() == frame(record(0))


def test_one_process_writes_to_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_module, "_CLAIM_SECONDS", 0.1)
    with Spill(tmp_path / "0", MIB), pytest.raises(SpillInUse, match="CHART_HOME"):
        Spill(tmp_path / "0", MIB)
    Spill(tmp_path / "0", MIB).close()


WRITER = """
import sys
from pathlib import Path
from chart_platform.edge.spill import Spill, frame
from chart_platform.edge.records import Record
spill = Spill(Path(sys.argv[1]), 1 << 20, segment_bytes=300)
for number in range(10_000):
    spill.append(frame(Record("events", None, b"%d" % number)))
    print(number, flush=True)
    if number == 20:
        sys.stdin.read()
"""


def test_what_a_killed_process_left_is_adopted_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER]
    with (
        subprocess.Popen([*command, str(tmp_path / "dead")], stdin=-1, stdout=-1, text=True) as dead,
        subprocess.Popen([*command, str(tmp_path / "live")], stdin=-1, stdout=-1, text=True) as live,
    ):
        for process in (dead, live):
            assert process.stdout is not None
            while process.stdout.readline().strip() != "20":
                pass
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        with Spill(tmp_path / "mine", MIB) as spill:
            assert [int(one.value) for one in drain(spill)] == list(range(21))
            assert spill.damaged == 0
        live.kill()
        live.wait()
        with Spill(tmp_path / "mine", MIB) as spill:
            assert [int(one.value) for one in drain(spill)] == list(range(21))
