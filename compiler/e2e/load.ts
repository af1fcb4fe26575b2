/** A load of users, each of which sends a request, waits, and sends the next one. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lane } from '../model/model.ts';
import type { RunStage, StageLane } from './observation.ts';
import type { Stage } from './scenarios.ts';

export interface Load {
  readonly stages: readonly Stage[];
  /** Seconds that a user waits after an answer. */
  readonly think: number;
  /** Milliseconds of the run for one second of the scenario. */
  readonly second: number;
  /** Sends one request. Must not throw. */
  send(lane: Lane): Promise<void>;
  readonly signal: AbortSignal;
}

/** When each stage of a scenario begins and ends, in milliseconds of the run. */
export function timesOf(stages: readonly Stage[], second: number): readonly RunStage[] {
  let from = 0;
  return stages.map(({ seconds, lane }) => {
    const stage = { lane, from, to: from + seconds * second };
    from = stage.to;
    return stage;
  });
}

/** Runs all stages, and waits for the last answers. */
export async function runLoad({ stages, think, second, send, signal }: Load): Promise<void> {
  // Each waiting user listens to it.
  setMaxListeners(0, signal);
  const begin = performance.now();
  const loops: Promise<void>[] = [];
  let users: { isActive: boolean }[] = [];
  let lane: StageLane | undefined;
  const startUser = (kind: StageLane) => {
    const user = { isActive: true };
    users.push(user);
    // Half of the users begin with the other lane, so that a mixed load is mixed from its beginning.
    let turn = users.length;
    const loop = async () => {
      while (user.isActive && !signal.aborted) {
        await send(kind === 'mixed' ? (turn++ % 2 === 0 ? 'high' : 'low') : kind);
        if (user.isActive) await pause(think * second, signal);
      }
    };
    loops.push(loop());
  };
  const times = timesOf(stages, second);
  for (const [index, stage] of stages.entries()) {
    const { to } = times[index] ?? { to: 0 };
    if (stage.lane !== lane) {
      for (const user of users) user.isActive = false;
      users = [];
      lane = stage.lane;
    }
    for (const user of users.splice(stage.users)) user.isActive = false;
    while (users.length < stage.users && performance.now() - begin < to && !signal.aborted) {
      startUser(stage.lane);
      if (users.length < stage.users) await pause(second / stage.spawnRate, signal);
    }
    await pause(begin + to - performance.now(), signal);
    if (signal.aborted) break;
  }
  for (const user of users) user.isActive = false;
  await Promise.all(loops);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return;
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
