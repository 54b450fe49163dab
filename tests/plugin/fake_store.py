"""``models files|get|import|remove`` of the stand-in for the engine: no network, and misbehaviour when told to.

FAKE_CATALOGUE names the folder of offers, FAKE_STORE what goes wrong: "offline", "slow", "crash", "full", "mute".
"""

import dataclasses
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

from afterimage.engine import contract as c

MODE = os.environ.get("FAKE_STORE", "")
MB = 1_000_000
FILES = (("unet/model.safetensors", 60 * MB), ("vae/model.safetensors", 35 * MB), ("model_index.json", 2_000))


def say(notice):
    sys.stdout.write(c.dumps(notice) + "\n")
    sys.stdout.flush()


def refuse(code, message, hint, id=None):
    say(c.Refused(c.Failure(code, message, hint), id))
    sys.exit(1)


def offer(id):
    return c.loads(c.Offer, (Path(os.environ["FAKE_CATALOGUE"]) / f"{id}.json").read_bytes())


def listed(id, done):
    """The files of an offer, so many bytes of the first of them here."""
    files = [c.RemoteFile(path, size, done if place == 0 else 0) for place, (path, size) in enumerate(FILES)]
    return c.Files(id, "0123456789abcdef", tuple(files), 10 * MB if MODE == "full" else 500_000 * MB)


def begun(store, id):
    mark = store / ".partial" / id / "bytes"
    return int(mark.read_text()) if mark.exists() else 0


def get(store, id, accepted):
    wanted = offer(id)
    if accepted != hashlib.sha256(wanted.terms.encode()).hexdigest():
        refuse(c.ErrorCode.LICENCE_NOT_ACCEPTED, "The terms were not accepted.", "Accept them.", id)
    done, total = begun(store, id), sum(size for _, size in FILES)
    say(listed(id, done))
    folder = store / ".partial" / id
    folder.mkdir(parents=True, exist_ok=True)
    while done < total:
        done = min(total, done + (2 * MB if MODE == "slow" else 20 * MB))
        (folder / "bytes").write_text(str(min(done, FILES[0][1])))
        say(c.Fetching(id, "fetching", FILES[0][0], done, total))
        if MODE == "crash":
            print("about to crash", file=sys.stderr, flush=True)
            os._exit(3)
        time.sleep(0.05)
    for stage in ("checking", "converting", "installing"):
        say(c.Fetching(id, stage, "", total, total))
    shutil.rmtree(folder)
    install(store, wanted.card)


def install(store, card):
    folder = store / card.id
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"x" * 2 * MB)
    (folder / "card.json").write_text(c.dumps(card), encoding="utf-8")
    say(c.Installed(card))


def bring(store, path, words):
    if "broken" in path:
        refuse(c.ErrorCode.WEIGHTS_DAMAGED, "A key of the weights is missing.", "Get the folder again.")
    options = dict(zip(words[::2], words[1::2]))
    like = offer(options["--offer"]).card if "--offer" in options else offer("sketcher").card
    say(c.Fetching(options["--id"], "converting", "last.ckpt", 10 * MB, 20 * MB))
    install(store, dataclasses.replace(like, id=options["--id"], name=options["--name"], summary=" ".join(words)))


def run(words):
    store = Path(os.environ["AFTERIMAGE_STORE"])
    assert words[-1] == "--watch-stdin"
    action, *rest = words[:-1]
    if MODE == "mute":
        time.sleep(60)
    if MODE == "offline" and action in ("files", "get"):
        refuse(
            c.ErrorCode.DOWNLOAD_FAILED, "The host cannot be reached.", "Check the network, then try again.", rest[0]
        )
    if action == "files":
        say(listed(rest[0], begun(store, rest[0])))
    elif action == "get":
        get(store, rest[0], rest[2])
    elif action == "import":
        bring(store, rest[0], rest[1:])
    elif action == "remove":
        shutil.rmtree(store / rest[0], ignore_errors=True)
        shutil.rmtree(store / ".partial" / rest[0], ignore_errors=True)
        say(c.Removed(rest[0]))
