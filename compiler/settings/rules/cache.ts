import type { Rule } from './rule.ts';

/** The share of the memory that one answer may use, so that one answer does not evict all others. */
const SHARE_OF_AN_ENTRY = 4;

const cacheIsComplete: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_CACHE || values.CACHE_TTL === 0) return;
  if (values.CACHE_POLICY === 'redis' && !given('CACHE_REDIS_HOST'))
    report('REQUIRED_SETTING', 'CACHE_REDIS_HOST', {
      because: 'CACHE_POLICY=redis needs it',
      example: 'redis.internal',
    });
  if (values.CACHE_MAX_ENTRY_SIZE * SHARE_OF_AN_ENTRY > values.CACHE_MEMORY)
    report('CACHE_ENTRY_SIZE', given('CACHE_MEMORY') ? 'CACHE_MEMORY' : 'CACHE_MAX_ENTRY_SIZE', {
      share: SHARE_OF_AN_ENTRY,
    });
  if (
    values.CACHE_POLICY === 'redis' &&
    values.CACHE_ENCRYPTION_KEY === undefined &&
    !given('CACHE_ENCRYPTION_KEY')
  )
    report('CACHE_NOT_ENCRYPTED', 'CACHE_POLICY', {});
  const { CACHE_ENCRYPTION_KEY: key, CACHE_ENCRYPTION_KEY_PREVIOUS: previous } = values;
  if (key !== undefined && previous !== undefined && key.reveal() === previous.reveal())
    report('CACHE_SAME_KEYS', 'CACHE_ENCRYPTION_KEY_PREVIOUS', {});
};

export const cacheRules: readonly Rule[] = [cacheIsComplete];
