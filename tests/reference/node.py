"""Runs a node of the reference for a test. The test drives it by lines of JSON.

    python node.py DIR PORT [PEER...]

The node listens on 127.0.0.1:PORT. It dials each PEER (host:port) and the peers that DIR remembers,
but never the public peer. It answers each line on standard input, such as {"do": "frontier", "task": ID},
with a line on standard output: {"answer": ...} or {"error": text}. Its log goes to standard error.
"""

import asyncio
import json
import logging
import os
import resource
import sys

import spore.node
from objects import key, node_id, record
from spore.control import SignedControlEvent
from spore.explorer.server import create_app
from spore.node import NodeConfig, SporeNode
from spore.profile import NodeProfile
from spore.record import ExperimentRecord
from spore.task import TaskManifest

# A node without peers would dial these.
spore.node.BOOTSTRAP_PEER = []

LONGEST_LINE = 32 << 20


def brief(one: ExperimentRecord) -> dict:
    return {
        "id": one.id,
        "task": one.task_id,
        "parent": one.parent,
        "status": one.status.value,
        "val_bpb": one.val_bpb,
        "code_cid": one.code_cid,
        "version": one.version,
    }


class Driver:
    """One method for each command of a test. The `do` of a line names the method."""

    def __init__(self, data_dir: str, port: int, peers: list[str]):
        self.node = SporeNode(NodeConfig(host="127.0.0.1", port=port, peer=peers, data_dir=data_dir))
        # The objects that each peer has sent, as (address of the peer, type, id), in order.
        self.heard: list[tuple[str, str, str]] = []
        self.read = self.node.gossip._handle_message
        self.node.gossip._handle_message = self.listen
        self.explorer = create_app(self.node)
        self.starting = asyncio.create_task(self.node.start())

    async def listen(self, addr: str, message: dict) -> None:
        payload = message.get("payload", {})
        if "signature" in payload:
            object_id = payload["task_id"] if message["type"] == "task" else payload["id"]
            self.heard.append((addr, message["type"], object_id))
        await self.read(addr, message)

    async def received(self) -> list[tuple[str, str, str]]:
        """All signed objects that the node received, in order. An object that came twice is listed twice."""
        return self.heard

    async def status(self) -> dict:
        if self.starting.done():
            self.starting.result()
        return {
            "node_id": self.node.node_id,
            "listening": self.node.gossip._server is not None,
            # The node has dialled its peers and waited for their histories.
            "started": self.starting.done(),
            "peers": list(self.node.gossip.peers),
        }

    async def failures(self) -> list[str]:
        """Connections that ended with an error, because the node could not read a message."""
        ended = [task for task in self.node.gossip._tasks if task.done() and not task.cancelled()]
        return [repr(task.exception()) for task in ended if task.exception() is not None]

    async def connect(self, peer: str) -> bool:
        """Dials a peer and asks it for everything, as a starting node does."""
        host, _, port = peer.partition(":")
        gossip = self.node.gossip
        if not await gossip.connect_to_peer(host, int(port)):
            return False
        self.node._save_peer(peer)
        await gossip.request_pex(peer)
        answers = [
            await gossip.request_sync(peer),
            await gossip.request_control_sync(peer),
            await gossip.request_task_sync(peer),
        ]
        return all(answer is not None for answer in answers)

    async def dial(self, peer: str) -> bool:
        """As `connect`, in the background."""
        self.dialling = asyncio.create_task(self.connect(peer))
        return True

    async def publish(self, code: str, **facts) -> dict:
        one = record(self.node.node_id, code=code, **facts)
        await self.node.publish_experiment(one, code)
        return brief(one)

    async def publish_old(self, code: str, **facts) -> dict:
        """Publishes a record of version 1, which signs no task, as if the node had just received it."""
        one = record(self.node.node_id, code=code, **facts, version=1)
        one.sign(self.node.signing_key)
        self.node.store.put(code.encode())
        self.node._on_remote_experiment(one)
        await self.node.gossip.broadcast_experiment(one)
        return brief(self.node.graph.get(one.id))

    async def create_task(self, **facts) -> str:
        manifest = self.node.create_task(**facts)
        await self.node.publish_task(manifest)
        return manifest.task_id

    async def control(self, type: str, payload: dict, signer: str | None = None) -> str:
        """Makes a control event, applies it as the node's own code does, and broadcasts it.

        `signer` names the key of another node: this node then passes on an event that the other one signed.
        """
        if signer is None:
            event = self.node.make_control_event(type, payload)
        else:
            signing_key = key(signer)
            made = SignedControlEvent(type=type, payload=payload, node_id=node_id(signing_key))
            made.sign(signing_key)
            self.node.control.store(made)
            event = made.to_dict()
        getattr(self.node.challenger, f"on_{type}")(dict(payload))
        await getattr(self.node.gossip, f"broadcast_{type}")(event)
        return event["id"]

    async def profile(self, **fields) -> str:
        profile = self.node.update_local_profile(**fields)
        await self.node.publish_profile(profile)
        return profile.id

    async def explore(self, path: str) -> dict:
        """The status and the parsed body of the explorer's answer to a GET, without a connection between."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [],
            "client": None,
            "server": None,
        }
        sent: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.explorer(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent)
        return {"status": sent[0]["status"], "body": json.loads(body)}

    async def records(self) -> list[dict]:
        return [brief(one) for one in self.node.graph.all_records()]

    async def count(self) -> int:
        """The number of records that the node has. All of them are on the disk."""
        return self.node.graph.count()

    async def peak_memory(self) -> int:
        """The most bytes of memory that this process ever had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    async def tasks(self) -> dict:
        return {task["task_id"]: {"name": task["name"], "source": task["source"]} for task in self.node.all_tasks()}

    async def frontier(self, task: str) -> list[str]:
        return [one.id for one in self.node.graph.frontier_by_task(task)]

    async def verified(self) -> list[str]:
        return sorted(self.node.graph.verified_ids())

    async def controls(self) -> list[str]:
        return [event.id for event in self.node.control.list_since(-1)]

    async def profiles(self) -> dict:
        return {profile.node_id: profile.display_name for profile in self.node.profile.all()}

    async def artifact(self, cid: str) -> str | None:
        """An artifact that the node has."""
        found = self.node.store.get(cid)
        return None if found is None else found.decode()

    async def fetch(self, cid: str) -> str | None:
        """An artifact that the node has, or that a peer sends it now.

        The node's own code asks each peer once and then waits a minute for other peers.
        """
        for peer in list(self.node.gossip.peers):
            if self.node.store.get(cid) is not None:
                break
            found = await self.node.gossip.request_code(peer, cid, timeout=2)
            if found is not None:
                self.node.store.put(found)
        return await self.artifact(cid)

    async def put(self, code: str) -> str:
        return self.node.store.put(code.encode())

    async def valid(self, kind: str, payload: dict) -> bool:
        """Whether the node can read the object of a frame, with a correct id and a valid signature."""
        if kind == "experiment":
            one = ExperimentRecord.from_json(payload)
            return one.verify_cid() and one.verify_signature()
        parse = {"task": TaskManifest, "profile": NodeProfile}.get(kind, SignedControlEvent).from_json
        one = parse(payload)
        return one.verify_id() and one.verify_signature()

    async def key_of(self, signer: str) -> str:
        """The id of the node whose key this name stands for."""
        return node_id(key(signer))

    async def stop(self) -> bool:
        self.starting.cancel()
        # From Python 3.12 on, this waits until the peers hang up, which they may not do.
        await asyncio.wait([asyncio.create_task(self.node.stop())], timeout=2)
        return True


async def serve(driver: Driver, answers) -> None:
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer = {"answer": await getattr(driver, name)(**command)}
        except Exception as error:
            logging.exception("%s failed", name)
            answer = {"error": repr(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if name == "stop":
            return


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # Only answers may be written to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    data_dir, port, *peers = sys.argv[1:]
    await serve(Driver(data_dir, int(port), peers), answers)


if __name__ == "__main__":
    asyncio.run(main())
    # The node's threads and tasks are not needed any more.
    os._exit(0)
