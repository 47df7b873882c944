"""Play every scene and keep what the API server said: `python -m tests.kube.scenes.record [NAME...]`.

Writes tests/data/kubernetes/NAME-MOMENT.json, trimmed to what tells something, with times and unique ids made the same
in every run.
"""

from __future__ import annotations

import json
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightkube import Client

from tests.kube.scenes.play import scenes
from tests.kube.scenes.stage import Scene, Seen, Stage, registry, warm
from tests.kube.scenes.trim import trim

DATA = Path(__file__).parent.parent.parent / "data" / "kubernetes"
AT_ONCE = 4


def main(names: list[str]) -> None:
    """Record the scenes of these names, or all."""
    DATA.mkdir(parents=True, exist_ok=True)
    warm(Client())
    with registry() as host, ThreadPoolExecutor(AT_ONCE) as pool:
        chosen = [scene for scene in scenes(host) if not names or scene.name in names]
        for line in pool.map(lambda scene: _record(scene, host), chosen):
            print(line, flush=True)


def _record(scene: Scene, host: str) -> str:
    try:
        with Stage(Client(), scene) as stage:
            if scene.until:
                stage.wait(scene.until)
            if scene.act:
                scene.act(stage)
            for name, moment in scene.moments.items():
                _keep(f"{scene.name}-{name}", stage.wait(moment, 90), host)
    except Exception:  # the other scenes go on
        return f"{scene.name}: {traceback.format_exc(limit=3)[-3000:]}"
    return f"{scene.name}: {', '.join(scene.moments)}"


def _keep(name: str, seen: Seen, host: str) -> None:
    text = json.dumps(trim(seen), indent=1, ensure_ascii=False).replace(host, "localhost:5000")
    (DATA / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
