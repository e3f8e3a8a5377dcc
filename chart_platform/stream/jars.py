"""The jars of the embedded broker: what they are, where they are kept, how they get there.

Belongs here: the lock file, the shared cache, fetching through Maven or plain HTTPS, and the checksums.
Does not belong here: running anything from the jars (see ``broker``).

``pom.xml`` names the two artifacts we want; ``kafka-jars.lock`` pins everything Maven resolves from them. After a
change of ``pom.xml``, renew the lock with ``python -m chart_platform.stream.jars``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

KAFKA_VERSION = "4.3.1"

_HERE = Path(__file__).parent
POM_FILE = _HERE / "pom.xml"
LOCK_FILE = _HERE / "kafka-jars.lock"
_HTTP_ATTEMPTS = 3
_HTTP_TIMEOUT_SECONDS = 30


class JarsUnavailable(RuntimeError):
    """The broker's jars are neither in the cache nor to be had from a Maven repository."""


@dataclass(frozen=True)
class Jar:
    """One pinned jar; ``path`` is its place in any Maven repository and in the cache."""

    path: str
    sha256: str
    size: int

    def is_whole_in(self, folder: Path) -> bool:
        """Whether ``folder`` holds it with the right content."""
        file = folder / self.path
        if not self.has_size_in(folder):
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == self.sha256

    def has_size_in(self, folder: Path) -> bool:
        """Whether ``folder`` holds a file of the right size: the cheap check of every start."""
        try:
            return (folder / self.path).stat().st_size == self.size
        except FileNotFoundError:
            return False


def read_lock(lock: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """The pinned jars, in the order of the lock file."""
    rows = (line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(Jar(path, sha256, int(size)) for sha256, size, path in rows)


def cache_folder() -> Path:
    """Where all instances of this user keep the jars."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chart-platform" / f"kafka-{KAFKA_VERSION}"


def ensure_jars(maven_repository_url: str, folder: Path | None = None) -> list[Path]:
    """The class path of the broker, fetched into ``folder`` (default: the shared cache) where it is missing.

    Maven goes first because it knows the mirrors and credentials of the house; without ``mvn``, or when it fails, the
    jars come from ``maven_repository_url``. Every file is checked before it is renamed into place, so that concurrent
    or broken downloads never leave a bad jar behind.
    """
    folder = folder or cache_folder()
    jars = read_lock()
    missing = [jar for jar in jars if not jar.has_size_in(folder)]
    if missing:
        _fetch(missing, folder, maven_repository_url)
    return [folder / jar.path for jar in jars]


def _fetch(missing: Sequence[Jar], folder: Path, maven_repository_url: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch_name,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        scratch = Path(scratch_name)
        task = progress.add_task(f"Apache Kafka {KAFKA_VERSION}", total=sum(jar.size for jar in missing))
        _copy_with_maven(missing, scratch, progress, task)
        fetched = 0
        for jar in missing:
            if not jar.is_whole_in(scratch):
                _download(jar, scratch, maven_repository_url)
            target = folder / jar.path
            target.parent.mkdir(parents=True, exist_ok=True)
            (scratch / jar.path).replace(target)
            fetched += jar.size
            progress.update(task, completed=fetched)


def _copy_with_maven(jars: Sequence[Jar], target: Path, progress: Progress, task: TaskID) -> None:
    """Let Maven copy what it can; whatever is missing afterwards is downloaded, so its failure is no error."""
    if (mvn := shutil.which("mvn")) is None:
        return
    with subprocess.Popen(_maven_command(mvn, target), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as maven:
        while maven.poll() is None:
            progress.update(task, completed=sum(jar.size for jar in jars if jar.has_size_in(target)))
            time.sleep(0.1)


def _maven_command(mvn: str, target: Path) -> list[str]:
    return [
        mvn, "--batch-mode", "--quiet", "--file", str(POM_FILE), "dependency:copy-dependencies",
        "-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={target}",
    ]  # fmt: skip


def _download(jar: Jar, folder: Path, maven_repository_url: str) -> None:
    url = f"{maven_repository_url.rstrip('/')}/{jar.path}"
    file = folder / jar.path
    file.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _HTTP_ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_SECONDS) as response, file.open("wb") as out:
                shutil.copyfileobj(response, out)
            break
        except (OSError, urllib.error.URLError) as error:
            if attempt == _HTTP_ATTEMPTS:
                raise JarsUnavailable(
                    f"Cannot download {url}: {error}. Set CHART_MAVEN_REPOSITORY_URL to a Maven repository that this "
                    f"machine reaches, or use a Kafka of your own with CHART_KAFKA_BOOTSTRAP_SERVERS."
                ) from error
            time.sleep(attempt)
    if not jar.is_whole_in(folder):
        raise JarsUnavailable(
            f"{url} is not the pinned file (sha256 {jar.sha256}, {jar.size} bytes): the repository serves something "
            f"else. Set CHART_MAVEN_REPOSITORY_URL to a trustworthy Maven repository."
        )


def renew_lock(lock: Path = LOCK_FILE) -> None:
    """Resolve ``pom.xml`` with Maven and pin the result."""
    if (mvn := shutil.which("mvn")) is None:
        raise JarsUnavailable("Renewing kafka-jars.lock needs Maven: install it and put mvn on the PATH.")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(_maven_command(mvn, Path(scratch)), check=True)
        files = sorted(Path(scratch).rglob("*.jar"))
        rows = [
            f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_size} {file.relative_to(scratch)}"
            for file in files
        ]
    lock.write_text("\n".join(["# sha256, bytes, path in a Maven repository. Renewed by jars.py.", *rows, ""]))


if __name__ == "__main__":
    renew_lock()
