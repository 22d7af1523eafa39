//! The live line of an experiment: step, loss, speed, time left, and where the loss is heading.
//!
//! On a terminal one line that is written again, else a line from time to time. All of it goes to standard error.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

use spore_base::progress::RunProgress;
use tokio::sync::watch;

use crate::cli::{output, text};

/// Time between two lines, without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Points of the curve that are kept: four a second for ten minutes. With more, every second point is dropped.
const POINTS: usize = 2400;

/// Shows the progress until the experiment's engine goes away.
pub async fn follow(mut progress: watch::Receiver<Option<RunProgress>>, bytes_per_step: usize) {
    let (terminal, mut curve, mut last) = (stderr().is_terminal(), Curve::default(), None::<Instant>);
    while progress.changed().await.is_ok() {
        let Some(now) = progress.borrow_and_update().clone() else {
            curve = Curve::default();
            continue;
        };
        curve.add(&now);
        let line = shown(&now, &curve, bytes_per_step);
        if terminal {
            let mut err = stderr().lock();
            let _ = write!(err, "\r\x1b[2K{line}").and_then(|()| err.flush());
        } else if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            last = Some(Instant::now());
            output::message(&line);
        }
    }
}

/// Clears the line of a terminal.
pub fn clear() {
    if stderr().is_terminal() {
        let mut err = stderr().lock();
        let _ = write!(err, "\r\x1b[2K").and_then(|()| err.flush());
    }
}

fn shown(now: &RunProgress, curve: &Curve, bytes_per_step: usize) -> String {
    let seconds = now.elapsed.as_secs_f64();
    if now.step == 0 || now.steps == 0 || seconds <= 0.0 {
        return "measuring the speed".into();
    }
    let rate = now.step as f64 / seconds;
    let left = (now.steps.saturating_sub(now.step) as f64 / rate).ceil() as u64;
    let bits = |nats: f64| format!("{:.3}", nats / std::f64::consts::LN_2);
    let loss = now.loss.map_or_else(|| "-".into(), bits);
    let end = curve.at(now.steps).map_or_else(|| "-".into(), bits);
    format!(
        "step {}/{}  loss {loss} bits/byte, about {end} at the end  {:.0} bytes/s  {} left",
        now.step,
        now.steps,
        rate * bytes_per_step as f64,
        text::duration(left)
    )
}

/// The loss over the steps so far.
#[derive(Debug, Default)]
struct Curve(Vec<(u64, f64)>);

impl Curve {
    fn add(&mut self, now: &RunProgress) {
        if let Some(loss) = now.loss.filter(|_| now.step > 0) {
            self.0.push((now.step, loss));
        }
        if self.0.len() > POINTS {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The loss in nats where the second half of the curve is heading: a straight line over the logarithm of the steps,
    /// fitted by least squares. None for fewer than four points.
    fn at(&self, step: u64) -> Option<f64> {
        let half = self.0.get(self.0.len() / 2..)?;
        if half.len() < 2 || self.0.len() < 4 {
            return None;
        }
        let points: Vec<(f64, f64)> = half.iter().map(|(step, loss)| ((*step as f64).ln(), *loss)).collect();
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        Some((mean_y + slope * ((step as f64).ln() - mean_x)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projection_follows_a_loss_that_falls_with_the_logarithm_of_the_steps() {
        let curve = Curve((1..50).map(|step| (step, 5.0 - 0.5 * (step as f64).ln())).collect());
        let end = curve.at(1000).unwrap();
        assert!((end - (5.0 - 0.5 * 1000_f64.ln())).abs() < 1e-9, "{end}");
        assert_eq!(Curve(vec![(1, 5.0), (2, 4.0)]).at(10), None);
    }
}
