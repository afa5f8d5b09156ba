"""A peer of `cargo xtask bench preprocess`: one library from JPEG bytes to crops, on one thread.

Arguments: the peer, then the folders of photos. Prints a line of JSON when ready, then answers every line of its input
with one: `go SET SHORT CROP N` makes the crops of a set N times, `crops SET SHORT CROP FILE` writes them to a file.
`enlarge FROM TO COUNT` instead of a peer writes photos of 12 megapixels.
"""

import io
import json
import os
import sys
import time

from PIL import Image, ImageOps

# Decoded pixels to one of the resized photo, at least, where a peer reduces while decoding: ours does not go below either.
LEAST_PER_PIXEL = 2


def files(folder):
    return sorted(os.path.join(folder, name) for name in os.listdir(folder))


def enlarge(source, target, count):
    os.makedirs(target, exist_ok=True)
    for number, path in enumerate(files(source)[:count]):
        photo = Image.open(path).convert("RGB")
        scale = (12e6 / (photo.width * photo.height)) ** 0.5
        size = round(photo.width * scale), round(photo.height * scale)
        photo.resize(size, Image.Resampling.BICUBIC).save(os.path.join(target, f"{number:03}.jpg"), quality=90)


def resized_size(width, height, short):
    return (short, short * height // width) if width <= height else (short * width // height, short)


def offsets(width, height, crop):
    return round((width - crop) / 2), round((height - crop) / 2)


class Pillow:
    def __init__(self, draft=False):
        import PIL

        self.draft = draft
        self.version = f"Pillow {PIL.__version__}" + (", draft" if draft else "")

    def crop(self, data, short, crop, reduction):
        photo = Image.open(io.BytesIO(data))
        if self.draft:
            photo.draft("RGB", (LEAST_PER_PIXEL * short, LEAST_PER_PIXEL * short))
        photo = ImageOps.exif_transpose(photo.convert("RGB"))
        photo = photo.resize(resized_size(*photo.size, short), Image.Resampling.BILINEAR)
        left, top = offsets(*photo.size, crop)
        return photo.crop((left, top, left + crop, top + crop))

    def bytes(self, photo):
        return photo.tobytes()


class OpenCv:
    def __init__(self, reduced=False):
        import cv2
        import numpy

        cv2.setNumThreads(1)
        self.cv2, self.numpy, self.reduced = cv2, numpy, reduced
        self.version = f"OpenCV {cv2.__version__}" + (", reduced" if reduced else "")

    def crop(self, data, short, crop, reduction):
        flags = {
            1: self.cv2.IMREAD_COLOR, 2: self.cv2.IMREAD_REDUCED_COLOR_2, 4: self.cv2.IMREAD_REDUCED_COLOR_4,
            8: self.cv2.IMREAD_REDUCED_COLOR_8,
        }
        flag = flags[reduction if self.reduced else 1]
        photo = self.cv2.imdecode(self.numpy.frombuffer(data, self.numpy.uint8), flag)
        size = resized_size(photo.shape[1], photo.shape[0], short)
        # The only one of its filters that does not alias when shrinking.
        photo = self.cv2.resize(photo, size, interpolation=self.cv2.INTER_AREA)
        left, top = offsets(*size, crop)
        return self.cv2.cvtColor(photo[top : top + crop, left : left + crop], self.cv2.COLOR_BGR2RGB)

    def bytes(self, photo):
        return photo.tobytes()


class TorchVision:
    def __init__(self):
        import torch
        import torchvision
        from torchvision.io import ImageReadMode, decode_jpeg
        from torchvision.transforms.v2 import functional

        torch.set_num_threads(1)
        self.torch, self.functional, self.decode, self.mode = torch, functional, decode_jpeg, ImageReadMode.RGB
        self.version = f"torchvision {torchvision.__version__.split('+')[0]}"

    def crop(self, data, short, crop, reduction):
        data = self.torch.frombuffer(data, dtype=self.torch.uint8)
        photo = self.decode(data, mode=self.mode, apply_exif_orientation=True)
        photo = self.functional.resize(photo, [short], antialias=True)
        return self.functional.center_crop(photo, [crop])

    def bytes(self, photo):
        return photo.permute(1, 2, 0).contiguous().numpy().tobytes()


PEERS = {
    "pillow": Pillow,
    "pillow-draft": lambda: Pillow(draft=True),
    "opencv": OpenCv,
    "opencv-reduced": lambda: OpenCv(reduced=True),
    "torchvision": TorchVision,
}


def short_side(data):
    return min(Image.open(io.BytesIO(data)).size)


def serve(name, folders):
    # Libraries print what they like; answers go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = PEERS[name]()
    # Writable, as torch wants them.
    sets = [[bytearray(open(path, "rb").read()) for path in files(folder)] for folder in folders]
    sides = [[short_side(data) for data in photos] for photos in sets]
    print(json.dumps({"peer": peer.version}), file=answers, flush=True)
    for line in sys.stdin:
        verb, number, short, crop, last = line.split()
        number, short, crop = int(number), int(short), int(crop)
        reductions = [
            next(factor for factor in (8, 4, 2, 1) if factor == 1 or side / factor >= LEAST_PER_PIXEL * short)
            for side in sides[number]
        ]
        photos = list(zip(sets[number], reductions))
        if verb == "go":
            started = time.perf_counter()
            for _ in range(int(last)):
                for data, reduction in photos:
                    peer.crop(data, short, crop, reduction)
            answer = {"seconds": (time.perf_counter() - started) / int(last) / len(photos)}
        else:
            with open(last, "wb") as file:
                for data, reduction in photos:
                    file.write(peer.bytes(peer.crop(data, short, crop, reduction)))
            answer = {"photos": len(photos)}
        print(json.dumps(answer), file=answers, flush=True)


if sys.argv[1] == "enlarge":
    enlarge(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    serve(sys.argv[1], sys.argv[2:])
