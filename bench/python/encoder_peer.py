"""A peer of `cargo xtask bench encoder`: one engine on one model.

Arguments: the exchange folder, the engine. The folder holds the model as `transformers` reads it (`model/`), and
`pixels.safetensors` with normalised crops. Prints a line of JSON when ready, then answers every line of its input with
one: `go BATCH N` embeds N batches, `vectors` gives the unit vectors of the first crops, `matmul` (PyTorch's side only)
measures a large matrix product.
"""

import json
import os
import sys
import time
import warnings

import numpy as np
from safetensors.numpy import load_file

THREADS = int(os.environ["OMP_NUM_THREADS"])
COMPARED = 8
# Side of the square matrices whose product tells the machine's rate.
MATRIX = 2048


def torch_model(folder, attention="sdpa"):
    import torch
    from transformers import ViTMSNModel

    torch.set_num_threads(THREADS)
    model = ViTMSNModel.from_pretrained(os.path.join(folder, "model"), attn_implementation=attention).eval()

    model.layernorm = torch.nn.Identity()

    class Cls(torch.nn.Module):
        """CLS before the final norm."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixels).last_hidden_state[:, 0]

    return torch, Cls().eval()


def onnx_file(folder, batch):
    """The model for one batch size: fixed shapes are what every engine is fastest with."""
    path = os.path.join(folder, f"model-{batch}.onnx")
    if not os.path.exists(path):
        torch, model = torch_model(folder)
        pixels = torch.from_numpy(load_file(os.path.join(folder, "pixels.safetensors"))["pixels"][:batch])
        with torch.inference_mode():
            torch.onnx.export(model, (pixels,), path + ".new", input_names=["pixels"], dynamo=False, opset_version=17)
        os.replace(path + ".new", path)
    return path


class Torch:
    def __init__(self, folder):
        self.torch, self.model = torch_model(folder)
        self.version = f"PyTorch {self.torch.__version__.split('+')[0]}"

    def matrix_rate(self):
        """Multiply-adds per second of a large f32 product, the best of a few."""
        left, right = self.torch.rand(2, MATRIX, MATRIX)
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - started)
        return MATRIX**3 / best

    def prepare(self, pixels):
        pixels = self.torch.from_numpy(pixels)

        def run():
            with self.torch.inference_mode():
                return self.model(pixels).numpy()

        return run


class OnnxRuntime:
    def __init__(self, folder, int8=False):
        import onnxruntime

        self.folder, self.int8, self.runtime = folder, int8, onnxruntime
        self.version = f"ONNX Runtime {onnxruntime.__version__}" + (" dynamic int8" if int8 else "")

    def prepare(self, pixels):
        path = onnx_file(self.folder, len(pixels))
        if self.int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from onnxruntime.quantization.shape_inference import quant_pre_process

            quantised = path.replace(".onnx", ".int8.onnx")
            if not os.path.exists(quantised):
                quant_pre_process(path, path + ".prepared")
                quantize_dynamic(path + ".prepared", quantised, weight_type=QuantType.QInt8, per_channel=True)
            path = quantised
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = self.runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"pixels": pixels})[0]


class OpenVino:
    def __init__(self, folder, int8=False):
        import openvino

        self.folder, self.int8, self.openvino = folder, int8, openvino
        self.version = f"OpenVINO {openvino.__version__.split('-')[0]}" + (" static int8" if int8 else "")

    def prepare(self, pixels):
        model = self.openvino.convert_model(onnx_file(self.folder, len(pixels)))
        if self.int8:
            import nncf

            calibration = load_file(os.path.join(self.folder, "pixels.safetensors"))["calibration"]
            whole = range(0, len(calibration) // len(pixels) * len(pixels), len(pixels))
            batches = [calibration[first : first + len(pixels)] for first in whole]
            dataset = nncf.Dataset(batches, lambda batch: {"pixels": batch})
            model = nncf.quantize(
                model, dataset, model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(batches),
            )
        hints = {
            "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = self.openvino.Core().compile_model(model, "CPU", hints)
        request = compiled.create_infer_request()
        return lambda: request.infer({"pixels": pixels})[compiled.output(0)]


ENGINES = {
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "onnxruntime-int8": lambda folder: OnnxRuntime(folder, int8=True),
    "openvino-int8": lambda folder: OpenVino(folder, int8=True),
}


def unit(vectors):
    vectors = vectors.astype(np.float64)
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def serve(engines, inputs):
    """Answers with the engine that is asked for; `inputs` names the tensor of crops that it takes."""
    warnings.filterwarnings("ignore")
    folder, name = sys.argv[1:]
    # Libraries print what they like; answers go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        engine = engines[name](folder)
    except ImportError as reason:
        print(json.dumps({"absent": str(reason)}), file=answers, flush=True)
        return
    pixels = load_file(os.path.join(folder, "pixels.safetensors"))[inputs]
    ready = {"peer": engine.version, "device": getattr(engine, "device", None)}
    print(json.dumps(ready), file=answers, flush=True)
    prepared = {}
    for line in sys.stdin:
        words = line.split()
        if words[0] == "matmul":
            print(json.dumps({"multiply_adds_per_second": engine.matrix_rate()}), file=answers, flush=True)
            continue
        batch = int(words[1]) if words[0] == "go" else COMPARED
        if batch not in prepared:
            # Larger batches have some crops several times.
            numbers = np.arange(batch) % len(pixels)
            prepared[batch] = engine.prepare(np.ascontiguousarray(pixels[numbers]))
            prepared[batch]()
        if words[0] == "go":
            started = time.perf_counter()
            for _ in range(int(words[2])):
                prepared[batch]()
            answer = {"seconds": (time.perf_counter() - started) / int(words[2])}
        else:
            answer = {"vectors": unit(prepared[batch]()).tolist()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(ENGINES, "pixels")
