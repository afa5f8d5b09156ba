"""The peer of `cargo xtask bench train` and `bench twin`: the same MSN step (arXiv 2204.07141) in PyTorch, written the
usual way.

Reads the weights and views that our side exported, prints a line when ready, then answers every line of its input with
a line of JSON: `go N` takes N more steps, `take RATES` one on new views with these rates (JSON), `save` writes the state,
`matmul` measures a large matrix product.
"""

import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

MATRIX = 2048


class Block(nn.Module):
    def __init__(self, width, hidden, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.attn["proj"](mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Head(nn.Module):
    def __init__(self, width, hidden, output):
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(width, hidden), nn.BatchNorm1d(hidden)
        self.fc2, self.bn2 = nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, output)

    def forward(self, x):
        x = F.gelu(self.bn1(self.fc1(x)))
        return self.fc3(F.gelu(self.bn2(self.fc2(x))))


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        model, head = config["model"], config["head"]
        width, self.patch = model["hidden_size"], model["patch_size"]
        self.grid = config["views"]["random_size"] // self.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, self.patch, self.patch)})
        self.blocks = nn.ModuleList(
            Block(width, model["intermediate_size"], model["num_attention_heads"])
            for _ in range(model["num_hidden_layers"])
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = Head(width, head["hidden"], head["output"])

    def positions(self, side):
        if side == self.grid:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, pixels, keep=None):
        patches = self.patch_embed["proj"](pixels)
        positions = self.positions(patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2) + positions[:, 1:]
        if keep is not None:
            tokens = tokens[:, keep]
        cls = (self.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls, tokens], 1)
        for block in self.blocks:
            x = block(x)
        features = self.norm(x[:, 0])
        return features, self.fc(features)


def log_assignment(x, prototypes, options):
    cosines = F.normalize(x, dim=1) @ F.normalize(prototypes, dim=1).T
    logs = F.log_softmax(cosines / options["temperature"], dim=1)
    smoothing = options["label_smoothing"]
    if smoothing == 0:
        return logs
    return ((1 - smoothing) * logs.exp() + smoothing / len(prototypes)).log()


def koleo(features):
    unit = F.normalize(features, dim=1)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)
    return -((unit - unit[nearest]).square().sum(1) + 1e-8).sqrt().log().mean()


def sinkhorn(targets):
    images, prototypes = targets.shape
    targets = targets / targets.sum()
    for _ in range(3):
        targets = targets / targets.sum(0, keepdim=True).clamp(min=1e-30) / prototypes
        targets = targets / targets.sum(1, keepdim=True) / images
    return targets * images


