"""Writes a data directory as nodes of the reference have left them, for tests and benchmarks.

    python seed.py DIR [--records N] [--name NAME] [--peer HOST:PORT] [--old] [--corrupt]

The directory holds a task with a manifest and N records (12), signed by this node and a colleague; a
legacy task of four records of version 1, whose rows name no task; claims that confirm records and claims
that contradict them; two profiles; and the script of each record. The same arguments give the same
objects. A description of the directory goes to standard output as JSON.

--old      the layout from before there were tasks: only the legacy records, no column and no database
           for tasks
--corrupt  in addition, rows and files that were changed after they were signed
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

from nacl.encoding import HexEncoder
from objects import DATASET, EPOCH, claim, key, node_id, record
from spore.control import SignedControlEvent
from spore.node import NodeConfig, SporeNode
from spore.profile import NodeProfile
from spore.record import ExperimentRecord
from spore.task import TaskManifest

# Number of records in one branch of the tree.
BRANCH = 50


class Seed:
    """A data directory that is being written, with the description that a test needs."""

    def __init__(self, data_dir: Path, name: str, peers: list[str]):
        self.key = key(name)
        self.keys = {node_id(one): one for one in (self.key, key(f"{name}'s colleague"), key(f"{name}'s judge"))}
        self.me, self.other, self.judge = self.keys
        identity = data_dir / "identity"
        identity.mkdir(parents=True)
        (identity / "private_key").write_text(self.key.encode(encoder=HexEncoder).decode("ascii"))
        (identity / "node_id").write_text(self.me)
        config = NodeConfig(host="127.0.0.1", peer=peers, data_dir=str(data_dir))
        config.save()
        (data_dir / "known_peer").write_text("".join(f"{peer}\n" for peer in peers))
        self.dir = data_dir
        self.node = SporeNode(config)
        self.unhurried()
        self.records: dict[str, str] = {}
        self.last: ExperimentRecord | None = None
        self.controls: list[str] = []
        self.artifacts: list[str] = []
        self.scripts = 0

    def unhurried(self) -> None:
        """Writes no row through to the disk: a half-written directory is of no use."""
        stores = (self.node.graph, self.node.control, self.node.task, self.node.profile, self.node.reputation)
        for store in stores:
            store.conn.execute("PRAGMA synchronous=OFF")

    def script(self) -> str:
        self.scripts += 1
        text = f"# script {self.scripts} of {self.me[:8]}\nprint('val_bpb: 3.0')\n"
        self.artifacts.append(self.node.store.put(text.encode()))
        return text

    def add(self, author: str, parent: ExperimentRecord | None, number: int, **facts) -> ExperimentRecord:
        one = record(
            author,
            code=self.script(),
            parent=parent.id if parent else None,
            depth=parent.depth + 1 if parent else 0,
            timestamp=EPOCH + 60 * (number + 1),
            **facts,
        )
        one.sign(self.keys[author])
        self.node._on_remote_experiment(one)
        self.records[one.id] = one.task_id
        self.last = one
        return one

    def manifest(self, name: str) -> str:
        manifest = TaskManifest(
            name=name,
            description="Made for a test: naïve “quotes”, a tab\tand \N{SEEDLING}",
            task_type="ml_train",
            artifact_type="python_train_script",
            metric="val_bpb",
            goal="minimize",
            base_code_cid="",
            prepare_cid=DATASET,
            dataset_cid=DATASET,
            time_budget=20,
            created_by=self.me,
            timestamp=EPOCH,
        )
        manifest.sign(self.key)
        self.node.task.upsert_manifest(manifest)
        return manifest.task_id

    def tree(self, task: str, count: int) -> list[ExperimentRecord]:
        """Branches from the root. In each branch, a record is better than the one before, unless it is discarded.

        No two metrics are equal, because the reference orders equal ones at random.
        """
        made: list[ExperimentRecord] = []
        best = None
        for number in range(count):
            if number % BRANCH == 1:
                best = made[0]
            discard = number % 3 == 2
            one = self.add(
                self.other if number % 4 == 3 else self.me,
                best,
                number,
                task_id=task,
                version=2,
                val_bpb=3.0 - 1e-5 * number + (0.5 if discard else 0.0),
                status="discard" if discard else "keep",
                gpu_model="NVIDIA GeForce RTX 4090" if number % 5 == 4 else "CPU",
                description=f"number {number} of a tree — Ω",
                hypothesis='"better"\n\\ than before',
            )
            made.append(one)
            best = best if discard else one
        return made

    def legacy(self, start: int) -> list[ExperimentRecord]:
        """A chain of records of version 1, from the time before there were tasks."""
        made: list[ExperimentRecord] = []
        for number in range(4):
            parent = made[-1] if made else None
            value = 4.0 - 0.1 * number
            made.append(self.add(self.me, parent, start + number, version=1, val_bpb=value))
        return made

    def say(self, kind: str, on: ExperimentRecord, actor: str, value: float, **more) -> None:
        payload = claim(kind, on, actor, value, **more)
        stamp = on.timestamp + 30 + len(self.controls)
        event = SignedControlEvent(type=kind, payload=payload, node_id=actor, timestamp=stamp)
        event.sign(self.keys[actor])
        self.node.control.store(event)
        getattr(self.node.challenger, f"on_{kind}")(payload)
        self.controls.append(event.id)

    def claims(self, made: list[ExperimentRecord]) -> dict:
        """One claim that confirms its record, one that contradicts it, and a dispute that a third record lost."""
        held, failed, disputed = made[0], made[1], made[4]
        self.say("verification", held, self.other, held.val_bpb + 0.001)
        self.say("verification", failed, self.other, failed.val_bpb + 0.5)
        value = disputed.val_bpb + 0.4
        self.say("challenge", disputed, self.other, value)
        self.say("challenge_response", disputed, self.judge, value, challenger_id=self.other)
        outcome = {"outcome": "rejected", "ground_truth_bpb": value, "verifier_count": 1}
        sides = {"winner_verifier_ids": [self.judge], "loser_verifier_ids": []}
        self.say("dispute", disputed, self.other, value, **outcome, **sides)
        return {"held": held.id, "failed": failed.id, "disputed": disputed.id}

    def profiles(self) -> dict:
        for author, name in ((self.me, "Ada"), (self.other, "Björn")):
            profile = NodeProfile(node_id=author, display_name=name, bio="a test's node", timestamp=EPOCH)
            profile.sign(self.keys[author])
            self.node.profile.upsert(profile)
        return {profile.node_id: profile.display_name for profile in self.node.profile.all()}

    def edit(self, database: str, *statements: tuple) -> None:
        with contextlib.closing(sqlite3.connect(self.dir / "db" / database)) as db, db:
            for statement, *values in statements:
                db.execute(statement, values)

    def without_tasks(self) -> None:
        """Removes the tasks of the records of version 1 from their rows."""
        self.edit("graph.sqlite", ("UPDATE experiment SET task_id = '' WHERE version = 1",))
        self.edit("task.sqlite", ("DELETE FROM task WHERE source = 'legacy'",))

    def old_layout(self) -> None:
        self.edit(
            "graph.sqlite",
            ("DROP INDEX idx_task_id",),
            ("ALTER TABLE experiment DROP COLUMN task_id",),
        )
        for path in (self.dir / "db").glob("task.sqlite*"):
            path.unlink()

    def corrupt(self) -> dict:
        """Adds corrupt rows and files. Returns their ids by kind and by fault."""
        return {
            "experiment": self.corrupt_records(),
            "control": self.corrupt_controls(),
            "profile": self.corrupt_profile(),
            "task": self.corrupt_task(),
            "artifact": self.corrupt_artifact(),
        }

    def corrupt_records(self) -> dict:
        """A row that was changed after it was signed, and a row with a correct id and no valid signature."""
        rest = ", ".join(
            field for field in ExperimentRecord.__dataclass_fields__ if field not in ("id", "val_bpb", "signature")
        )
        copy = f"INSERT INTO experiment (id, val_bpb, signature, {rest}) SELECT ?, ?, ?, {rest} FROM experiment WHERE id = ?"
        altered, unsigned = "a1" * 32, "00" * 64
        forged = replace(self.last, val_bpb=0.2)
        forged.id = forged.compute_cid()
        self.edit(
            "graph.sqlite",
            (copy, altered, 0.1, self.last.signature, self.last.id),
            (copy, forged.id, forged.val_bpb, unsigned, self.last.id),
        )
        return {"altered": altered, "forged": forged.id}

    def corrupt_controls(self) -> dict:
        impostor = SignedControlEvent("challenge", {"challenger_id": self.other}, self.me, EPOCH)
        impostor.sign(self.key)
        insert = "INSERT INTO control_event VALUES (?, 'challenge', ?, ?, ?)"
        self.edit(
            "control.sqlite",
            (insert, "not-json", self.me, EPOCH, "{"),
            (insert, impostor.id, self.me, EPOCH, json.dumps(impostor.to_dict())),
        )
        return {"not json": "not-json", "actor is not signer": impostor.id}

    def corrupt_profile(self) -> dict:
        stranger = node_id(key("stranger"))
        insert = "INSERT INTO node_profile VALUES (?, ?, 'Eve', '', '', '', '', ?, ?, 1)"
        self.edit("profile.sqlite", (insert, stranger, "e5" * 32, EPOCH, "00" * 64))
        return {"forged": stranger}

    def corrupt_task(self) -> dict:
        renamed = """
            INSERT INTO task (task_id, name, source, manifest_json)
            SELECT ?, 'renamed', source, replace(manifest_json, '"name":"', '"name":"re')
            FROM task WHERE source = 'manifest' LIMIT 1
        """
        self.edit("task.sqlite", (renamed, "f7" * 32))
        return {"renamed": "f7" * 32}

    def corrupt_artifact(self) -> dict:
        damaged = self.node.store._path("ab" * 32)
        damaged.parent.mkdir(parents=True)
        damaged.write_text("not what the name says")
        return {"damaged": damaged.name}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("dir", type=Path)
    options.add_argument("--records", type=int, default=12)
    options.add_argument("--name", default="seed")
    options.add_argument("--peer", action="append", default=[])
    options.add_argument("--old", action="store_true")
    options.add_argument("--corrupt", action="store_true")
    wish = options.parse_args()
    seed = Seed(wish.dir, wish.name, wish.peer)
    told: dict = {"node_id": seed.me, "colleague": seed.other, "peers": wish.peer}
    if not wish.old:
        told["task"] = seed.manifest(f"seeded by {wish.name}")
        told["claims"] = seed.claims(seed.tree(told["task"], wish.records))
    told["legacy_task"] = seed.legacy(0 if wish.old else wish.records)[0].id
    told["profiles"] = seed.profiles()
    told["claimed_verified"] = sorted(seed.node.graph.verified_ids())
    told["records"], told["controls"] = seed.records, seed.controls
    told["artifacts"] = sorted(set(seed.artifacts))
    asyncio.run(seed.node.stop())
    if wish.corrupt:
        told["corrupt"] = seed.corrupt()
    seed.without_tasks()
    if wish.old:
        seed.old_layout()
        told.get("corrupt", {}).pop("task", None)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
