"""A stand-in for the engine process: it speaks the protocol, and misbehaves when told to. Standard library only.

How it starts is told by the variable FAKE_ENGINE, what it does with a job by the job's title.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("launch", ROOT / "engine" / "launch.py")
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register(ROOT)

from afterimage.engine import contract as c  # noqa: E402

MODE = os.environ.get("FAKE_ENGINE", "")
CANCELLED = set()
WAKE = threading.Condition()
QUEUE = []
SEEN = set()


def say(event):
    sys.stdout.write(c.dumps(event) + "\n")
    sys.stdout.flush()


def result(job):
    request = job.request
    grid = getattr(request, "grid", c.GeoBox("EPSG:32633", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (4, 4)))
    text = c.dumps(job)
    source = c.Provenance(
        "Generate", request.model, {}, "", "", text, "", "", None, 1, "DDIM", 1, 1.0, (), grid, "0", ""
    )
    output = c.Output(job.output or "/nowhere/result.tif", c.Role.SAMPLE, 1, grid, ("red", "green", "blue"), "uint8")
    return c.Result((output,), source, ("a notice",), 0.1)


def draw(job, folder, is_cancelled):
    """One job, as its title says; the event that ends it."""
    say(c.Started(job.id))
    runs = Path(folder) / "runs"
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    title = job.title
    if "crash" in title:
        print("about to crash", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in title:
        return c.Failed(job.id, c.Failure(c.ErrorCode.OUT_OF_MEMORY, "Too little memory.", "Ask for less."))
    steps = 300 if "slow" in title else 3
    for step in range(steps):
        say(c.Progressed(job.id, "tiles", step / steps, (steps - step) * 0.02))
        if step == 1:
            say(c.Previewed(job.id, "/nowhere/preview.tif"))
        time.sleep(0.02)
        if is_cancelled() and "stubborn" not in title:
            return c.Cancelled(job.id)
    return c.Succeeded(job.id, result(job))


def work():
    while True:
        with WAKE:
            WAKE.wait_for(lambda: QUEUE)
            job, folder = QUEUE.pop(0)
        if job in CANCELLED:
            SEEN.discard(job)
            say(c.Cancelled(job))
            continue
        read = c.loads(c.Job, (Path(folder) / "request.json").read_text(encoding="utf-8"))
        say(draw(read, folder, lambda job=job: job in CANCELLED))
        SEEN.discard(job)


def serve():
    if MODE == "silent":
        time.sleep(60)
    if MODE == "crash":
        sys.exit(3)
    if MODE == "chatty":
        sys.stdout.write("Loading weights...\n" + json.dumps({"type": "Unknown"}) + "\n")
    say(c.Ready(99 if MODE == "protocol" else c.PROTOCOL, "0", "cpu", cards()))
    print("a line of log: é", file=sys.stderr, flush=True)
    if MODE == "endless":
        while True:
            sys.stdout.write("x" * (1 << 20))
    threading.Thread(target=work, daemon=True).start()
    for line in sys.stdin:
        command = c.loads(c.Command, line)
        if isinstance(command, c.Submit) and command.job not in SEEN:
            with WAKE:
                SEEN.add(command.job)
                CANCELLED.discard(command.job)
                QUEUE.append((command.job, command.folder))
                WAKE.notify()
        elif isinstance(command, c.Cancel):
            CANCELLED.add(command.job)
        elif isinstance(command, c.Shutdown):
            break
    os._exit(0)


def cards():
    shown = c.ModelCard("m", "M", "", "tiny", "1", ("Generate",), ("red",), (1.0, 20.0), 64, 48, ("DDIM",), 10)
    hidden = c.ModelCard(
        "h", "H", "", "tiny", "1", ("Generate",), ("red",), (1.0, 20.0), 64, 48, ("DDIM",), 10, pickable=False
    )
    return (shown, hidden)


def run(folder):
    gone = threading.Event()

    def watch():
        sys.stdin.read()
        gone.set()

    if MODE == "crash":
        print("cannot go on", file=sys.stderr)
        sys.exit(3)
    threading.Thread(target=watch, daemon=True).start()
    job = c.loads(c.Job, (Path(folder) / "request.json").read_text(encoding="utf-8"))
    say(draw(job, folder, gone.is_set))
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[-1] == "serve":
        serve()
    elif "run" in sys.argv:
        run(sys.argv[sys.argv.index("run") + 1])
    elif "models" in sys.argv:
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        import fake_store

        fake_store.run(sys.argv[sys.argv.index("models") + 1 :])
    elif sys.argv[-1] == "doctor":
        print("all is well")
