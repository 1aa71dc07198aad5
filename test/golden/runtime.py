"""Runs an ONNX file that ComFace wrote: python test/golden/runtime.py FILE INPUT SIZE BATCH. Checks it, and prints its outputs as JSON.

For test/export.test.ts where PYTHON has these, and for whoever changes what is written:
    pip install onnx==1.23.2 onnxruntime==1.31.1
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

file, given, size, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
model = onnx.load(file)
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
images = np.fromfile(given, dtype=np.float32).reshape(batch, 3, size, size)
names = [output.name for output in session.get_outputs()]
shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
values = dict(zip(names, session.run(names, {"images": images})))
print(json.dumps({"opset": model.opset_import[0].version, "shapes": shapes, **{name: value.reshape(-1).tolist() for name, value in values.items()}}))
