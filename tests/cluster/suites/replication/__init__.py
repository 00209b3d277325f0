"""Whatever breaks between Postgres and ClickHouse, every scenario ends with both equal in every column of every row."""

import argparse

from harness.cluster import Cluster
from harness.services import Services
from index.stage import BATCH_ROWS, FLIGHTS

from . import outages, replicas, source

REPLICAS = 3
SETTINGS = {
    "CONTINUO_REPLICATION_BATCH_ROWS": str(BATCH_ROWS),
    "CONTINUO_REPLICATION_FLIGHTS": str(FLIGHTS),
}


def cluster(options: argparse.Namespace) -> Cluster:
    return Cluster(min(options.replicas, REPLICAS), Services("clickhouse"), SETTINGS)


# What makes the database another one comes last.
SCENARIOS = [*outages.SCENARIOS, *replicas.SCENARIOS, *source.SCENARIOS]
