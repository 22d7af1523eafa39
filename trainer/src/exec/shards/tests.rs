//! Shards of a batch against the whole batch.

use rayon::ThreadPoolBuilder;

use super::*;
use crate::data::TrainingBatch;
use crate::exec::Executor;
use crate::lang::{Limits, trace};

const BASE: &str = include_str!("../../../scripts/base.star");

fn graph(script: &str) -> Graph {
    trace(script, &Limits::default()).unwrap().graph
}

fn text() -> Vec<u8> {
    crate::corpus::generate(3, 100_000)
}

/// An executor as on a machine with this many processors.
fn on_threads(threads: usize, graph: &Graph) -> Executor {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| Executor::new(graph.clone(), Device::flex(), 5))
}

/// The bits of the losses of some steps, and of the weights after them.
fn trained(threads: usize, graph: &Graph, steps: usize) -> (Vec<u64>, Vec<Vec<u32>>) {
    let (mut executor, text) = (on_threads(threads, graph), text());
    let losses = (0..steps).map(|_| {
        let batch = executor.draw(&text);
        executor.step(&batch, 1.0).unwrap().read().unwrap().to_bits()
    });
    let losses = losses.collect();
    let bits =
        |value: &DeviceValue| value.clone().try_into_vec_as::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    (losses, executor.params.iter().map(bits).collect())
}

#[test]
fn losses_and_weights_are_equal_to_the_bit_with_one_two_and_three_threads() {
    let dropout = BASE.replace("return linear(hidden", "return linear(dropout(hidden, 0.1)");
    for script in [BASE, &dropout] {
        let graph = graph(script);
        assert!(graph.shard().is_some());
        let one = trained(1, &graph, 6);
        assert_eq!(trained(2, &graph, 6), one);
        assert_eq!(trained(3, &graph, 6), one);
    }
}

/// Compares the loss and the gradients of one batch, after two steps, as one and in `count` shards.
#[track_caller]
fn agree(graph: &Graph, count: usize, name: &str) {
    let (mut executor, text) = (on_threads(2, graph), text());
    let batches: Vec<TrainingBatch> = (0..3).map(|_| executor.draw(&text)).collect();
    // Initial zeros would hide gradients.
    executor.step(&batches[0], 1.0).unwrap();
    executor.step(&batches[1], 1.0).unwrap();
    let dropout = executor.dropout.clone();
    let mut found = |part: Option<PlannedGraph>, count: usize| {
        executor.dropout = dropout.clone();
        (executor.shards.part, executor.shards.count) = (part, count);
        let (loss, grads) = executor.loss_and_gradients(&batches[2]).unwrap();
        let numbers = |grad: Option<DeviceValue>| grad.map(|grad| grad.try_into_vec_as::<f32>().unwrap());
        let grads: Vec<_> = grads.into_iter().map(|grad| numbers(grad).unwrap_or_default()).collect();
        (loss.read().unwrap(), grads, executor.dropout.get_word_pos())
    };
    let part = graph.one_of(count).map(|part| PlannedGraph::new(part, &Device::flex()));
    assert!(part.is_some(), "{name} is not cut");
    let (whole, sharded) = (found(None, 1), found(part, count));
    assert!((whole.0 - sharded.0).abs() < 1e-5, "{name}: loss {} and {}", whole.0, sharded.0);
    assert_eq!(whole.2, sharded.2, "{name}: dropout");
    for (at, (a, b)) in whole.1.iter().zip(&sharded.1).enumerate() {
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let (size, apart) = (norm(&mut a.iter().copied()), norm(&mut a.iter().zip(b).map(|(a, b)| a - b)));
        assert!(a.len() == b.len() && apart <= 1e-4 * size + 1e-6, "{name}: parameter {at}: {apart} of {size}");
    }
}

#[test]
fn shards_add_up_to_the_gradients_of_the_whole_batch_dropout_included() {
    let dropout = BASE.replace("return linear(hidden", "return linear(dropout(hidden, 0.5)");
    for script in [BASE, &dropout] {
        agree(&graph(script), 2, "base");
        agree(&graph(script), 8, "base");
    }
}

#[test]
fn honest_scripts_train_alike_in_shards_and_as_one() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/honest");
    let mut cut = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let graph = graph(&std::fs::read_to_string(&path).unwrap());
        if graph.one_of(2).is_some() {
            cut += 1;
            agree(&graph, 2, &path.display().to_string());
        }
    }
    assert!(cut >= 25, "only {cut} scripts are cut");
}

#[test]
fn number_of_shards_follows_from_the_graph_alone() {
    let shards = |batch: usize| {
        let script = BASE.replace("tune(\"batch\", 8, choices=[4, 8, 16, 32])", &batch.to_string());
        graph(&script).shard().map_or(1, |(_, count)| count)
    };
    assert_eq!([1, 2, 3, 4, 8, 12, 16].map(shards), [1, 2, 1, 4, 8, 4, 8]);
}

#[test]
fn graph_of_a_shard_is_that_of_a_smaller_batch() {
    let base = graph(BASE);
    let (part, count) = base.shard().unwrap();
    let small = graph(&BASE.replace("tune(\"batch\", 8, choices=[4, 8, 16, 32])", &(8 / count).to_string()));
    let shapes = |graph: &Graph| graph.nodes.iter().map(|node| node.shape.clone()).collect::<Vec<_>>();
    assert_eq!(shapes(&part), shapes(&small));
}

#[test]
fn values_that_tell_the_sequences_of_a_batch_apart_keep_it_whole() {
    let positions = BASE.replace(
        "x = rms_norm(embedding(table, tokens))",
        "x = rms_norm(embedding(table, tokens)) + param(\"rows\", [batch, 1, width])",
    );
    assert!(graph(&positions).shard().is_none());
    let counted = BASE.replace(
        "x = rms_norm(embedding(table, tokens))",
        "x = rms_norm(embedding(table, tokens)) + arange(batch).reshape([batch, 1, 1])",
    );
    assert!(graph(&counted).shard().is_none());
}
