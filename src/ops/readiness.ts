// Whether this instance wants traffic: what /readyz and grpc.health.v1 answer from.

export type Readiness = {
  /** Why not; empty when it is ready. Short texts for operators, without secrets. */
  reasons(): readonly string[];
  /** Calls the listener with each change; returns how to stop that. */
  onChange(listener: () => void): () => void;
};

export type ReadinessSwitch = Readiness & {
  /** The instance is not ready until each reason given here has been cleared. */
  block(reason: string): void;
  clear(reason: string): void;
};

/** Ready, until something blocks it. */
export function createReadiness(...initialReasons: string[]): ReadinessSwitch {
  const reasons = new Set(initialReasons);
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of [...listeners]) listener();
  };
  return {
    reasons: () => [...reasons],
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    block(reason) {
      if (reasons.has(reason)) return;
      reasons.add(reason);
      changed();
    },
    clear(reason) {
      if (reasons.delete(reason)) changed();
    },
  };
}
