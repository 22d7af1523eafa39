"""Objects for tests, made and signed with the reference's own classes."""

import hashlib

from nacl.encoding import HexEncoder
from nacl.signing import SigningKey
from spore.record import ExperimentRecord, Status

# Timestamps of test histories begin here (September 2025).
EPOCH = 1_757_000_000
# The id of a dataset on which no test trains.
DATASET = "da" * 32


def key(name: str) -> SigningKey:
    """The key of this name. It is the same in every process."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def node_id(signing_key: SigningKey) -> str:
    return signing_key.verify_key.encode(encoder=HexEncoder).decode("ascii")


def record(author: str, **facts) -> ExperimentRecord:
    """An unsigned record of the node `author`.

    `facts` are fields of the record. `code` is the script itself, given in place of `code_cid`.
    """
    code = facts.pop("code", None)
    fields = {
        "parent": None,
        "depth": 0,
        "code_cid": hashlib.sha256(code.encode()).hexdigest() if code is not None else "",
        "diff": "",
        "dataset_cid": DATASET,
        "prepare_cid": DATASET,
        "time_budget": 20,
        "val_bpb": 3.0,
        "peak_vram_mb": 120.5,
        "num_steps": 400,
        "num_params": 45_000,
        "description": "made for a test",
        "hypothesis": "a made-up one",
        "agent_model": "test",
        "gpu_model": "CPU",
        "cuda_version": "none",
        "torch_version": "none",
        "node_id": author,
    }
    fields.update(facts)
    fields["status"] = Status(fields.get("status", "keep"))
    return ExperimentRecord(**fields)


def claim(kind: str, on: ExperimentRecord, actor: str, value: float, **more) -> dict:
    """The payload of a control event about a record, with the fields that the reference gives it."""
    payload = {"experiment_id": on.id, "task_id": on.task_id}
    name = [kind, on.id]
    if kind == "verification":
        payload |= {"verified_node_id": on.node_id, "is_frontier": False}
    if kind == "challenge_response":
        name.append(more["challenger_id"])
    if kind == "dispute":
        payload |= {"challenger_id": actor, "challenger_bpb": value, "original_node_id": on.node_id}
    else:
        role = "challenger" if kind == "challenge" else "verifier"
        payload |= {f"{role}_id": actor, f"{role}_bpb": value, f"{role}_gpu": on.gpu_model}
    name.append(actor)
    return payload | more | {"event_id": ":".join(name)}
