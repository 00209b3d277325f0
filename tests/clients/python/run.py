"""Runs every test of this folder. The last line says how many passed and failed; a skipped test has failed."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    sys.path.insert(0, str(HERE))
    suite = unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py")
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    # A subtest that fails counts with its test; an error while loading or in setUpClass is no test that ran.
    broken = {test_name(test) for test, _ in [*result.failures, *result.errors, *result.skipped]}
    ran = max(result.testsRun, len(broken))
    print(f"{ran - len(broken)} passed, {len(broken)} failed")
    return 0 if ran > 0 and not broken else 1


def test_name(test) -> str:
    return getattr(test, "test_case", test).id()


if __name__ == "__main__":
    sys.exit(main())
