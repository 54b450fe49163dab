"""A QGIS without a window that starts a job and tells its engine's process id; to be killed by a test.

Arguments: folder for jobs, file for the id.
"""

import importlib.util
import os
import sys
from pathlib import Path

from qgis.core import QgsApplication

root = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("launch", root / "engine" / "launch.py")
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register(root)

from afterimage.engine.contract import Generate, GeoBox, Sampling  # noqa: E402
from afterimage.plugin.jobs import Draft  # noqa: E402
from afterimage.plugin.session import Session  # noqa: E402

application = QgsApplication([], False)
application.initQgis()
session = Session(root=sys.argv[1])
grid = GeoBox("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (4096, 4096))
request = Generate("tiny-generate", grid, grid, 10.0, "forest", Sampling(7, 50, "DDIM"))
session.submit(Draft(request, "long"))


def tell(job: str) -> None:
    if (session.job(job).fraction or 0) > 0 and not os.path.exists(sys.argv[2]):
        Path(sys.argv[2] + ".part").write_text(str(session._client._channel.pid))
        os.replace(sys.argv[2] + ".part", sys.argv[2])


session.job_changed.connect(tell)
application.exec()
