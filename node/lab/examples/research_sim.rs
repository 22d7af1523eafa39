//! Plays research on a made-up landscape: what the keep rule and the built-in proposer find with a number of runs, against
//! a bare comparison of single runs and against random search.
//!
//! Results have the noise that was measured of the base script at 1,000 steps. A repeat costs as much as an experiment.
//! The best of a search is told by its true value, which no search sees. `scripts/bench research` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark")]

#[cfg(feature = "trainer")]
mod sim {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use rand::RngExt as _;
    use spore_base::random::{Rng, seeded};
    use spore_lab::research::{
        choice::{Candidate, choose},
        rule::{Evidence, Next, Side, is_among_best, next},
        tuner::{Trial, propose, settings_of},
    };
    use spore_protocol::{
        Cid, Goal, RecordId,
        noise::{Noise, Runs},
    };
    use spore_trainer::lang::{Tunable, TuneKind, TuneValue};

    const GOAL: Goal = Goal::Minimize;
    const TOLERANCE: f64 = 0.002;
    /// Deviation of the base script's results by the seed, and the share of its variance that all scripts have in common.
    const DEVIATION: f64 = 0.037;
    const SHARED: f64 = 0.5;
    /// Tunables, each on a scale of 0 to 1, with the best value and what a distance of 1 costs.
    const SPACE: [(&str, f64, f64); 6] =
        [("a", 0.8, 0.6), ("b", 0.35, 0.4), ("c", 0.6, 0.3), ("d", 0.2, 0.2), ("e", 0.5, 0.05), ("f", 0.9, 0.02)];
    const RUNS_OF_NOISE: u64 = 5;
    const SEARCHES: u64 = 40;

    #[derive(Clone, Copy, PartialEq)]
    enum Search {
        Random,
        Bare,
        Rule,
    }

    struct World<R> {
        rng: R,
        seeds: HashMap<u64, f64>,
        runs: u64,
    }

    impl<R: Rng> World<R> {
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0
        }

