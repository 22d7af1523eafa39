//! `embedding`: bytes, or whole numbers that were computed from them, to vectors.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use serde::Serialize;

use super::flow::{Flow, Leak, Traced};
use super::shard::BatchAxes;
use super::tensors::{DeviceValue, LAST, matrix, one_hot, rows};
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Parameter, Symbol,
    Trace, shape::Rule,
};
use crate::value::{ValueId, show};

/// Rows of `table` (`[rows, width]`) picked by the tokens: `[batch, context, width]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    pub table: ValueId,
    pub tokens: ValueId,
}

impl Operation for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.table, &mut self.tokens]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        match inputs {
            [table, tokens] if table.is_free() => Ok(tokens.looked_up(at)),
            _ => Err(Leak::new(at, "looks bytes up in a table that depends on bytes: the table must be a parameter")),
        }
    }

    /// The table is whole for each shard.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.of(self.table).is_none() && batch.follow(self.tokens, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let table = matrix(inputs.one()?);
        Ok(table.select(0, run.tokens.clone()).reshape(run.dims()))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let dims = run.dims_of(self.table)?;
        let picked = one_hot(run.tokens.clone(), dims[LAST - 1]);
        run.add(self.table, picked.transpose().matmul(rows(grad)).reshape(dims));
        Ok(())
    }
}

/// Rows of `table` (`[rows, width]`) picked by the whole part of `index`, `[..]`: `[.., width]`. An index
/// below 0 picks the first row, one beyond the table the last, and what is no number the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lookup {
    pub table: ValueId,
    pub index: ValueId,
}

/// Most rows of a table for computed indices: 32-bit floats count exactly up to here.
const MOST_ROWS: usize = 1 << 24;

/// The rows that the indices pick, in order.
fn picked(index: DeviceValue, rows: usize) -> Tensor<1, Int> {
    let count = index.dims().iter().product::<usize>();
    let index: Tensor<1> = index.reshape([count]);
    let unknown = index.clone().is_nan();
    index.mask_fill(unknown, 0.0).floor().clamp(0.0, rows.saturating_sub(1) as f64).int()
}

impl Operation for Lookup {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.table, &mut self.index]
    }

    fn saved(&self, _at: Located<'_>, flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        if flows(self.table) { vec![self.index] } else { vec![] }
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        match inputs {
            [table, index] if table.is_free() => Ok(index.looked_up(at)),
            _ => Err(Leak::new(at, "looks rows up in a table that depends on bytes: the table must be a parameter")),
        }
    }

    /// The table is whole for each shard.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.of(self.table).is_none() && batch.follow(self.index, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (table, index) = inputs.two()?;
        let table = matrix(table);
        let [rows, _] = table.dims();
        Ok(table.select(0, picked(index, rows)).reshape(run.dims()))
    }

    /// Adds each row's gradient to the row that was picked, in the order of the indices. No gradient flows to
    /// the index.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        if run.flows(self.table) {
            let dims = run.dims_of(self.table)?;
            let [.., height, width] = dims;
            let sums = Tensor::<2>::zeros([height, width], &grad.device());
            let index = picked(run.value(self.index)?, height);
            let sums = sums.select_assign(0, index, rows(grad), IndexingUpdateOp::Add);
            run.add(self.table, sums.reshape(dims));
        }
        Ok(())
    }
}

/// The width of a table with a row for each byte.
fn width(table: &[usize]) -> Rule<usize> {
    match table {
        [256, width] => Ok(*width),
        _ => Err(Misuse::new(format!(
            "embedding: the table is {}; tokens are bytes, so it must be [256, width]",
            show(table)
        ))),
    }
}

/// The width of a table for computed indices.
fn computed_width(table: &[usize]) -> Rule<usize> {
    match table {
        [rows, width] if *rows <= MOST_ROWS => Ok(*width),
        [_, _] => Err(Misuse::new(format!(
            "embedding: the table {} has more than {MOST_ROWS} rows, beyond which 32-bit indices are not exact",
            show(table)
        ))),
        _ => Err(Misuse::new(format!("embedding: the table is {}; it must be [rows, width]", show(table)))),
    }
}

