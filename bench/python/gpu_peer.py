"""A peer of `cargo xtask bench gpu`: one engine on one model, on the first CUDA device.

As encoder_peer.py, but every run begins with the bytes of crops in pinned memory of the host, which are normalised on the
device, and ends with vectors on the host.
"""

import os
import time

from safetensors.numpy import load_file

from encoder_peer import onnx_file, serve, torch_model

# Side of the square matrices whose product tells the device's rate.
MATRIX = 8192


def normaliser(torch, folder, dtype):
    """From bytes `[B, H, W, 3]` to pixels `[B, 3, H, W]`."""
    numbers = load_file(os.path.join(folder, "pixels.safetensors"))
    mean, deviation = (torch.from_numpy(numbers[name]).cuda() for name in ("mean", "deviation"))

    class Normalise(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", 1 / (255 * deviation))
            self.register_buffer("shift", mean / deviation)

        def forward(self, crops):
            return (crops.float() * self.scale - self.shift).to(dtype).permute(0, 3, 1, 2).contiguous()

    return Normalise().eval()


class Torch:
    def __init__(self, folder, attention, dtype, compiled=False):
        self.torch, model = torch_model(folder, attention)
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        of_dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(dtype, torch.float32)
        self.model = torch.nn.Sequential(normaliser(torch, folder, of_dtype), model.cuda().to(of_dtype)).eval()
        self.compiled = compiled
        kind = "compile" if compiled else attention
        self.version = f"PyTorch {torch.__version__.split('+')[0]} {kind}, {dtype}"
        self.device = torch.cuda.get_device_name()

    def matrix_rate(self):
        """Multiply-adds per second of a large bf16 product, the best of a few."""
        torch = self.torch
        left, right = torch.rand(2, MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
        best = float("inf")
        for _ in range(5):
            torch.cuda.synchronize()
            started = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
        return MATRIX**3 / best

    def prepare(self, crops):
        torch, model = self.torch, self.model
        if self.compiled:
            # For this shape alone, as a deployment would.
            model = torch.compile(model, mode="max-autotune", dynamic=False)
        crops = torch.from_numpy(crops).pin_memory()

        def run():
            with torch.inference_mode():
                return model(crops.to("cuda", non_blocking=True)).float().cpu().numpy()

        return run


class OnnxRuntime:
    def __init__(self, folder):
        import onnxruntime
        import torch

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ImportError("this onnxruntime has no CUDA provider; install onnxruntime-gpu in its place")
        self.folder, self.runtime, self.torch = folder, onnxruntime, torch
        self.normalise = normaliser(torch, folder, torch.float32)
        self.version = f"ONNX Runtime {onnxruntime.__version__} CUDA, tf32"
        self.device = torch.cuda.get_device_name()

    def prepare(self, crops):
        torch = self.torch
        providers = [("CUDAExecutionProvider", {"use_tf32": 1, "cudnn_conv_algo_search": "EXHAUSTIVE"})]
        session = self.runtime.InferenceSession(onnx_file(self.folder, len(crops)), providers=providers)
        crops = torch.from_numpy(crops).pin_memory()
        name = session.get_outputs()[0].name

        def run():
            with torch.inference_mode():
                pixels = self.normalise(crops.to("cuda", non_blocking=True))
            torch.cuda.synchronize()
            binding = session.io_binding()
            binding.bind_input("pixels", "cuda", 0, "float32", tuple(pixels.shape), pixels.data_ptr())
            binding.bind_output(name)
            session.run_with_iobinding(binding)
            return binding.copy_outputs_to_cpu()[0]

        return run


ENGINES = {
    "torch-eager-bf16": lambda folder: Torch(folder, "eager", "bf16"),
    "torch-sdpa-bf16": lambda folder: Torch(folder, "sdpa", "bf16"),
    "torch-sdpa-f32": lambda folder: Torch(folder, "sdpa", "f32"),
    "torch-compile-bf16": lambda folder: Torch(folder, "sdpa", "bf16", compiled=True),
    "torch-compile-f16": lambda folder: Torch(folder, "sdpa", "f16", compiled=True),
    "torch-compile-tf32": lambda folder: Torch(folder, "sdpa", "tf32", compiled=True),
    "onnxruntime-tf32": OnnxRuntime,
}

if __name__ == "__main__":
    serve(ENGINES, "crops")
