"""Ask a server of its own everything that the document allows, and what it does not; the exit code is schemathesis's.

Arguments go to `st run`, such as `--seed 7` or `--max-examples 500`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.behaviour.sites import BACKENDS, Site
from tests.contract.document import EXCLUDED_CHECKS, document
from tests.venvs import ROOT, NoIndex, venv_python

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "contract"
USUAL = ["--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing,stateful"]
SECONDS, LONGEST = 120, 3600
"""When the run is ended, come what may (usually it takes half a minute); and when it was told what to do."""

LEAST_ACCEPTED = 20
"""Tasks that must have been created: a run in which each is refused for what the text says would prove little."""

SETTINGS = {
    # What the document's own examples ask for fits.
    "TESK_LOCAL_CPU_CORES": "8",
    "TESK_LOCAL_RAM_GB": "64",
    "TESK_LOCAL_DISK_GB": "1000",
    # Tasks that are accepted do run; nothing leaves this machine.
    "TESK_STORAGE_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    "TESK_STORAGE_S3_ANONYMOUS": "true",
    "TESK_STORAGE_ATTEMPTS": "1",
}


def main() -> int:
    """Run schemathesis."""
    try:
        program = venv_python(HERE / "requirements.txt").parent / "schemathesis"
    except NoIndex as reason:
        sys.exit(f"contract: {reason}")
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    described = BUILD / "document.json"
    described.write_text(json.dumps(document(), default=str))
    site = Site(BACKENDS["sandbox"](BUILD), BUILD, dict(SETTINGS))
    site.start()
    try:
        code = _ask(program, described, site)
        with site.client as client:
            accepted = sum(1 for _ in client.list(page_size=2047))
    finally:
        stopped = site.stop()
        site.close()  # what still ran goes on without the server otherwise
    if stopped:
        print(f"contract: the server ended with {stopped}; see {BUILD / 'server.log'}", file=sys.stderr)
    print(f"contract: {accepted} tasks were accepted")
    if accepted < LEAST_ACCEPTED:
        print(f"contract: fewer than {LEAST_ACCEPTED}: the document's copy asks for too little", file=sys.stderr)
        return 1
    return code or stopped


def _ask(program: Path, described: Path, site: Site) -> int:
    command = [
        program,
        "run",
        described,
        *("--url", f"{site.url}/ga4gh/tes/v1"),
        *("--exclude-checks", ",".join(EXCLUDED_CHECKS)),
        *("--warnings", "off", "--no-shrink", "--continue-on-failure", "--generation-database", "none"),
        *("--request-timeout", "10"),
        *USUAL,
        *sys.argv[1:],
    ]
    seconds = LONGEST if sys.argv[1:] else SECONDS
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    try:
        return subprocess.run(command, env=environment, cwd=BUILD, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"contract: it did not end within {seconds} s", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
