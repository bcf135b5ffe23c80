"""`trcgl serve` under load, against a loop in one process that decodes and scores the same bytes in batches.

    python benchmarks/serve.py [--seconds 60] [--clients 32]

A drawn phantom per client, enlarged to a PNG of 1,024 pixels; an untrained TRCGL-Net over ConvNeXtV2-Atto at 224 px,
whose scores mean nothing and take as long as any. The clients send one upload after another on a connection each, in
the process of this script; the loop has the same time, without server or clients beside it. Both are warm before the
clock starts.
Exits with 1 if a request fails, if memory grows by more than a tenth from the first quarter of the time to its end, or
if the server answers less than 0.7 times as many radiographs per second as the loop.
"""

import argparse
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from predict import write_model

from trcgl.imaging.radiograph import read_bytes
from trcgl.model.folder import load_model
from trcgl.phantom.findings import FINDINGS
from trcgl.phantom.render import PhantomSpec, render

SIDE, DRAWN, BATCH = 1024, 256, 16
CLAIM, GROWTH = 0.7, 1.1
_BOUNDARY = "phantom"


def phantoms(count: int) -> list[bytes]:
    """PNG files of phantoms, each with a finding of its own."""
    files = []
    for number, finding in zip(range(count), list(FINDINGS) * count, strict=False):
        drawn = render(PhantomSpec(image=number, patient=number, findings=(finding,), size=DRAWN))
        stream = io.BytesIO()
        Image.fromarray(drawn.pixels).resize((SIDE, SIDE)).save(stream, format="PNG")
        files.append(stream.getvalue())
    return files


def loop(folder: Path, files: list[bytes], seconds: float) -> float:
    """Radiographs per second of a batched loop."""
    model = load_model(folder)
    done, start = 0, None
    while start is None or time.perf_counter() - start < seconds:
        if done == BATCH and start is None:
            done, start = 0, time.perf_counter()
        batch = [files[(done + one) % len(files)] for one in range(BATCH)]
        model.score(np.stack([read_bytes(one, "phantom", size=model.image_size).pixels for one in batch]))
        done += BATCH
    return done / (time.perf_counter() - start)


class Client(threading.Thread):
    """Sends one upload after another on one connection."""

    def __init__(self, place: str, content: bytes, until: threading.Event) -> None:
        super().__init__(daemon=True)
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        self.body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
        self.place, self.until = place, until
        self.answered: list[tuple[float, float]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Send until told to stop."""
        connection = http.client.HTTPConnection(self.place, timeout=300)
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        while not self.until.is_set():
            start = time.perf_counter()
            try:
                connection.request("POST", "/v1/predict", self.body, headers)
                answer = connection.getresponse()
                told = json.loads(answer.read())
                if answer.status != 200 or not told["findings"]:
                    self.failed.append(f"{answer.status} {told}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failed.append(repr(error))
                connection.close()
            self.answered.append((time.perf_counter(), time.perf_counter() - start))


def memory(place: str) -> float:
    """Resident memory of the server and its decoders, in MiB."""
    connection = http.client.HTTPConnection(place, timeout=300)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    names = ("process_resident_memory_bytes ", "trcgl_decoder_resident_bytes ")
    return sum(float(line.split()[1]) for line in lines if line.startswith(names)) / 2**20


def load(folder: Path, files: list[bytes], seconds: float) -> tuple[np.ndarray, list[str], float, float]:
    """Latencies in seconds, errors, and memory at a quarter of the time and at its end."""
    command = [sys.executable, "-m", "trcgl", "serve", str(folder), "--port", "0", "--json"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        told = "".join(iter(server.stdout.readline, "}\n")) + "}"
        place, until = urlsplit(json.loads(told)["url"]).netloc, threading.Event()
        clients = [Client(place, content, until) for content in files]
        for client in clients:
            client.start()
        while not all(client.answered for client in clients):  # warm
            time.sleep(0.1)
        start = time.perf_counter()
        time.sleep(seconds / 4)
        early = memory(place)
        time.sleep(max(0.0, start + seconds - time.perf_counter()))
        late, end = memory(place), time.perf_counter()
        until.set()
        for client in clients:
            client.join()
        server.terminate()
        assert server.wait(60) == 128 + 15
    latencies = [took for client in clients for when, took in client.answered if start < when <= end]
    return np.array(latencies), [one for client in clients for one in client.failed], early, late


def main() -> int:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    files = phantoms(options.clients)
    with tempfile.TemporaryDirectory() as name:
        folder = write_model(Path(name) / "model")
        theirs = loop(folder, files, options.seconds)
        latencies, failed, early, late = load(folder, files, options.seconds)
    ours = len(latencies) / options.seconds
    middle, slow = np.percentile(latencies, (50, 99)) * 1000
    size = np.mean([len(one) for one in files]) / 1024
    print(
        f"{options.clients} clients, {options.seconds:g} s, PNG of {size:.0f} KiB, {len(os.sched_getaffinity(0))} CPUs"
    )
    print(f"trcgl serve    {ours:8.1f} requests/s, p50 {middle:.0f} ms, p99 {slow:.0f} ms, {len(failed)} errors")
    print(f"batched loop   {theirs:8.1f} radiographs/s")
    print(f"ratio          {ours / theirs:8.2f}   (at least {CLAIM})")
    print(f"memory         {early:8.0f} MiB after a quarter of the time, {late:.0f} MiB at its end")
    for one in failed[:3]:
        print(f"error: {one}")
    return int(bool(failed) or late > GROWTH * early or ours / theirs < CLAIM)


if __name__ == "__main__":
    sys.exit(main())
