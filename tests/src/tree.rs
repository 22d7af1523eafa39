//! A task with a large tree of records, for measurements: one publisher, several children for each parent, about 1.5 KB
//! for each record. The same number gives the same objects.

use std::path::Path;

use spore_protocol::{
    Cid, Identity, Record, RecordId, SignedObject, Status, TaskId, Verified, VerifiedObject, fixtures,
};
use spore_storage::Store;

use crate::seed::{EPOCH, manifest, record};

/// Children of one record.
const CHILDREN: usize = 8;
/// Objects in one insertion into the store.
const BATCH: usize = 1024;
/// The diff of each record. It makes the canonical text about 1.5 KB long.
const DIFF: &str = "\
--- a/train.star
+++ b/train.star
@@ -3,9 +3,10 @@
-width = tune(\"width\", 64, [48, 64, 96, 128])
-layers = tune(\"layers\", 2, [1, 2, 3, 4])
+width = tune(\"width\", 96, [48, 64, 96, 128])
+layers = tune(\"layers\", 2, [1, 2, 3, 4])
+heads = tune(\"heads\", 4, [2, 4, 8])

@@ -21,7 +22,7 @@
 def rate(step, steps):
     warmup = min(1.0, step / 20.0)
-    return tune(\"rate\", 0.005, [0.003, 0.005, 0.008]) * warmup * (1.0 - step / steps)
+    return tune(\"rate\", 0.006, [0.003, 0.006, 0.009]) * warmup * (1.0 - step / steps)

@@ -40,6 +41,7 @@
     for layer in range(layers):
         x = x + attention(norm(x), heads)
         x = x + feed_forward(norm(x), 4 * width)
+    x = norm(x)
";

/// Makes the records of the tree one after the other, each after its parent.
pub struct RecordTree {
    publisher: Identity,
    pub task: TaskId,
    script: Vec<u8>,
    /// Ids and depths of the records made so far.
    parents: Vec<(RecordId, u64)>,
    made: usize,
}

impl RecordTree {
    /// A tree without records. The number determines the publisher's key and the task.
    pub fn new(number: u8) -> Self {
        let publisher = fixtures::identity(number);
        let script = include_bytes!("../scripts/tiny.star").to_vec();
        let mut tree = Self { publisher, task: TaskId([0; 32]), script, parents: Vec::new(), made: 0 };
        tree.task = TaskId::from(tree.manifest(number).id());
        tree
    }

    fn manifest(&self, number: u8) -> VerifiedObject {
        let manifest = manifest(number, &self.publisher, Cid::of(&self.script));
        fixtures::sign(&self.publisher, &manifest).into()
    }

    /// Makes the next record.
    pub fn grow(&mut self) -> Verified<Record> {
        let index = self.made;
        let parent = index.checked_sub(1).map(|before| self.parents[before / CHILDREN]);
        let mut next = record(&self.publisher, Some(self.task), index, parent, &self.script);
        next.timestamp = EPOCH + 1 + index as u64;
        next.val_bpb = 3.0 - 0.1 * next.depth as f64 + (index % 997) as f64 / 1e4;
        next.status = if index.is_multiple_of(3) { Status::Keep } else { Status::Discard };
        next.diff = DIFF.into();
        next.description = format!("learning rate 0.005 becomes 0.006 in variant {index}");
        next.hypothesis = "the loss still falls at the end of the budget".into();
        let signed = fixtures::sign(&self.publisher, &next);
        self.parents.push((RecordId::from(signed.id()), next.depth));
        self.made += 1;
        signed
    }

    /// Makes `count` records and writes them, with the task and the script, into a data directory that no node uses.
    /// Returns the mean length of a record's canonical text in bytes.
    pub fn plant(number: u8, count: usize, dir: &Path) -> (Self, usize) {
        let (mut tree, store) = (Self::new(number), Store::open(dir).expect("a store"));
        store.put_artifact(&tree.script).expect("room for a script");
        let mut batch = vec![tree.manifest(number)];
        let mut bytes = 0;
        while tree.made < count {
            let next = tree.grow();
            bytes += next.canonical().len();
            batch.push(next.into());
            if batch.len() == BATCH || tree.made == count {
                let report = store.insert(&batch, EPOCH).expect("room for records");
                assert_eq!(report.changes.len(), batch.len(), "all of them are stored");
                batch.clear();
            }
        }
        (tree, bytes / count)
    }

    /// Ids of the records made so far, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.parents.iter().map(|(id, _)| id.to_string())
    }

    /// A record with a valid signature and a wrong depth, which each of our nodes refuses.
    pub fn misplaced(&self) -> SignedObject {
        let (root, _) = self.parents[0];
        let mut next = record(&self.publisher, Some(self.task), 0, Some((root, 5)), &self.script);
        next.timestamp = EPOCH + 1;
        let signed = fixtures::sign(&self.publisher, &next);
        VerifiedObject::from(signed).into_signed()
    }
}
