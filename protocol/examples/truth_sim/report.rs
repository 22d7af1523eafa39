//! The table.

use spore_protocol::Verdict;

use crate::{
    ledger::{Nature, View},
    network::Network,
};

pub fn head() {
    println!(
        "| dishonest | view | false published | held ever | rounds held | hold at the end | rounds with a false best \
         | honest published | hold at the end | fell ever | rounds fallen | fallen at the end \
         | most liars with weight | honest with weight |"
    );
    println!("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
}

pub fn rows(network: &Network) {
    for view in &network.views {
        row(network, view);
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of records")]
fn row(network: &Network, view: &View) {
    let of = |nature: Nature| {
        let all = network.ledger.records.iter().zip(&view.judged);
        all.filter(move |(record, _)| record.nature == nature).map(|(_, judged)| *judged)
    };
    let wrong = |nature| {
        let rounds: Vec<_> =
            of(nature).map(|judged| judged.wrong_until(network.round, nature)).filter(|rounds| *rounds > 0).collect();
        let mean = rounds.iter().sum::<u64>() as f64 / rounds.len().max(1) as f64;
        format!("{} | {mean:.1}", rounds.len())
    };
    let with = |nature, is: fn(Verdict) -> bool| of(nature).filter(|judged| is(judged.verdict)).count();
    let known = view.counters.keys().filter(|node| view.weight(node) > 0 && !network.liars.contains(node)).count();
    println!(
        "| {} % | {} | {} | {} | {} | {} % | {} | {} | {} | {} | {} | {} |",
        network.dishonest / 10,
        view.name,
        of(Nature::False).count(),
        wrong(Nature::False),
        with(Nature::False, Verdict::holds),
        100 * view.false_best / network.lying().max(1),
        of(Nature::Honest).count(),
        with(Nature::Honest, Verdict::holds),
        wrong(Nature::Honest),
        of(Nature::Honest).filter(|judged| judged.is_wrong(Nature::Honest)).count(),
        view.most_liars,
        known,
    );
}
