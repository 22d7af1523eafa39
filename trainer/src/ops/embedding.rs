//! `embedding`: bytes to vectors.

use serde::Serialize;

use super::flow::{Flow, Leak, Traced};
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

fn embedding(trace: &dyn Trace, table: &Symbol, tokens: &Symbol) -> Rule<Symbol> {
    table.float("embedding")?;
    if !tokens.is_tokens {
        return Err(Misuse::new(
            "embedding: the second argument must be the tokens that train() gives to the model: embedding(table, tokens)",
        ));
    }
    let mut shape = tokens.shape.clone();
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
    "the rows of `table`, `[256, c]`, that the bytes `tokens`, `[batch, context]`, pick: `[batch, context, c]`. The only function that takes tokens",
    "embedding(param(\"t\", [256, 8]), tokens)",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::Case;
    use super::super::{Binary, BinaryFunction, Op, Range};
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
}