        fn run(&mut self, script: &str, seed: u64) -> f64 {
            self.runs += 1;
            let (own, fresh) = (self.normal(), self.normal());
            let of_seed = *self.seeds.entry(seed).or_insert(fresh);
            truth(script) + DEVIATION * (SHARED.sqrt() * of_seed + (1.0 - SHARED).sqrt() * own)
        }
    }

    struct Record {
        script: String,
        parent: usize,
        metric: f64,
        keep: bool,
        repeats: BTreeMap<u64, f64>,
    }

    fn root() -> String {
        let lines = SPACE.map(|(name, ..)| format!("{name} = tune(\"{name}\", 0.5, min=0.0, max=1.0)\n"));
        lines.concat() + "train()\n"
    }

    fn tunables(script: &str) -> Vec<Tunable> {
        let found = (1_u32..).zip(SPACE).map(|(line, (name, ..))| {
            let head = format!("tune(\"{name}\", ");
            let start = script.find(&head).unwrap() + head.len();
            let end = start + script[start..].find(',').unwrap();
            Tunable {
                name: name.into(),
                value: TuneValue::Float(script[start..end].parse().unwrap()),
                kind: TuneKind::Range { min: 0.0, max: 1.0, log: false, integer: false },
                line,
                span: start..end,
            }
        });
        found.collect()
    }

    /// The mean of a script's results over all seeds.
    fn truth(script: &str) -> f64 {
        let cost = |(tunable, (_, best, cost)): (Tunable, (&str, f64, f64))| {
            cost * (tunable.value.number().unwrap() - best).powi(2)
        };
        1.4 + tunables(script).into_iter().zip(SPACE).map(cost).sum::<f64>()
    }

    fn id(number: usize) -> RecordId {
        RecordId(Cid::of(&number.to_be_bytes()).0)
    }

    fn candidates(records: &[Record]) -> Vec<Candidate> {
        let beaten = |number: usize, record: &Record| {
            records.iter().skip(number + 1).any(|r| r.keep && r.parent == number && r.metric < record.metric)
        };
        let keeps = records.iter().enumerate().filter(|(_, record)| record.keep);
        keeps
            .map(|(number, record)| Candidate {
                id: id(number),
                metric: record.metric,
                sequence: number as u64,
                children: records.iter().skip(1).filter(|r| r.parent == number).count(),
                on_frontier: !beaten(number, record),
                measured: true,
            })
            .collect()
    }

    /// The result of one search: the true value of its best, its keeps, and those of them that are no better than their
    /// parents.
    struct Found {
        best: f64,
        keeps: usize,
        false_keeps: usize,
        experiments: usize,
    }

    fn search(kind: Search, budget: u64, seed: u64) -> Found {
        let mut world = World { rng: seeded(seed), seeds: HashMap::new(), runs: 0 };
        let metric = world.run(&root(), 0);
        let mut records = vec![Record { script: root(), parent: 0, metric, keep: true, repeats: BTreeMap::new() }];
        let mut noise = None;
        if kind == Search::Rule {
            let results: Vec<f64> = (1..RUNS_OF_NOISE).map(|seed| world.run(&root(), seed)).collect();
            records[0].repeats.extend((1..).zip(results.iter().copied()));
            noise = Runs::of(&[&[metric], results.as_slice()].concat()).map(|runs| runs.noise());
        }
        let mut tried = HashSet::from([Cid::of(root().as_bytes())]);
        for round in 0.. {
            if world.runs >= budget {
                break;
            }
            let parent = match kind {
                Search::Random => 0,
                _ => {
                    let pick = choose(GOAL, &candidates(&records), &[], 0, seed * 10_000 + round).unwrap();
                    (0..records.len()).find(|number| id(*number) == pick.parent).unwrap()
                }
            };
            let (script, known) = (records[parent].script.clone(), tunables(&records[parent].script));
            let trial = |r: &Record| {
                settings_of(&script, &known, &r.script).map(|settings| Trial { settings, metric: Some(r.metric) })
            };
            let trials: Vec<_> =
                if kind == Search::Random { Vec::new() } else { records.iter().filter_map(trial).collect() };
            let Some(proposal) = propose(&script, &known, &trials, &tried, GOAL, seed * 10_000 + round) else { break };
            tried.insert(Cid::of(proposal.script.as_bytes()));
            let metric = world.run(&proposal.script, 0);
            let mut child = Record { script: proposal.script, parent, metric, keep: false, repeats: BTreeMap::new() };
            child.keep = match kind {
                Search::Rule => ruled(&mut world, &mut records, &mut child, noise),
                _ => metric < records[parent].metric,
            };
            records.push(child);
        }
        found(&records)
    }

    fn ruled(world: &mut World<impl Rng>, records: &mut [Record], child: &mut Record, noise: Option<Noise>) -> bool {
        let keeps = records.iter().filter(|record| record.keep).map(|record| record.metric);
        let among_best = is_among_best(GOAL, child.metric, keeps);
        let parent = &mut records[child.parent];
        let mut evidence = Evidence { noise, among_best, parent: parent.repeats.clone(), child: BTreeMap::new() };
        evidence.add(Side::Child, 0, child.metric);
        evidence.add(Side::Parent, 0, parent.metric);
        loop {
            let (side, seed) = match next(&evidence, GOAL, TOLERANCE) {
                Next::Ruled(ruling) => return ruling.is_keep(),
                Next::Run(side, seed) => (side, seed),
            };
            let record = if side == Side::Child { &mut *child } else { &mut *parent };
            let result = world.run(&record.script, seed);
            record.repeats.insert(seed, result);
            evidence.add(side, seed, result);
        }
    }

    fn found(records: &[Record]) -> Found {
        let keeps: Vec<&Record> = records.iter().skip(1).filter(|record| record.keep).collect();
        let best = records.iter().filter(|record| record.keep).min_by(|a, b| a.metric.total_cmp(&b.metric)).unwrap();
        let worse = |record: &&&Record| truth(&record.script) >= truth(&records[record.parent].script);
        Found {
            best: truth(&best.script),
            keeps: keeps.len(),
            false_keeps: keeps.iter().filter(worse).count(),
            experiments: records.len() - 1,
        }
    }

    pub fn main() {
        println!("root {:.4}, optimum 1.4000, deviation {DEVIATION}, {SEARCHES} searches each", truth(&root()));
        println!("runs  search  true value of the best (deviation)  experiments  keeps  of them no better");
        for budget in [60, 240, 600] {
            for (name, kind) in [("random", Search::Random), ("bare", Search::Bare), ("rule", Search::Rule)] {
                let all: Vec<Found> = (0..SEARCHES).map(|seed| search(kind, budget, seed)).collect();
                let best: Vec<f64> = all.iter().map(|found| found.best).collect();
                let runs = Runs::of(&best).unwrap();
                let mean = |of: fn(&Found) -> usize| all.iter().map(of).sum::<usize>() as f64 / SEARCHES as f64;
                let (keeps, worse) = (mean(|found| found.keeps), mean(|found| found.false_keeps));
                let experiments = mean(|found| found.experiments);
                println!(
                    "{budget:4}  {name:6}  {:.4} ({:.4})  {experiments:6.1}  {keeps:5.1}  {worse:5.2}",
                    runs.mean, runs.deviation
                );
            }
        }
    }
}

fn main() {
    #[cfg(feature = "trainer")]
    sim::main();
}
