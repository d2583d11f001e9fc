// `npm run soak [histories] [seed]`: runs many more recorded histories of the watch than the test suite does.

import { runHistories } from "../test/watch/run_many.ts";

const histories = Number(process.argv[2] ?? 2000);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 1e9));
const REPORT_EVERY = 100;

process.stdout.write(`${histories} histories from seed ${seed}\n`);
const startedMs = performance.now();
let printed = 0;
const printNew = (failures: readonly string[]) => {
  for (; printed < failures.length; printed++) process.stdout.write(`${failures[printed]}\n`);
};
const { failures, ...counts } = await runHistories(seed, histories, (done) => {
  printNew(done.failures);
  if (done.histories % REPORT_EVERY > 0) return;
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  process.stdout.write(`${done.histories} after ${seconds} s, ${done.failures.length} failed\n`);
});
process.stdout.write(`${JSON.stringify(counts, undefined, 2)}\n`);
printNew(failures);
process.exitCode = failures.length > 0 ? 1 : 0;
