"""Services, replicas and the balancer before them: everything of the cluster that is no test."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The stubs that any Python client would generate.
sys.path.insert(0, str(ROOT / "tests/clients/python"))
