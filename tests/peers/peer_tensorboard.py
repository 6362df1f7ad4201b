#!/usr/bin/env python3
"""Reads the event files of a training back with the package tensorboard and compares them with log.jsonl.

    python3 tests/peers/peer_tensorboard.py --work DIR [--program build/bin/rwkvx] [--picture FILE.png]

Not part of the default tests: it installs tensorboard from PyPI into DIR/venv (an environment that is there is used). It
trains a small model with train.tensorboard and train.watch_gates, stops it between two checkpoints, resumes it and replaces
it, and checks tags, steps, values and texts after each. --picture starts TensorBoard and has Chromium take a picture of it.
"""
import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def install(work):
    python = work / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "tensorboard"], check=True)
    return python


def train(program, work, *flags):
    text = work / "text.txt"
    text.write_text("".join(f"bird number {i % 17} sings, the fox listens.\n" for i in range(4000)))
    config = work / "config.json"
    config.write_text(json.dumps({
        "model": {"n_layer": 2, "n_embd": 16, "shift": {"kind": "gps"}}, "tokenizer": {"kind": "byte"},
        "data": {"train": str(text)},
        "train": {"output": str(work / "run"), "ctx_len": 32, "batch_size": 2, "max_steps": 60, "warmup_steps": 4, "eval_every": 10,
                  "eval_tokens": 512, "save_every": 20, "log_every": 2, "tensorboard": True, "watch_gates": True}}))
    subprocess.run([program, "train", "--quiet", "--config", config, *flags], check=True)


def flat(prefix, value):
    """Tags and values as the program names them."""
    if isinstance(value, dict):
        return {tag: number for key, item in value.items() for tag, number in flat(f"{prefix}/{key}", item).items()}
    return {prefix: value}


def expected(run):
    """tag -> {step: value} of log.jsonl."""
    points = {}
    for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
        step, part = line.pop("step"), "valid" if "valid_loss" in line else "train"
        for name, value in line.items():
            tags = flat(name, value) if name == "gates" else {f"{part}/{name.removeprefix('valid_')}": value}
            for tag, number in tags.items():
                if not isinstance(number, bool):
                    points.setdefault(tag, {})[step] = number
    return points


def check(run, texts, what):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    wanted = expected(run)
    assert set(events.Tags()["scalars"]) == set(wanted), set(events.Tags()["scalars"]) ^ set(wanted)
    for tag, points in wanted.items():
        got = events.Scalars(tag)
        assert [event.step for event in got] == sorted(points), (tag, [event.step for event in got], sorted(points))
        for event in got:
            as_float = struct.unpack("f", struct.pack("f", points[event.step]))[0]
            assert event.value == as_float, (tag, event.step, event.value, points[event.step])
            assert math.isclose(event.wall_time, time.time(), abs_tol=3600)
    found = {tag: [(event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(tag)]
             for tag in events.Tags()["tensors"]}
    assert set(found) == {"config"}, found.keys()
    assert all('"n_embd": 16' in text for _, text in found["config"])
    assert [step for step, _ in found["config"]] == texts, found["config"]
    assert events.SummaryMetadata("config").plugin_data.plugin_name == "text"
    print(f"{what}: {len(wanted)} tags, {sum(map(len, wanted.values()))} values, {len(found['config'])} text(s): as in log.jsonl", flush=True)


def take_picture(work, run, picture):
    port = "16006"
    board = subprocess.Popen([work / "venv/bin/tensorboard", "--logdir", run, "--port", port, "--load_fast=false"],
                             stderr=subprocess.DEVNULL)
    try:
        for _ in range(60):
            time.sleep(1)
            try:
                tags = json.load(urllib.request.urlopen(f"http://localhost:{port}/data/plugin/scalars/tags"))
                if tags:
                    break
            except OSError:
                pass
        print(f"TensorBoard serves {sum(map(len, tags.values()))} tags of scalars")
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1600",
                        "--virtual-time-budget=20000", f"--screenshot={picture}", f"http://localhost:{port}/#timeseries"],
                       check=True, stderr=subprocess.DEVNULL)
    finally:
        board.terminate()
        board.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for the package and the run")
    parser.add_argument("--program", type=Path, default=ROOT / "build/bin/rwkvx")
    parser.add_argument("--picture", type=Path, help="PNG that Chromium takes of TensorBoard")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = install(work)
    if Path(sys.prefix).resolve() != work / "venv":
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    train(options.program, work, "--stop-after", "30")
    check(run, [0], "first run")
    # What was logged after the checkpoint of step 20 is taken again.
    shutil.rmtree(run / "checkpoints/step-00000030")
    train(options.program, work, "--resume", "--stop-after", "20")
    check(run, [0, 20], "resumed from an earlier step")
    train(options.program, work, "--resume")
    check(run, [0, 20, 40], "resumed again")
    if options.picture:
        take_picture(work, run, options.picture.resolve())
    train(options.program, work, "--overwrite", "--stop-after", "10")
    check(run, [0], "replaced")


if __name__ == "__main__":
    main()
