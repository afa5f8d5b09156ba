"""Loads model folders that this project exported into transformers and compares the outputs.

`cargo run -p dozen-models --example export_for_interop -- DIR` writes DIR/<case>/ with an exported model folder and
`exchange.safetensors`: for each input NAME, `NAME.pixel_values` and our hidden states `NAME.before_norm` and
`NAME.after_norm`. Exits with 1 and says where they differ by more than the tolerance.

Usage: python load_exported.py DIR
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import ViTMSNModel

# Relative to the largest value, for hidden states of trained networks grow to tens.
TOLERANCE = 1e-4


@torch.no_grad()
def run(model, pixels):
    before = {}
    hook = model.layernorm.register_forward_pre_hook(lambda _, inputs: before.update(states=inputs[0]))
    after = model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
    hook.remove()
    return {"before_norm": before["states"], "after_norm": after}


def load(folder):
    """The model, insisting that every weight came from the file."""
    model, report = ViTMSNModel.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    problems = {kind: sorted(report[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[kind]}
    if problems:
        sys.exit(f"{folder}: transformers reports {problems}")
    return model.eval()


def compare(folder):
    model, exchange = load(folder), load_file(folder / "exchange.safetensors")
    names = sorted({name.split(".")[0] for name in exchange})
    for name in names:
        for kind, theirs in run(model, exchange[f"{name}.pixel_values"]).items():
            ours = exchange[f"{name}.{kind}"]
            if ours.shape != theirs.shape:
                sys.exit(f"{folder} {name} {kind}: our shape {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
            difference = ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0)).item()
            print(f"{folder.name:>8} {name:>6} {kind:<11} {tuple(ours.shape)} differs by {difference:.1e}")
            # Written so that NaN fails too.
            if not difference <= TOLERANCE:
                sys.exit(f"{folder} {name} {kind}: differs by {difference:.1e}, more than {TOLERANCE:.0e}")
    return len(names)


def main(directory):
    folders = sorted(path.parent for path in pathlib.Path(directory).glob("*/exchange.safetensors"))
    if not folders:
        sys.exit(f"{directory} holds no exported model; run the example export_for_interop first")
    compared = sum(compare(folder) for folder in folders)
    print(f"{len(folders)} exported models agree with transformers on {compared} inputs")


if __name__ == "__main__":
    main(sys.argv[1])
