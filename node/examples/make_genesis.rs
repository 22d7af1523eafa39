//! Makes the files of the built-in task: `cargo run --release --example make_genesis -- OUT_DIR SCRIPT [SECONDS]`.
//!
//! Generates a key, signs a manifest, trains the base script on the CPU, signs the root record, writes `manifest.json`,
//! `root.json`, `train.star` and `evaluator.json`, and discards the key.

#[cfg(feature = "trainer")]
fn main() -> anyhow::Result<std::process::ExitCode> {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return Ok(spore_trainer::worker::main(std::io::stdin(), std::io::stdout()));
    }
    made::make()?;
    Ok(std::process::ExitCode::SUCCESS)
}

#[cfg(not(feature = "trainer"))]
fn main() {
    eprintln!("this program needs the trainer: build it with the feature `trainer`");
}

#[cfg(feature = "trainer")]
mod made {
    use std::{fs, path::Path, sync::atomic::AtomicBool, time::SystemTime};

    use anyhow::Context as _;
    use spore_lab::{
        engine::{memory_limit, task_seed},
        research::{
            Proposal,
            record::{Measured, Runner, record},
        },
    };
    use spore_protocol::{
        ArtifactType, Cid, Goal, Identity, Record, Signed, TaskManifest, Verified, manifest::MANIFEST_VERSION,
    };
    use spore_trainer::{
        corpus,
        device::{
            DeviceChoice,
            known::{KeptDevices, ProbeJob},
        },
        evaluate::EvalSpec,
        worker::{DatasetSource, Script, Supervisor, TrainJob, WorkerEvent, threads},
    };

    pub fn make() -> anyhow::Result<()> {
        let mut arguments = std::env::args().skip(1);
        let usage = "usage: make_genesis OUT_DIR SCRIPT [SECONDS]";
        let (out, script) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
        let budget: u64 = arguments.next().map_or(Ok(300), |text| text.parse())?;
        let script = fs::read_to_string(&script).with_context(|| script.clone())?;
        let seed = spore_base::random::secret::<32>()?;
        let identity = Identity::from_seed(&seed);

        let eval = EvalSpec::for_budget(budget);
        let manifest = identity.sign(&manifest(&identity, &script, &eval, budget)?)?.into_signed();
        let job = TrainJob {
            task: manifest.id().into(),
            script: Script::Starlark(script.clone()),
            dataset: DatasetSource::Builtin,
            device: DeviceChoice::Flex,
            seed: task_seed(&manifest.id().into()),
            time_budget: budget,
            steps: None,
            eval: eval.clone(),
            threads: threads(100),
            memory_limit: memory_limit(100),
        };
        let supervisor = Supervisor::new(std::env::current_exe()?, std::env::temp_dir());
        // The root record's class is the one that research on this machine has.
        let never = AtomicBool::new(false);
        let probe = ProbeJob { device: job.device, threads: job.threads, kept: KeptDevices::default() };
        let device = supervisor.probe(probe, &never)?.profile;
        let outcome = supervisor.run(&job, &AtomicBool::new(false), report)?;

        let proposal = Proposal {
            script: script.clone(),
            description: "base script".into(),
            hypothesis: "Everything else is compared with this.".into(),
            agent_model: "baseline".into(),
        };
        let runner = Runner { node_id: identity.node_id(), gpu_model: device.gpu_model, backend: "flex" };
        let measured = Measured {
            metric: outcome.val_bpb,
            peak_memory: outcome.peak_memory_mb,
            steps: outcome.num_steps,
            params: outcome.num_params,
        };
        let root = record(&manifest, None, true, &proposal, &runner, Ok(measured), now()?);
        let root = identity.sign(&root)?;

        write(Path::new(&out), &manifest, &root, &script, &eval)?;
        println!(
            "{:.4} bits a byte, description of {} bytes, hiding the future costs {:+.6} (+- {:.6})",
            outcome.bits_per_byte, outcome.description_bytes, outcome.hidden_cost, outcome.hidden_error
        );
        println!(
            "task {} with root {}: {:.4} after {} steps",
            manifest.id(),
            root.id(),
            outcome.val_bpb,
            outcome.num_steps
        );
        Ok(())
    }

    fn write(
        out: &Path,
        manifest: &Signed<TaskManifest>,
        root: &Verified<Record>,
        script: &str,
        eval: &EvalSpec,
    ) -> anyhow::Result<()> {
        fs::create_dir_all(out)?;
        fs::write(out.join("manifest.json"), manifest.to_json() + "\n")?;
        fs::write(out.join("root.json"), root.to_json() + "\n")?;
        fs::write(out.join("train.star"), script)?;
        fs::write(out.join("evaluator.json"), eval.to_bytes())?;
        Ok(())
    }

    fn manifest(identity: &Identity, script: &str, eval: &EvalSpec, budget: u64) -> anyhow::Result<TaskManifest> {
        Ok(TaskManifest {
            name: "tiny-gpt".into(),
            description: format!(
                "Lower the bits per byte that a small byte-level language model needs on held-out text, with {budget} s of training."
            ),
            task_type: "ml_train".into(),
            artifact_type: ArtifactType::Starlark,
            metric: "val_bpb".into(),
            goal: Goal::Minimize,
            base_code_cid: Some(Cid::of(script.as_bytes())),
            prepare_cid: eval.cid().to_string(),
            dataset_cid: corpus::BUILTIN_CID.to_string(),
            time_budget: budget,
            created_by: identity.node_id(),
            timestamp: now()?,
            version: MANIFEST_VERSION,
        })
    }

    fn report(event: &WorkerEvent) {
        if let WorkerEvent::Progress { step, steps, loss, elapsed_seconds } = event
            && step % 100 == 0
        {
            eprintln!("step {step} of {steps}: loss {loss:.4}, {elapsed_seconds:.0} s");
        }
    }

    fn now() -> anyhow::Result<u64> {
        Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
    }
}
