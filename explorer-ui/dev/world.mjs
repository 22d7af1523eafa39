// Starts the program behind the browser tests: a real node with a made-up history (tests/examples/explorer_world.rs).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const TARGET = process.env.CARGO_TARGET_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'spore/target');
const PROGRAM = join(TARGET, 'release/examples/explorer_world');

/** Starts the program; `arguments_` are its own. Its standard error is shown. */
function run(arguments_, stdio) {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing. Build it first: cargo build --release --workspace --bins --examples`);
  return spawn(PROGRAM, arguments_, { stdio });
}

/**
 * Starts the node. Gives the description that the program prints, with `tell(command)`, which resolves to the program's
 * answer, and `end()`.
 */
export async function startWorld() {
  const program = run(['--drive'], ['pipe', 'pipe', 'inherit']);
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('explorer_world ended early');
    return JSON.parse(value);
  };
  return {
    ...(await next()),
    async tell(command) {
      program.stdin.write(`${command}\n`);
      return next();
    },
    async end() {
      program.stdin.end();
      if (program.exitCode === null) await once(program, 'exit');
    },
  };
}

if (process.argv[1] === import.meta.filename) run([], 'inherit');
