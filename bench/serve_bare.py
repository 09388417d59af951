"""Bare ONNX Runtime: `serve_bare.py FILE BATCH SECONDS` prints one JSON object.

Runs one step of a batch again and again on one thread, states fed back, with
nothing around it: no messages, no series, no checks.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime

from serve_shape import FEATURES


def main(file: str, batch: int, seconds: float) -> None:
    """Runs one measurement."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    layers, _, width = next(i.shape for i in session.get_inputs() if i.name == "h")
    x = np.random.default_rng(0).normal(size=(batch, 1, FEATURES)).astype(np.float32)
    lengths, h = np.ones(batch, np.int32), np.zeros((layers, batch, width), np.float32)
    runs, begin, measured_from, cpu_from = 0, time.perf_counter(), 0.0, 0.0
    while True:
        now = time.perf_counter()
        if not measured_from and now - begin > seconds / 4:
            runs, measured_from, cpu_from = 0, now, time.process_time()
        if measured_from and now - measured_from > seconds:
            break
        outputs = session.run(None, {"x": x, "lengths": lengths, "h": h})
        h = outputs[names.index("h_next")]
        runs += 1
    result = {
        "messages": runs,
        "rows": runs * batch,
        "seconds": now - measured_from,
        "cpu_us": 1e6 * (time.process_time() - cpu_from) / runs,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
