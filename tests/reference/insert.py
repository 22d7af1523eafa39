"""Measures how long the reference takes to insert records: the baseline of `scripts/bench store`.

Reads records in JSON, one a line, from the first file, and inserts them into a new graph in the second
file, as a node of the reference does with gossip: it checks id and signature, then writes the record.
The time for parsing is not counted. Then asks once for the frontier of the task with the most records.
Prints the seconds in JSON.
"""

import json
import sys
import time
from collections import Counter

from spore.graph import ResearchGraph
from spore.record import ExperimentRecord


def main() -> None:
    source, database = sys.argv[1:3]
    with open(source, encoding="utf-8") as lines:
        records = [ExperimentRecord.from_json(json.loads(line)) for line in lines]
    graph = ResearchGraph(database)
    begin = time.perf_counter()
    for record in records:
        if not (record.verify_cid() and record.verify_signature() and graph.insert(record)):
            raise SystemExit(f"the reference refuses record {record.id}")
    inserted = time.perf_counter() - begin
    task, _ = Counter(record.task_id for record in records).most_common(1)[0]
    begin = time.perf_counter()
    graph.frontier_by_task(task)
    asked = time.perf_counter() - begin
    print(json.dumps({"records": len(records), "insert_s": inserted, "frontier_s": asked}))


if __name__ == "__main__":
    main()
