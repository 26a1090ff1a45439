"""Starts the worker's package from its folder, which is on no path: run by file name.

So nothing of ours can be imported by the submission: neither the repository, nor the judge, nor,
where halfhour is installed beside torch, halfhour.
"""

import importlib.util
import json
import os
import sys

PACKAGE = "halfhour_worker"


def main() -> None:
    """Read the set-up from the only argument, load the package and serve."""
    setup = json.loads(sys.argv[1])
    sys.argv[1:] = []
    sys.path.extend(setup["site_dirs"])
    sys.modules["halfhour"] = None  # type: ignore[assignment]  # `import halfhour` finds nothing
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    attachment = importlib.import_module(f"{PACKAGE}.attachment")
    attachment.stay_attached(setup["parent"], setup["lifeline_fd"])
    if "control_fd" in setup:
        for unused in (setup["read_fd"], setup["write_fd"]):
            os.close(unused)  # or every child would hold them
        nursery = importlib.import_module(f"{PACKAGE}.nursery")
        nursery.main(setup["control_fd"], setup["message_bytes"], setup["policy"])
    else:
        serve = importlib.import_module(f"{PACKAGE}.serve")
        serve.main(
            setup["read_fd"],
            setup["write_fd"],
            setup["message_bytes"],
            setup["policy"],
            device=setup["device"],
        )


if __name__ == "__main__":
    main()
