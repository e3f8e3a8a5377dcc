"""Fetching the broker's jars, from a small Maven repository on this machine."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from chart_platform.stream import jars
from chart_platform.stream.jars import POM_FILE, Jar, JarsUnavailable, ensure_jars, read_lock

CONTENT = b"a jar"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that has the one pinned jar; no Maven on the PATH."""
    jar = Jar("org/some/1/some-1.jar", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    monkeypatch.setattr(jars, "read_lock", lambda: (jar,))
    monkeypatch.setattr(jars.shutil, "which", lambda _: None)
    monkeypatch.setattr(jars.time, "sleep", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "repository" / jar.path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return tmp_path / "repository"


def test_missing_jars_are_downloaded_once_into_the_users_cache(repository: Path, tmp_path: Path) -> None:
    (path,) = ensure_jars(repository.as_uri())
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "cache" / "chart-platform")
    assert ensure_jars("file:///nowhere") == [path]
    assert [file.name for file in path.parents[3].iterdir()] == ["org"], "no scratch is left"


def test_a_jar_that_is_not_the_pinned_one_never_gets_into_the_cache(repository: Path) -> None:
    (repository / "org/some/1/some-1.jar").write_bytes(b"other")
    with pytest.raises(JarsUnavailable, match="not the pinned file"):
        ensure_jars(repository.as_uri())
    assert not list(jars.cache_folder().rglob("*.jar"))


def test_a_torn_jar_in_the_cache_is_replaced(repository: Path) -> None:
    (path,) = ensure_jars(repository.as_uri())
    path.write_bytes(CONTENT[:2])
    assert ensure_jars(repository.as_uri()) == [path]
    assert path.read_bytes() == CONTENT


@pytest.mark.usefixtures("repository")
def test_a_repository_out_of_reach_is_named_with_its_setting() -> None:
    with pytest.raises(JarsUnavailable, match=r"file:///nowhere/org/some.*CHART_MAVEN_REPOSITORY_URL"):
        ensure_jars("file:///nowhere")


def test_the_lock_pins_what_the_pom_names() -> None:
    pinned = {jar.path for jar in read_lock()}
    wanted = re.findall(
        r"<dependency>\s*<groupId>(.*?)</groupId>\s*<artifactId>(.*?)</artifactId>\s*<version>(.*?)</version>",
        POM_FILE.read_text(),
    )
    assert wanted
    for group, artifact, version in wanted:
        assert f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar" in pinned
    assert f"org/apache/kafka/kafka_2.13/{jars.KAFKA_VERSION}/kafka_2.13-{jars.KAFKA_VERSION}.jar" in pinned
