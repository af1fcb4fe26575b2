/** The parts of CACHE_MEMORY. */
import type { GatewayModel } from '../../model/model.ts';

export interface CacheMemory {
  /** The shared memory for stored answers, in nginx's notation; undefined: they are stored in Redis. */
  readonly stored?: string;
  /** Bytes for answers that are arriving, over all workers. */
  readonly arriving: number;
}

/** Divides the memory of the cache; undefined without a cache. */
export function cacheMemory({ cache }: GatewayModel): CacheMemory | undefined {
  if (cache === undefined) return undefined;
  if (cache.redis !== undefined) return { arriving: cache.memory };
  const arriving = Math.floor(cache.memory / 4);
  return { stored: `${Math.floor((cache.memory - arriving) / 1024)}k`, arriving };
}
