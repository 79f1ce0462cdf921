"""Records this version for upgrade tests of later ones: its chart, its CRD, one resource and its children.

    tests/e2e/run record

Objects are kept as the API server has stored them, `managedFields` too: what a later operator meets.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import cluster  # noqa: E402
from cluster import VERSION, Stack, eventually, kubectl, listed  # noqa: E402

CHILDREN = "configmaps,serviceaccounts,roles,rolebindings,deployments,leases"


def main() -> int:
    folder = ROOT / "tests" / "released" / VERSION
    folder.mkdir(exist_ok=True)
    cluster.install_operator()
    stack = Stack("released")
    try:
        cluster.apply(stack.resource(replicas=2))
        stack.wait_ready(2)
        stack.settled()
        eventually("Ready=True", lambda: stack.condition("Ready").get("status") == "True", 30)
        resource = cluster.get("aihc", stack.CONNECTOR, stack.namespace)
        children = listed(CHILDREN, stack.namespace, f"app.kubernetes.io/instance={stack.CONNECTOR}")
        definition = json.loads(kubectl(
            "get", "crd", "azureiothubconnectors.iot-connectors.dev", "-o", "json", "--show-managed-fields"))
    finally:
        stack.delete()
    shutil.rmtree(folder / "chart", ignore_errors=True)
    shutil.copytree(cluster.CHART, folder / "chart")
    for name, what in {"crd": definition, "resource": resource, "children": {
            "apiVersion": "v1", "kind": "List", "items": children}}.items():
        (folder / f"{name}.json").write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {(folder / name).relative_to(ROOT)}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