class Step:
    def __init__(self, folder, device):
        case = json.load(open(os.path.join(folder, "case.json")))
        self.folder, self.config, self.case, self.device = folder, case["config"], case, device
        state = load_file(os.path.join(folder, "state.safetensors"), device=device)
        self.anchor, self.target = Encoder(self.config).to(device), Encoder(self.config).to(device)
        for name, network in (("anchor.", self.anchor), ("target.", self.target)):
            own = {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}
            missing, unexpected = network.load_state_dict(own, strict=False)
            assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
        self.target.requires_grad_(False)
        self.prototypes = nn.Parameter(state["prototypes"].clone())
        self.pairs = [list(network.parameters()) for network in (self.target, self.anchor)]
        parameters = self.pairs[1]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim == 1]
        groups = [
            {"params": decayed, "weight_decay": case["weight_decay"]},
            {"params": plain + [self.prototypes], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=case["learning_rate"], fused=True)
        self.batches = []
        self.steps = 0
        self.encode_anchor, self.encode_target = self.anchor, self.target
        if device != "cpu":
            self.encode_anchor, self.encode_target = torch.compile(self.anchor), torch.compile(self.target)

    def load_batches(self):
        batches = {}
        path = os.path.join(self.folder, "batches.safetensors")
        for key, value in load_file(path, device=self.device).items():
            number, name = key.split(".")
            batches.setdefault(int(number), {})[name] = value
        self.batches = [batches[number] for number in sorted(batches)]

    def anchors(self, batch):
        random, focal, keep = batch.get("random"), batch.get("focal"), batch.get("keep")
        if random is None or focal is None:
            return [self.encode_anchor(focal if random is None else random, keep)]
        if random.shape[-1] == focal.shape[-1]:
            return [self.encode_anchor(torch.cat([random, focal]), keep)]
        return [self.encode_anchor(random, keep), self.encode_anchor(focal)]

    def loss(self, batch):
        options = self.config["loss"]
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device != "cpu"):
            with torch.no_grad():
                _, target = self.encode_target(batch["target"])
            groups = self.anchors(batch)
        target, anchors = target.float(), torch.cat([output for _, output in groups]).float()
        with torch.no_grad():
            logs = log_assignment(target, self.prototypes, options)
            targets = F.softmax(logs / self.case["sharpen"], dim=1)
            if options["sinkhorn"]:
                targets = sinkhorn(targets)
        logs = log_assignment(anchors, self.prototypes, options)
        probabilities = logs.exp()
        agreement = -(targets.repeat(len(logs) // len(targets), 1) * logs).sum(1).mean()
        mean = probabilities.mean(0)
        memax = math.log(len(mean)) + (mean * mean.clamp(min=1e-30).log()).sum()
        entropy = -(probabilities * logs).sum(1).mean()
        total = agreement + options["memax_weight"] * memax + options["entropy_weight"] * entropy
        if options["koleo_weight"] > 0:
            total = total + options["koleo_weight"] * koleo(groups[0][0].float())
        return total

    def synchronise(self):
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def take(self):
        batch = self.batches[self.steps % len(self.batches)]
        started = self.synchronise()
        loss = self.loss(batch)
        loss_value = loss.item()
        forward = self.synchronise()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        backward = self.synchronise()
        limit = self.config["optimisation"]["clip_gradient"] or math.inf
        norm = nn.utils.clip_grad_norm_(self.pairs[1], limit).item()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.pairs[0], self.pairs[1], 1 - self.case["momentum"])
        update = self.synchronise()
        self.steps += 1
        return loss_value, norm, [forward - started, backward - forward, update - backward]

    def go(self, steps):
        started = time.perf_counter()
        taken = [self.take() for _ in range(steps)]
        seconds = (time.perf_counter() - started) / steps
        losses, norms, parts = zip(*taken)
        forward, backward, update = (sum(part) / steps for part in zip(*parts))
        return {
            "seconds": seconds, "forward": forward, "backward": backward, "update": update,
            "losses": losses, "gradient_norms": norms,
        }

    def take_fed(self, rates):
        self.case.update(rates)
        decayed, plain = self.optimizer.param_groups
        decayed["lr"] = plain["lr"] = rates["learning_rate"]
        decayed["weight_decay"] = rates["weight_decay"]
        self.load_batches()
        return {"loss": self.take()[0]}

    def save(self):
        state = {"prototypes": self.prototypes.detach()}
        for name, network in (("anchor.", self.anchor), ("target.", self.target)):
            own = network.state_dict().items()
            state |= {name + key: value for key, value in own if not key.endswith("num_batches_tracked")}
        save_file(state, os.path.join(self.folder, "trained.safetensors"))
        return {}

    def matmul(self):
        left, right = (torch.randn(MATRIX, MATRIX, device=self.device) for _ in range(2))
        best = math.inf
        for _ in range(5):
            started = self.synchronise()
            left @ right
            best = min(best, self.synchronise() - started)
        return {"multiply_adds_per_second": MATRIX**3 / best}


def main():
    folder, device = sys.argv[1], sys.argv[2]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    step = Step(folder, device)
    print(json.dumps({"peer": f"PyTorch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "go":
            if not step.batches:
                step.load_batches()
            answer = step.go(int(argument))
        elif command == "take":
            answer = step.take_fed(json.loads(argument))
        else:
            answer = step.save() if command == "save" else step.matmul()
        print(json.dumps(answer), flush=True)


main()