fn embedding(trace: &dyn Trace, table: &Symbol, tokens: &Symbol) -> Rule<Symbol> {
    table.float("embedding")?;
    let mut shape = tokens.shape.clone();
    if !tokens.is_tokens {
        shape.push(computed_width(&table.shape)?);
        return trace.make(Lookup { table: table.id, index: tokens.id }, shape);
    }
    shape.push(width(&table.shape)?);
    trace.make(Embedding { table: table.id, tokens: tokens.id }, shape)
}

const PARAMETERS: &[Parameter] =
    &[Parameter::new("table", ArgumentKind::Tensor), Parameter::new("tokens", ArgumentKind::Tensor)];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("embedding", PARAMETERS, |trace, arguments| {
    let (table, tokens): (Symbol, Symbol) = arguments.read()?;
    Ok(embedding(trace, &table, &tokens)?.into())
})
.documented(
    "the rows of `table`, `[256, c]`, that the bytes `tokens`, `[batch, context]`, pick: `[batch, context, c]`. The only function that takes tokens. In place of tokens, any tensor `[..]` picks rows of a table `[rows, c]` by its whole part, kept between 0 and `rows - 1`: `[.., c]`. No gradient flows to the index",
    "embedding(param(\"t\", [256, 8]), tokens)",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::Case;
    use super::super::{Binary, BinaryFunction, Concat, Op, Range, Reshape, Scalar};
    use super::*;

    #[test]
    fn table_has_a_row_for_each_byte() {
        assert_eq!(width(&[256, 32]).unwrap(), 32);
        assert!(complaint(width(&[255, 32])).contains("must be [256, width]"));
    }

    #[test]
    fn tokens_pick_rows_and_ranges_count() {
        let table: (&[usize], &[f32]) = (&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        Case::new(&[table], |b, ids| {
            let tokens = b.node(Op::Tokens, &[1, 3]);
            b.node(Embedding { table: ids[0], tokens }, &[1, 3, 2])
        })
        .gives(&[5.0, 6.0, 1.0, 2.0, 3.0, 4.0])
        .gradient_checks();
        Case::new(&[(&[1], &[10.0])], |b, ids| {
            let range = b.node(Range(4), &[4]);
            b.node(Binary(BinaryFunction::Mul, ids[0], range), &[4])
        })
        .gives(&[0.0, 10.0, 20.0, 30.0])
        .gradient_checks();
    }

    #[test]
    fn computed_indices_pick_rows_within_the_table() {
        let table: (&[usize], &[f32]) = (&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let case = Case::new(&[table], |b, ids| {
            let place = b.node(Range(5), &[5]);
            // -1.4, -0.4, 0.6, 1.6, 2.6: rows 0 0 0 1 2.
            let by = b.node(Scalar(1.4), &[]);
            let index = b.node(Binary(BinaryFunction::Sub, place, by), &[5]);
            b.node(Lookup { table: ids[0], index }, &[5, 2])
        });
        case.gives(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).gradient_checks();
        let beyond = Case::new(&[table], |b, ids| {
            let huge = b.node(Scalar(1e30), &[]);
            let far = b.node(Binary(BinaryFunction::Mul, huge, huge), &[]);
            let unknown = b.node(Binary(BinaryFunction::Sub, far, far), &[]);
            let both = [far, unknown].map(|id| b.node(Reshape(id), &[1]));
            let index = b.node(Concat(both.to_vec(), 0), &[2]);
            b.node(Lookup { table: ids[0], index }, &[2, 2])
        });
        beyond.gives(&[5.0, 6.0, 1.0, 2.0]);
        assert!(complaint(computed_width(&[1 << 25, 2])).contains("more than 16777216 rows"));
    }
}
